from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from maze_dla import plots
from maze_dla.errors import InputError
from tests.plots.conftest import PATH, maze_words

WORDS, CELLS = maze_words()


def by_hand(result, depth, *position):
    """The probability of each cell that the text names."""
    cells = np.zeros((5, 5))
    for cell in {c for c in CELLS if c is not None}:
        cells[cell] = float(result.probability_of(f"({cell[0]},{cell[1]})", 0, *position)[depth])
    return cells


def shown(ax):
    return ax.images[0].get_array().filled(0)


def test_each_depth_has_the_probabilities_of_its_cells_and_of_the_rest(tokens, maze):
    result = tokens(n_layers=2)
    axes = plots.lens_maze(result, maze)
    assert len(axes) == 5
    largest = max(by_hand(result, i).max() for i in range(5))
    assert {ax.images[0].get_clim() for ax in axes} == {(0, largest)}
    for i, ax in enumerate(axes):
        cells = by_hand(result, i)
        np.testing.assert_allclose(shown(ax), cells, rtol=1e-6)
        assert ax.get_title().endswith(f"on other tokens: {1 - cells.sum():.0%}")
        assert 0 < cells.sum() < 1
    assert axes[0].get_title().startswith("after embeddings")
    assert "in truth (1,1)" in axes[0].figure.get_suptitle()


def test_another_position_and_some_depths(tokens, maze):
    result = tokens(n_layers=2, all_positions=True)
    place = len(WORDS) - 2
    axes = plots.lens_maze(result, maze, depths=["0_mid", "final_post"], position=place)
    assert len(axes) == 2
    for ax, depth in zip(axes, (1, 4), strict=True):
        np.testing.assert_allclose(shown(ax), by_hand(result, depth, place), rtol=1e-6)
    read = plots.lens_maze(result, maze, depths=["final_post"])[0]
    assert not np.allclose(shown(read), shown(axes[1]))
    title = axes[0].figure.get_suptitle()
    assert f"what follows (0,0) at position {place}, in truth (0,1)" in title
    assert frame(axes[0]) == PATH[0]
    assert frame(read) == PATH[1]


def frame(ax):
    """The cell in the frame."""
    patch = next(p for p in ax.patches if p.get_label() == "current cell")
    return round(patch.get_y() + 0.36), round(patch.get_x() + 0.36)


def test_hardly_any_probability_has_no_strong_colour(tokens, maze):
    result = tokens()
    faint = replace(result, chosen_probs=result.chosen_probs * 1e-3)
    assert plots.lens_maze(faint, maze)[0].images[0].get_clim() == (0, 0.1)


def test_errors(tokens, maze):
    for ask, message in (
        (lambda: plots.lens_maze(replace(tokens(), chosen_ids=None), maze), "no tokens were chosen"),
        (lambda: plots.lens_maze(tokens(), maze, 1), "the maze belongs to another prompt"),
        (lambda: plots.lens_maze(tokens(), maze, position=3), "ask with token_lens"),
        (lambda: plots.lens_maze(tokens(all_positions=True), maze, position=99), "position is at most"),
        (lambda: plots.lens_maze(tokens(), maze, depths=["first"]), "unknown depth 'first', this result has 0_pre"),
        (lambda: plots.lens_maze(tokens(), maze, depths=[]), "depths is a list of depths"),
        (lambda: plots.lens_maze(tokens(), replace(maze, rows=3)), "the maze has 3 rows and 5 columns"),
    ):
        with pytest.raises(InputError, match=message):
            ask()
