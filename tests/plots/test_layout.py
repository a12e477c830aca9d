"""Where things are once they are drawn: nothing covers anything else."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch

from maze_dla import plots
from maze_dla.results.comparison import compare
from tests.results.causal_results import make_effects, make_patch


def with_kinds(result):
    g = torch.Generator().manual_seed(1)
    kinds = ("adjacency list", "origin", "target", "path")
    return replace(result, kinds=kinds, sources_by_kind=torch.randn(*result.heads.shape, 4, generator=g))


@pytest.fixture
def draw(attribution, depths, tokens, maze):
    """A function for each picture, of a model of a given size."""

    def make(n_layers=6, n_heads=4):
        result = attribution(n=30, n_layers=n_layers, n_heads=n_heads)
        steps = [i % 12 for i in range(30)]
        return {
            "maze_sources": lambda ax: plots.maze_sources(result, maze, ax=ax),
            "maze_attention": lambda ax: plots.maze_attention(result, maze, ax=ax),
            "lens": lambda ax: plots.lens(depths(n_layers=n_layers), ax=ax),
            "lenses": lambda ax: plots.lens(
                depths(n_layers=n_layers), depths(seed=1, n_layers=n_layers, scale="own", model="a name " * 9), ax=ax
            ),
            "layers": lambda ax: plots.layers(result, ax=ax),
            "heads": lambda ax: plots.heads(result, ax=ax),
            "neurons": lambda ax: plots.neurons(result, ax=ax),
            "source_kinds": lambda ax: plots.source_kinds(with_kinds(result), ax=ax),
            "lens_along_path": lambda ax: plots.lens_along_path(depths(n_layers=n_layers), steps, ax=ax),
            "token_lens": lambda ax: plots.token_lens(tokens(n_layers=n_layers), ax=ax),
            "token_grid": lambda ax: plots.token_grid(tokens(n_layers=n_layers, all_positions=True), ax=ax, k=2),
            "tokens_over_depth": lambda ax: plots.tokens_over_depth(tokens(n_layers=n_layers), ax=ax),
            "patching": lambda ax: plots.patching(make_patch(), ax),
            "direct_and_total": lambda ax: plots.direct_and_total(make_effects(), ax),
        }

    return make


def overlap(a, b, tolerance=1.0):
    """Whether two boxes share more than a pixel."""
    wide = min(a.x1, b.x1) - max(a.x0, b.x0)
    high = min(a.y1, b.y1) - max(a.y0, b.y0)
    return wide > tolerance and high > tolerance


def drawn(figure):
    figure.canvas.draw()
    return figure.canvas.get_renderer()


NAMES = ("maze_sources", "maze_attention", "lens", "lenses", "layers", "heads", "neurons", "source_kinds")
NAMES = (*NAMES, "lens_along_path", "token_lens", "token_grid", "tokens_over_depth", "patching", "direct_and_total")


@pytest.mark.parametrize("layout", [None, "constrained", "tight"])
@pytest.mark.parametrize("name", NAMES)
def test_two_pictures_in_one_row_do_not_overlap(draw, name, layout):
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, layout=layout)
    for ax in axes:
        draw()[name](ax)
    renderer = drawn(figure)
    left, right = (ax.get_tightbbox(renderer) for ax in axes)
    assert not overlap(left, right)
    for box in (left, right):
        assert box.x0 >= -1
        assert box.x1 <= figure.bbox.x1 + 1
        assert box.y0 >= -1
        assert box.y1 <= figure.bbox.y1 + 1
    for ax in axes:
        assert ax.get_window_extent(renderer).width > 0.06 * figure.bbox.width  # of small axes the words take most


def test_four_mazes_in_two_rows_do_not_overlap(draw):
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(9, 9))
    for ax in axes.flat:
        draw()["maze_sources"](ax)
    renderer = drawn(figure)
    boxes = [ax.get_tightbbox(renderer) for ax in axes.flat]
    assert not any(overlap(a, b) for a, b in itertools.combinations(boxes, 2))


def test_axes_whose_decorations_would_stick_out_are_seen():
    """The check finds an overlap where there is one."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2)
    for ax in axes:
        ax.set_title("a title that is much wider than its axes")
    renderer = drawn(figure)
    assert overlap(*(ax.get_tightbbox(renderer) for ax in axes))


@pytest.mark.parametrize("size", [(6, 4), (12, 12), (48, 25)])
@pytest.mark.parametrize("name", ["lens", "lenses", "layers", "source_kinds"])
def test_the_legend_covers_neither_data_nor_title(draw, name, size):
    ax = draw(*size)[name](None)
    renderer = drawn(ax.figure)
    legend = ax.get_legend().get_window_extent(renderer)
    assert not overlap(legend, ax.get_window_extent(renderer))
    assert not overlap(legend, ax.title.get_window_extent(renderer))
    assert legend.x0 >= 0
    assert legend.x1 <= ax.figure.bbox.x1


@pytest.mark.parametrize("size", [(6, 4), (12, 12), (48, 25)])
@pytest.mark.parametrize("name", NAMES)
def test_names_at_the_axes_can_be_told_apart(draw, name, size):
    ax = draw(*size)[name](None)
    renderer = drawn(ax.figure)
    for axis in (ax.xaxis, ax.yaxis):
        shown = [label for label in axis.get_ticklabels() if label.get_text() and label.get_visible()]
        if {label.get_rotation() for label in shown} == {45.0}:
            continue  # boxes of slanted words overlap though the words do not
        boxes = [label.get_window_extent(renderer) for label in shown]
        assert not any(overlap(a, b) for a, b in itertools.pairwise(boxes)), (name, axis.axis_name)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_a_comparison_can_be_read_on_a_page(attribution, n):
    results = [with_kinds(attribution(model=f"model {i}")) for i in range(n)]
    axes = plots.comparison(compare(*results))
    figure = axes[0][0].figure
    assert figure.get_figwidth() * 110 <= 1_700  # pixels, as a report saves it
    renderer = drawn(figure)
    boxes = [ax.get_tightbbox(renderer) for row in axes for ax in row]
    assert not any(overlap(a, b) for a, b in itertools.combinations(boxes, 2))
    for column, ax in enumerate(axes[0]):
        assert ax.get_title().startswith(f"model {column}\n")
        assert ax.get_window_extent(renderer).width > 250


def test_a_head_s_name_is_as_wide_as_its_cell_at_most(attribution):
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2)
    for ax in axes:
        plots.heads(attribution(n_layers=6, n_heads=4), ax, label=24)
    renderer = drawn(figure)
    for ax in axes:
        cell = ax.get_window_extent(renderer).width / 4
        assert max(text.get_window_extent(renderer).width for text in ax.texts) <= 1.02 * cell


def test_names_from_outside_stand_on_one_line_and_are_no_formulas(attribution, depths):
    odd = "a;\nb $x_{$\tc"
    result = with_kinds(attribution(metric=odd, model=odd))
    result = replace(result, kinds=(odd, "origin", "target", "path"))
    for ax in (
        plots.lens(depths(), depths(), labels=[odd, "other"]),
        plots.layers(result),
        plots.heads(result),
        plots.source_kinds(result),
        plots.neurons(result),
    ):
        drawn(ax.figure)
        texts = [ax.get_title(), *(t.get_text() for t in ax.get_yticklabels())]
        texts += [t.get_text() for t in ax.get_legend().get_texts()] if ax.get_legend() else []
        assert any(r"a; b \$x_{\$ c" in text for text in texts)
    assert plots.source_kinds(result).get_yticklabels()[0].get_text() == r"a; b \$x_{\$ c"
