from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from maze_dla import plots
from maze_dla.errors import InputError


def by_hand(values, maze):
    """[position] summed over each cell's tokens, and over the others."""
    cells, other = np.zeros((5, 5)), 0.0
    for position, cell in enumerate(maze.token_cells):
        if cell is None:
            other += float(values[position])
        else:
            cells[cell] += float(values[position])
    return cells, other


def shown(ax):
    return ax.images[0].get_array().filled(0)


@pytest.mark.parametrize("head", [None, (5, 3), (0, 1)])
def test_cells_hold_the_sources_of_their_tokens(attribution, maze, ax, head):
    result = attribution()
    assert plots.maze_sources(result, maze, 2, head, ax) is ax
    values = result.sources[2].sum((0, 1)) if head is None else result.sources[2][head]
    cells, _ = by_hand(values, maze)
    np.testing.assert_allclose(shown(ax), cells, atol=1e-5)


def test_cells_and_others_in_the_title_sum_to_the_head(attribution, maze, ax):
    result = attribution()
    plots.maze_sources(result, maze, 2, (5, 3), ax)
    cells, other = by_hand(result.sources[2, 5, 3], maze)
    who, shares = ax.get_title().replace("\N{MINUS SIGN}", "-").split("\n")
    assert "head L5H3" in who
    assert shares == f"cells {cells.sum():+.2f}, other tokens {other:+.2f} logits"
    assert cells.sum() + other == pytest.approx(float(result.heads[2, 5, 3]), rel=1e-4)


def test_source_limits_are_symmetric(attribution, maze, ax):
    plots.maze_sources(attribution(), maze, ax=ax)
    low, high = ax.images[0].get_clim()
    assert low == -high
    assert high == pytest.approx(np.abs(shown(ax)).max())


@pytest.mark.parametrize("head", [None, (4, 0)])
def test_cells_hold_the_attention_paid_to_their_tokens(attribution, maze, ax, head):
    result = attribution()
    assert plots.maze_attention(result, maze, 1, head, ax) is ax
    values = result.patterns[1].mean((0, 1)) if head is None else result.patterns[1][head]
    cells, other = by_hand(values, maze)
    np.testing.assert_allclose(shown(ax), cells, atol=1e-6)
    assert ax.images[0].get_clim()[0] == 0
    assert ax.get_title().endswith(f"cells {cells.sum():.0%}, other tokens {other:.0%}")
    assert cells.sum() + other == pytest.approx(1, abs=1e-4)


def test_both_side_by_side(attribution, maze, ax):
    result = attribution()
    left, right = plots.maze_sources_and_attention(result, maze, 3, (2, 2))
    assert left.figure is right.figure is not ax.figure
    for drawn, alone in ((left, plots.maze_sources), (right, plots.maze_attention)):
        np.testing.assert_array_equal(shown(drawn), shown(alone(result, maze, 3, (2, 2))))


DRAW = (plots.maze_sources, plots.maze_attention, plots.maze_sources_and_attention)


@pytest.mark.parametrize("draw", DRAW)
def test_errors_say_what_was_seen_and_open_no_figure(attribution, maze, draw):
    from matplotlib import pyplot as plt

    result = attribution()
    with pytest.raises(InputError, match=r"ask with attribute\(\.\.\., sources=True\)"):
        draw(replace(result, sources=None, patterns=None), maze)
    with pytest.raises(InputError, match="prompt is an index from 0 to 7, got 8"):
        draw(result, maze, 8)
    with pytest.raises(InputError, match="prompt is an index from 0 to 7, got -1"):
        draw(result, maze, -1)
    for head in ((6, 0), (0, 4), (-1, 0)):
        with pytest.raises(InputError, match=r"6 layers with 4 heads each, counted from 0, got head \(" + str(head[0])):
            draw(result, maze, 0, head)
    assert plt.get_fignums() == []


class Batch:
    """Prompts about one maze, as a picture sees them."""

    def __init__(self, *mazes):
        self.mazes = mazes
        self.labels = tuple(maze.tokens for maze in mazes)

    def geometry(self, prompt):
        return self.mazes[prompt]


def with_token(maze, position, token):
    return replace(maze, tokens=(*maze.tokens[:position], token, *maze.tokens[position + 1 :]))


@pytest.mark.parametrize("draw", DRAW)
def test_geometry_of_another_prompt(attribution, maze, draw):
    n = len(maze.tokens)
    other = with_token(with_token(maze, 9, "(4,4)"), 12, "x")
    assert other.tokens[9] != maze.tokens[9]
    message = f"at position 9 it has '(4,4)', where prompt 3 of the result has {maze.tokens[9]!r}"
    for given in (other, Batch(maze, maze, maze, other, *[maze] * 4)):
        with pytest.raises(InputError, match=re.escape(message)):
            draw(attribution(), given, 3)
    with pytest.raises(InputError, match=rf"at position {n - 1} it has no token, where prompt 0 .* has '\(0,1\)'"):
        draw(attribution(), replace(maze, tokens=maze.tokens[:-1], token_cells=maze.token_cells[:-1]))


def test_the_batch_itself_is_taken(attribution, maze, ax):
    result = attribution()
    mazes = [maze] * 8
    mazes[3] = replace(maze, path=maze.path[:3])
    plots.maze_sources(result, Batch(*mazes), 3, "L5H3", ax)
    np.testing.assert_array_equal(shown(ax), shown(plots.maze_sources(result, maze, 3, (5, 3))))
    (path,) = [line for line in ax.lines if line.get_label() == "solution path"]
    assert len(path.get_xdata()) == 3
    with pytest.raises(InputError, match=r"the batch has 7 prompts, the result 8"):
        plots.maze_sources(result, Batch(*mazes[1:]), 3)
    other = Batch(*mazes[:5], with_token(maze, 0, "x"), *mazes[6:])
    with pytest.raises(InputError, match=r"other prompts: at position 0 it has 'x', where prompt 5 of the result has"):
        plots.maze_sources(result, other, 3)


class NoMazes(Batch):
    """Prompts about something else."""

    def geometry(self, prompt):
        return None


@pytest.mark.parametrize("draw", DRAW)
def test_prompts_about_no_maze(attribution, maze, draw):
    with pytest.raises(InputError, match=r"maze is a MazeGeometry, or the batch of mazes .* about no maze"):
        draw(attribution(), NoMazes(*[maze] * 8))


def test_a_head_as_it_is_ranked(attribution, maze, ax):
    result = attribution()
    first = result.top_heads()[0]
    plots.maze_attention(result, maze, 0, first, ax)
    np.testing.assert_array_equal(shown(ax), shown(plots.maze_attention(result, maze, 0, (first.layer, first.number))))
    with pytest.raises(InputError, match=r"head is \(layer, head\) such as .* got L\d+N\d+"):
        plots.maze_sources(result, maze, 0, result.top_neurons(1)[0])


def test_a_cell_outside_the_maze(attribution, maze):
    outside = replace(maze, token_cells=((7, 1), *maze.token_cells[1:]))
    with pytest.raises(InputError, match=r"names cell \(7, 1\), the maze has 5 rows and 5 columns"):
        plots.maze_sources(attribution(), outside)


def test_a_geometry_has_an_entry_for_each_token(maze):
    with pytest.raises(InputError, match=rf"token_cells has 3 entries, expected one for each of {len(maze.tokens)}"):
        replace(maze, token_cells=maze.token_cells[:3])
    with pytest.raises(InputError, match="token_passages has 1 entries"):
        replace(maze, token_passages=(None,))


def test_passages_take_what_came_from_their_tokens(attribution, maze, ax):
    result = attribution()
    passage = next(iter(maze.connections))
    others = [i for i, cell in enumerate(maze.token_cells) if cell is None]
    with_passages = replace(
        maze, token_passages=tuple(passage if i == others[0] else None for i in range(len(maze.token_cells)))
    )
    plots.maze_sources(result, with_passages, 2, (5, 3), ax)
    moved = float(result.sources[2, 5, 3, others[0]])
    assert f"passages {moved:+.2f}".replace("-", "\N{MINUS SIGN}") in ax.get_title()
    bar = [p for p in ax.patches if p.get_zorder() == 2]
    assert len(bar) == 1
    np.testing.assert_allclose(bar[0].get_facecolor(), ax.images[0].to_rgba(np.array([moved]))[0])


def test_noise_around_zero_gets_no_strong_colour(attribution, maze, ax):
    result = attribution()
    quiet = replace(result, sources=result.sources * 1e-9)
    plots.maze_sources(quiet, maze, 0, None, ax)
    assert ax.images[0].get_clim() == (-0.01, 0.01)
