"""Attention on the lattice and by distance, and scores of heads as maps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from maze_dla import plots
from maze_dla.errors import InputError
from tests.plots.conftest import maze_words
from tests.results.attention_results import RELATIONS, make_attention, make_distances, make_scores

WORDS, CELLS = maze_words()


@pytest.fixture
def result():
    made = make_attention((len(WORDS),) * 5)
    return replace(made, prompt_tokens=(WORDS,) * 5)


class Mazes:
    """A batch whose prompts are all about one maze."""

    def __init__(self, result, maze):
        self.labels, self.maze = result.prompt_tokens, maze

    def geometry(self, prompt):
        return self.maze


def by_hand(row):
    cells = np.zeros((5, 5))
    for cell, value in zip(CELLS, row.tolist(), strict=True):
        if cell is not None:
            cells[cell] += value
    return cells


def shown(ax):
    return ax.images[0].get_array().filled(0)


@pytest.mark.parametrize(("query", "position"), [(None, -1), (9, 9), (-3, len(WORDS) - 3), ((2, 1), None)])
def test_cells_have_the_attention_of_the_query(result, maze, query, position):
    position = max(i for i, cell in enumerate(CELLS) if cell == query) if position is None else position
    ax = plots.attention_maze(result, maze, 3, "L1H0", query)
    np.testing.assert_allclose(shown(ax), by_hand(result.of_head("L1H0")[3, position]), atol=1e-6)
    assert not np.allclose(shown(ax), by_hand(result.of_head("L1H0")[3, 12]), atol=1e-3)
    at = range(len(WORDS))[position]
    first, second = ax.get_title().replace("\n", " ").split("cells")
    assert f"head L1H0 from {WORDS[at].strip(';')}"[:20] in first
    assert f"at position {at}" in first
    share = by_hand(result.of_head("L1H0")[3, position]).sum()
    assert second.strip().startswith(f"{share:.0%}")


def test_the_frame_is_around_the_cell_of_the_query(result, maze):
    ax = plots.attention_maze(result, maze, 0, query=(2, 2))
    frame = next(patch for patch in ax.patches if patch.get_label() == "cell of the query")
    assert (frame.get_x() + frame.get_width() / 2, frame.get_y() + frame.get_height() / 2) == pytest.approx((2, 2))
    without = plots.attention_maze(result, maze, 0, query=0)  # the first token names no cell
    assert not [patch for patch in without.patches if patch.get_label() == "cell of the query"]
    assert "6 heads, on average" in ax.get_title()
    mean = result.patterns[0, :, max(i for i, c in enumerate(CELLS) if c == (2, 2))].mean(0)
    np.testing.assert_allclose(shown(ax), by_hand(mean), atol=1e-6)


def test_several_mazes_have_one_scale(result, maze):
    axes = plots.attention_mazes(result, Mazes(result, maze), [4, 0, 2], "L0H2")
    assert [ax.get_title().split(",")[0] for ax in axes] == ["prompt 4", "prompt 0", "prompt 2"]
    assert len({ax.images[0].get_clim() for ax in axes}) == 1
    for ax, prompt in zip(axes, (4, 0, 2), strict=True):
        np.testing.assert_allclose(shown(ax), by_hand(result.of_head("L0H2")[prompt, -1]), atol=1e-6)
    figure = axes[0].figure
    figure.canvas.draw()
    drawn = figure.get_tightbbox().transformed(figure.dpi_scale_trans)
    assert min(drawn.x0, drawn.y0) >= -1
    assert drawn.x1 <= figure.bbox.x1 + 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"query": len(WORDS)}, f"query is at most {len(WORDS) - 1}"),
        ({"query": (9, 9)}, r"query: no token of the prompt names the cell \(9, 9\)"),
        ({"query": "read"}, r"query is None, a position, or a cell such as \(2, 1\), got 'read'"),
        ({"head": "L7H0"}, "L7H0 is not among the heads of this result"),
        ({"prompt": 5}, "prompt is an index from 0 to 4"),
    ],
)
def test_what_is_not_there_cannot_be_drawn(result, maze, options, message):
    with pytest.raises(InputError, match=message):
        plots.attention_maze(result, maze, **options)
    with pytest.raises(InputError, match="this picture takes a result of attention, got None"):
        plots.attention_maze(None, maze)


def test_maps_have_what_is_above_and_cross_out_the_rest():
    scores = make_scores()
    axes = plots.head_scores(scores)
    above = scores.above_summary().mean
    assert len(axes) == 3
    for r, ax in enumerate(axes):
        np.testing.assert_allclose(ax.images[0].get_array(), above[r].numpy())
        assert ax.get_title() == f"{RELATIONS[r]}\nagainst {scores.against[r]}"
    words = {(round(t.get_position()[1]), round(t.get_position()[0])): t.get_text() for t in axes[1].texts}
    assert words.pop((1, 2)) == f"{100 * float(scores.values[:, 1, 1, 2].mean()):.0f}"
    assert set(words.values()) == {"\N{MULTIPLICATION SIGN}"}
    assert len(words) == 5
    low, high = axes[0].images[0].get_clim()
    assert (low, high) == (-high, pytest.approx(float(above.abs().max())))
    chosen = plots.head_scores(scores, ["elsewhere"])
    assert [ax.get_title().split("\n")[0] for ax in chosen] == ["elsewhere"]
    with pytest.raises(InputError, match="no relation 'x', there are"):
        plots.head_scores(scores, ["x"])


def test_curves_by_distance_say_their_correlation():
    result = make_distances()
    ax = plots.attention_by_distance(result, k=2)
    means = result.attention_summary().mean
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert [name.split(":")[0] for name in names] == ["L0H0", "L0H1"]
    assert f"rank correlation {result.shown_correlation('L0H0')}".replace("-", "\N{MINUS SIGN}") in names[0]
    np.testing.assert_allclose(ax.containers[0].lines[0].get_ydata(), means[0].numpy())
    assert "steps through the maze" in ax.get_xlabel()
    other = replace(result, info={**result.info, "distance": "lattice"})
    assert "rows and columns" in plots.attention_by_distance(other, ["L0H2"]).get_xlabel()
    with pytest.raises(InputError, match="L3H0 is not among the heads"):
        plots.attention_by_distance(result, ["L3H0"])
    assert torch.isnan(result.correlation_summary().mean[2])
