from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from maze_dla import plots
from maze_dla.errors import InputError


def curves(ax):
    return [line for line in ax.lines if line.get_marker() == "o"]


def marks(ax):
    """The upright lines."""
    return [line.get_xdata()[0] for line in ax.lines if len(set(line.get_xdata())) == 1]


def test_the_mean_and_the_band_are_the_summary(depths, ax):
    result = depths()
    assert plots.lens(result, ax=ax) is ax
    summary = result.summary()
    np.testing.assert_allclose(curves(ax)[0].get_ydata(), summary.mean)
    corners = ax.collections[0].get_paths()[0].vertices
    for i in range(len(result.labels)):
        at = corners[corners[:, 0] == i, 1]
        np.testing.assert_allclose([at.min(), at.max()], [summary.low[i], summary.high[i]])


def test_words_for_depths_units_and_metric(depths, ax):
    plots.lens(depths(n_layers=2), ax=ax)
    names = [label.get_text() for label in ax.get_xticklabels()]
    assert names == ["embeddings", "attention 0", "MLP 0", "attention 1", "MLP 1"]
    assert ax.get_ylabel().replace("\n", " ") == "correct minus mean of neighbors (logits)"


def test_the_mark_stands_where_half_is_reached(depths, ax):
    result = depths()
    plots.lens(result, ax=ax)
    mean = result.values.mean(0)
    reached = next(i for i, value in enumerate(mean) if value >= mean[-1] / 2)
    assert 0 < reached < len(mean) - 1
    assert marks(ax) == [reached]


def test_no_mark_for_a_metric_that_ends_below_zero(depths, ax):
    plots.lens(depths(end=-3), ax=ax)
    assert marks(ax) == []


def test_no_mark_where_the_final_value_may_be_zero(depths, ax):
    """Half of what may be nothing is reached nowhere; the same curve far from zero has its mark."""
    result = depths()
    spread = result.values[:, -1:].mean() * torch.tensor([3.0, -3.0]).repeat(len(result))[: len(result), None]
    noisy = replace(result, values=result.values + spread, metric=result.metric + spread[:, 0])
    assert noisy.summary().low[-1] < 0 < noisy.summary().mean[-1]
    plots.lens(noisy, result, ax=ax)
    words = [text.get_text() for text in ax.get_legend().get_texts()]
    assert len(marks(ax)) == 1
    assert words[0].endswith("final value may be zero")
    assert "half of the final value reached" in words[1]
    assert "not to be told" in str(noisy)
    assert "not to be told" not in str(result)


def test_several_results_are_named_by_what_tells_them_apart(depths, ax):
    plots.lens(depths(), depths(seed=1, scale="own", model="gpt2-small"), ax=ax)
    names = [text.get_text().split(":")[0] for text in ax.get_legend().get_texts()]
    assert names == ["hallway, final scale", "gpt2-small, own scale"]
    assert len({line.get_color() for line in curves(ax)}) == 2


def test_own_labels(depths, ax):
    plots.lens(depths(), depths(seed=1), ax=ax, labels=["before", "after"])
    assert [text.get_text().split(":")[0] for text in ax.get_legend().get_texts()] == ["before", "after"]


@pytest.mark.filterwarnings("ignore:.*degrees of freedom")
def test_one_prompt_has_a_curve_without_a_band(depths, ax):
    plots.lens(depths(n=1), ax=ax)
    assert np.isfinite(curves(ax)[0].get_ydata()).all()


def test_errors_say_what_was_seen(depths):
    with pytest.raises(InputError, match=r"first has 13 .*number 1 has 5"):
        plots.lens(depths(), depths(n_layers=2))
    with pytest.raises(InputError, match="labels has 1 names, expected one for each of 2 results"):
        plots.lens(depths(), depths(), labels=["one"])
