from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from maze_dla import plots
from maze_dla.errors import InputError
from tests.plots.conftest import maze_words
from tests.results.causal_results import make_patch

WORDS, CELLS = maze_words()


@pytest.fixture
def result():
    """Noise at every position, so that tokens of one cell differ in sign and size."""
    found = make_patch(lengths=(len(WORDS),) * 8, spread=1.0)
    return replace(found, prompt_tokens=(WORDS,) * 8, values=found.values - found.values.nanmean())


def by_hand(change):
    """The change of largest size among each cell's tokens, and among all others."""
    cells, other = np.zeros((5, 5)), (0.0, -1)
    for position, cell in enumerate(CELLS):
        value = float(change[position])
        if cell is None:
            other = max(other, (value, position), key=lambda found: abs(found[0]))
        elif abs(value) > abs(cells[cell]):
            cells[cell] = value
    return cells, other


def shown(ax):
    return ax.images[0].get_array().filled(0)


def test_a_cell_has_the_largest_change_of_its_tokens_at_each_layer(result, maze):
    axes = plots.patching_on_maze(result, maze, 3)
    assert len(axes) == 3
    for layer, ax in enumerate(axes):
        cells, (value, position) = by_hand(result.change[3, layer])
        np.testing.assert_allclose(shown(ax), cells, rtol=1e-5)
        name, elsewhere = ax.get_title().split("\n")
        assert name == f"layer {layer}"
        assert elsewhere.startswith(f"{value:+.2f} at ".replace("-", "\N{MINUS SIGN}"))
        assert WORDS[position].strip(";") in elsewhere
    sums = np.zeros((5, 5))
    for position, cell in enumerate(CELLS):
        if cell is not None:
            sums[cell] += float(result.change[3, 0, position])
    assert not np.allclose(shown(axes[0]), sums)


def test_all_layers_have_one_scale_with_zero_in_the_middle(result, maze):
    axes = plots.patching_on_maze(result, maze)
    limits = {ax.images[0].get_clim() for ax in axes}
    assert len(limits) == 1
    low, high = limits.pop()
    assert low == -high
    assert high == pytest.approx(max(np.abs(shown(ax)).max() for ax in axes))
    labels = [ax.get_ylabel() for ax in axes[0].figure.axes]
    assert "change (logits) by a cell's token" in labels


def test_layers_can_be_chosen_and_passages_are_bars(result, maze):
    between = [None] * len(WORDS)
    between[2] = ((0, 0), (0, 1))
    axes = plots.patching_on_maze(result, replace(maze, token_passages=tuple(between)), layers=[2, 0])
    assert [ax.get_title().split("\n")[0] for ax in axes] == ["layer 2", "layer 0"]
    image = axes[0].images[0]
    expected = image.to_rgba(np.array([float(result.change[0, 2, 2])]))[0]
    assert any(np.allclose(patch.get_facecolor(), expected) for patch in axes[0].patches)
    plain = plots.patching_on_maze(result, maze, layers=[2])
    assert len(plain[0].patches) == len(axes[0].patches) - 1


def test_the_batch_of_the_result_knows_the_maze(result, maze):
    class Pairs:
        labels = result.prompt_tokens

        def geometry(self, prompt):
            return maze

    one, two = plots.patching_on_maze(result, Pairs(), 1), plots.patching_on_maze(result, maze, 1)
    np.testing.assert_array_equal(shown(one[1]), shown(two[1]))


def test_it_can_be_drawn_within_its_paper(result, maze):
    figure = plots.patching_on_maze(result, maze)[0].figure
    figure.canvas.draw()
    assert "clean into corrupted" in figure.get_suptitle()
    drawn = figure.get_tightbbox().transformed(figure.dpi_scale_trans)
    assert drawn.x0 >= -1
    assert drawn.y0 >= -1
    assert drawn.x1 <= figure.bbox.x1 + 1
    assert drawn.y1 <= figure.bbox.y1 + 1
    assert [text.get_text() for text in figure.legends[0].get_texts()][:2] == ["solution path", "origin"]


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda r: make_patch(("layer", "head")), {}, "this picture is by layer and position, got a result by layer"),
        (lambda r: None, {}, "this picture takes a result of patch, got None"),
        (lambda r: r, {"prompt": 8}, "prompt is an index from 0 to 7"),
        (lambda r: r, {"layers": [3]}, "each of layers is at most 2, got 3"),
        (lambda r: r, {"layers": []}, "layers is a list of layers"),
        (lambda r: r, {"layers": "all"}, "layers is a list of layers"),
        (lambda r: replace(r, prompt_tokens=(WORDS[::-1],) * 8), {}, "the maze belongs to another prompt"),
    ],
)
def test_what_cannot_be_drawn_is_an_error(result, maze, change, options, message):
    with pytest.raises(InputError, match=message):
        plots.patching_on_maze(change(result), maze, **options)


def test_a_cell_outside_the_maze_is_an_error(result, maze):
    cells = (*maze.token_cells[:-1], (5, 0))
    with pytest.raises(InputError, match=r"a token names cell \(5, 0\), the maze has 5 rows and 5 columns"):
        plots.patching_on_maze(result, replace(maze, token_cells=cells))


def test_nothing_changed_has_no_strong_colour(result, maze):
    idle = replace(result, values=result.corrupted[:, None, None] + torch.zeros_like(result.values))
    ax = plots.patching_on_maze(idle, maze)[0]
    assert ax.images[0].get_clim() == (-0.01, 0.01)
    assert ax.get_title() == "layer 0"
