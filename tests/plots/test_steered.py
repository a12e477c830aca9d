"""Steering: the numbers of the picture are those of the result."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from maze_dla import plots
from maze_dla.errors import InputError
from tests.results.causal_results import make_patch, make_steered

ORDER = [2, 0, 1]  # of the strengths 0, 2, -1


def curves(ax):
    return [line for line in ax.lines if line.get_marker() == "o"]


def names(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_means_and_bands_are_the_summaries_in_the_order_of_strength(ax):
    result = make_steered()
    assert plots.steering(result, ax) is ax
    summaries = (result.control_by_strength, result.by_strength)
    for line, band, summary in zip(curves(ax), ax.collections, summaries, strict=True):
        assert line.get_xdata().tolist() == [-1, 0, 2]
        np.testing.assert_allclose(line.get_ydata(), summary.mean[ORDER])
        corners = band.get_paths()[0].vertices
        for i in ORDER:
            at = corners[corners[:, 0] == float(result.strengths[i]), 1]
            np.testing.assert_allclose([at.min(), at.max()], [summary.low[i], summary.high[i]])


def test_the_plain_metric_is_a_line(ax):
    result = make_steered()
    plots.steering(result, ax)
    (line,) = [line for line in ax.lines if line.get_marker() != "o"]
    np.testing.assert_allclose(line.get_ydata(), [float(result.metric.double().mean())] * 2)
    assert names(ax) == ["without a vector", "mean of 3 random directions of the same length", "the vector"]


def test_no_random_directions_have_no_curve(ax):
    plots.steering(make_steered(controls=0), ax)
    assert names(ax) == ["without a vector", "the vector"]
    assert len(curves(ax)) == len(ax.collections) == 1


@pytest.mark.parametrize(
    ("info", "words"),
    [
        ({}, "Steering before layer 1, at the read position: logit difference, 24 prompts about 12 mazes"),
        ({"site": "resid_mid", "positions": "all"}, "Steering before the MLP of layer 1, at all positions:"),
        ({"positions": 3}, "before layer 1, 3 before the read position:"),
        ({"layer": None}, "Steering: logit difference"),
    ],
)
def test_the_title_says_where(ax, info, words):
    result = make_steered()
    plots.steering(replace(result, info={**result.info, **info}), ax)
    assert words in ax.get_title().replace("\n", " ")
    assert ax.get_ylabel() == "logit difference (logits)"


def test_another_result_is_an_error():
    with pytest.raises(InputError, match="this picture takes a result of steer, got PatchResult"):
        plots.steering(make_patch())
