from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from maze_dla import plots
from maze_dla.errors import InputError

KINDS = ("adjacency list", "origin", "path")


@pytest.fixture
def by_kind(attribution):
    """A function for results whose heads moved random amounts from three kinds of tokens."""

    def make(n=8, **more):
        g = torch.Generator().manual_seed(1)
        moved = torch.randn(n, 6, 4, len(KINDS), generator=g) + torch.randn(6, 4, len(KINDS), generator=g)
        return replace(attribution(n=n, **more), kinds=KINDS, sources_by_kind=moved)

    return make


def bars(ax):
    """The widths of the bars to the right and of those to the left."""
    return [[bar.get_width() for bar in container] for container in ax.containers[:2]]


def dots(ax):
    points, _, (reach,) = ax.containers[2]
    return points.get_xdata(), [segment[:, 0] for segment in reach.get_segments()]


def test_bars_are_what_heads_add_and_take_away(by_kind, ax):
    result = by_kind()
    assert plots.source_kinds(result, ax) is ax
    added, taken = [0.0] * 3, [0.0] * 3
    for layer, head, kind in itertools.product(range(6), range(4), range(3)):
        mean = float(result.sources_by_kind[:, layer, head, kind].mean())
        added[kind] += max(mean, 0)
        taken[kind] += min(mean, 0)
    np.testing.assert_allclose(bars(ax), [added, taken], rtol=1e-5)


def test_dots_are_all_heads_with_their_interval(by_kind, ax):
    result = by_kind()
    plots.source_kinds(result, ax)
    net = result.sources_by_kind.double().sum((1, 2)).numpy()
    mean, error = net.mean(0), net.std(0, ddof=1) / np.sqrt(8)
    at, reach = dots(ax)
    np.testing.assert_allclose(at, mean)
    np.testing.assert_allclose(np.transpose(reach), stats.t.interval(0.95, 7, loc=mean, scale=error))


def test_the_dot_is_the_sum_of_its_bars(by_kind, ax):
    plots.source_kinds(by_kind(), ax)
    np.testing.assert_allclose(dots(ax)[0], np.sum(bars(ax), 0), atol=1e-6)


def test_kinds_are_named_with_the_first_at_the_top(by_kind, ax):
    plots.source_kinds(by_kind(), ax)
    assert [label.get_text() for label in ax.get_yticklabels()] == list(KINDS)
    bottom, top = ax.get_ylim()
    assert bottom > 2.3
    assert top < -0.3


def test_bars_and_dots_of_a_kind_are_at_its_name(by_kind, ax):
    plots.source_kinds(by_kind(), ax)
    for container in ax.containers[:2]:
        np.testing.assert_allclose([bar.get_y() + bar.get_height() / 2 for bar in container], ax.get_yticks())
    assert list(ax.containers[2][0].get_ydata()) == list(ax.get_yticks())


def test_adding_and_taking_away_have_their_names_and_colours(by_kind, ax):
    plots.source_kinds(by_kind(), ax)
    legend = ax.get_legend()
    assert [t.get_text() for t in legend.get_texts()] == ["heads that add", "heads that take away", "all heads"]
    colours = [container[0].get_facecolor() for container in ax.containers[:2]]
    assert [patch.get_facecolor() for patch in legend.get_patches()] == colours
    assert colours[0] != colours[1]


@pytest.mark.filterwarnings("ignore:.*degrees of freedom")
@pytest.mark.parametrize(("n", "counted"), [(1, "1 prompt"), (8, "8 prompts")])
def test_the_title_names_metric_and_number_of_prompts(by_kind, ax, n, counted):
    plots.source_kinds(by_kind(n, metric="logit"), ax)
    assert ax.get_title().replace("\n", " ") == f"Moved by heads from each kind of token: logit, {counted}"
    assert ax.get_xlabel() == "mean contribution (logits)"


@pytest.mark.filterwarnings("ignore:.*degrees of freedom")
def test_one_prompt_has_dots_without_intervals(by_kind, ax):
    plots.source_kinds(by_kind(1), ax)
    ax.figure.canvas.draw()
    assert np.isfinite(bars(ax)).all()
    assert np.isfinite(ax.axis()).all()
    points, _, (reach,) = ax.containers[2]
    assert np.isfinite(points.get_xdata()).all()
    assert not any(len(segment) for segment in reach.get_segments())


def test_a_result_without_kinds(attribution):
    asked = r"^this result has no sources by kind: ask with attribute\(\.\.\., sources='kinds'\)$"
    with pytest.raises(InputError, match=asked):
        plots.source_kinds(attribution())
