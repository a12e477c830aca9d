from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from maze_dla import plots
from maze_dla.results.comparison import compare


@pytest.fixture
def model(attribution):
    """A function for results of a model by its name, with sources of as many kinds as are asked for."""

    def make(name="hallway", n_kinds=0, n=4, **more):
        result = attribution(n=n, model=name, **more)
        if not n_kinds:
            return result
        moved = torch.randn(*result.heads.shape, n_kinds, generator=torch.Generator().manual_seed(2))
        return replace(result, kinds=tuple(f"kind {i}" for i in range(n_kinds)), sources_by_kind=moved)

    return make


def shape(axes):
    return [len(row) for row in axes]


def curve(ax):
    return next(line.get_ydata() for line in ax.lines if line.get_marker() == "o")


def bars(ax, number, size):
    return [getattr(bar, f"get_{size}")() for bar in ax.containers[number]]


@pytest.mark.parametrize(("n", "size"), [(1, (6.6, 12)), (2, (13.2, 12)), (3, (15, 12)), (5, (15, 24)), (7, (15, 36))])
def test_a_column_for_each_result(model, n, size):
    axes = plots.comparison(compare(*(model(f"model {i}") for i in range(n))))
    assert shape(axes) == [n] * 3
    figure = axes[0][0].figure
    assert all(ax.figure is figure for row in axes for ax in row)
    assert figure.get_size_inches().tolist() == pytest.approx(size)


def test_a_new_figure_is_opened(model, ax):
    from matplotlib import pyplot as plt

    axes = plots.comparison(compare(model()))
    assert plt.get_fignums() == [ax.figure.number, axes[0][0].figure.number]
    assert not ax.has_data()


def test_columns_go_to_the_right_and_rows_down(model):
    axes = plots.comparison(compare(model("a", 2), model("b", 2)))
    axes[0][0].figure.canvas.draw()
    for row in axes:
        assert row[0].get_position().x1 < row[1].get_position().x0
    for column in zip(*axes, strict=True):
        heights = [ax.get_position().y0 for ax in column]
        assert heights == sorted(heights, reverse=True)
        assert len(set(heights)) == 4


def test_panels_hold_the_numbers_of_their_result(model):
    results = model("a", 2), model("b", 3, n_layers=2, seed=1)
    axes = plots.comparison(compare(*results))
    assert shape(axes) == [2] * 4
    for result, (lens, layers, heads, kinds) in zip(results, zip(*axes, strict=True), strict=True):
        np.testing.assert_allclose(curve(lens), result.lens().values.mean(0), rtol=1e-4)
        np.testing.assert_allclose(bars(layers, 1, "height")[:-1], result.layers.mean(0), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(heads.images[0].get_array(), result.heads.mean(0), rtol=1e-4, atol=1e-6)
        of_heads = result.sources_by_kind.mean(0).flatten(0, 1)
        np.testing.assert_allclose(bars(kinds, 0, "width"), of_heads.clamp_min(0).sum(0), rtol=1e-4)
        assert tuple(label.get_text() for label in kinds.get_yticklabels()) == result.kinds


def test_a_result_without_kinds_beside_one_with(model):
    axes = plots.comparison(compare(model("a"), model("b", 2)))
    assert shape(axes) == [2] * 4
    assert [ax.axison for ax in axes[3]] == [False, True]
    assert [ax.has_data() for ax in axes[3]] == [False, True]


def test_names_stand_above_their_columns(model):
    axes = plots.comparison(compare(model("hallway"), model("gpt2")))
    above = [ax.get_title().split("\n\n") for ax in axes[0]]
    assert [name for name, _ in above] == ["hallway", "gpt2"]
    assert {what.replace("\n", " ") for _, what in above} == {
        "The metric over depth, read at the final norm's recorded scale"
    }


def test_results_of_one_model_are_told_apart(model):
    axes = plots.comparison(compare(model(), model()))
    assert [ax.get_title().split("\n")[0] for ax in axes[0]] == ["1: hallway", "2: hallway"]


@pytest.mark.filterwarnings("ignore:.*degrees of freedom")
def test_one_prompt_each(model):
    axes = plots.comparison(compare(model("a", 2, n=1), model("b", 2, n=1)))
    axes[0][0].figure.canvas.draw()
    for row in axes:
        for ax in row:
            assert np.isfinite(ax.axis()).all()


def test_everything_is_on_the_paper(model):
    figure = plots.comparison(compare(model("a long name of a model " * 5, 3), model("b")))[0][0].figure
    figure.canvas.draw()
    paper, drawn = figure.bbox, figure.get_tightbbox().transformed(figure.dpi_scale_trans)
    assert drawn.x0 >= paper.x0 - 1
    assert drawn.y0 >= paper.y0 - 1
    assert drawn.x1 <= paper.x1 + 1
    assert drawn.y1 <= paper.y1 + 1
