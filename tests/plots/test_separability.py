"""Separability: the numbers of the pictures are those of the result."""

from __future__ import annotations

import numpy as np
import pytest

from maze_dla import plots
from maze_dla.errors import InputError
from tests.results.separability_results import make_separability


def by_label(ax):
    return {line.get_label(): line for line in ax.lines}


def test_accuracy_by_depth_beside_its_controls(ax):
    result = make_separability()
    assert plots.probe_accuracy(result, ax) is ax
    lines = by_label(ax)
    np.testing.assert_allclose(lines["probe"].get_ydata(), result.accuracy.mean)
    np.testing.assert_allclose(lines["random weights (mean of 2)"].get_ydata(), result.random.mean(0))
    for name in ("embeddings", "length"):
        np.testing.assert_allclose(lines[f"{name} alone"].get_ydata(), [float(result.baseline(name).mean)] * 2)
    assert lines["chance"].get_ydata() == [0.5, 0.5]
    shuffled, interval = (band.get_paths()[0].vertices for band in ax.collections)
    for i in range(3):
        at = shuffled[shuffled[:, 0] == i, 1]
        np.testing.assert_allclose([at.min(), at.max()], [result.shuffled[:, i].min(), result.shuffled[:, i].max()])
        at = interval[interval[:, 0] == i, 1]
        np.testing.assert_allclose([at.min(), at.max()], [result.accuracy.low[i], result.accuracy.high[i]])
    assert [t.get_text() for t in ax.get_xticklabels()] == ["in the embeddings", "after layer 0", "after layer 1"]
    assert "is it so: 48 prompts about 24 mazes" in ax.get_title()


def test_controls_that_are_not_there_are_not_drawn(ax):
    plots.probe_accuracy(make_separability(shuffles=0, models=0), ax)
    assert set(by_label(ax)) == {"chance", "embeddings alone", "length alone", "probe"}
    assert len(ax.collections) == 1


def test_components_by_class(ax):
    result = make_separability()
    drawn = plots.principal_components(result)
    assert len(drawn) == 3
    for depth, panel in enumerate(drawn):
        for k, points in enumerate(panel.collections):
            np.testing.assert_allclose(points.get_offsets(), result.coordinates[result.class_of == k, depth])
        first, second = result.explained[depth].tolist()
        assert panel.get_xlabel() == f"component 1 ({first:.0%})"
        assert panel.get_ylabel() == f"component 2 ({second:.0%})"
    assert [panel.get_title() for panel in drawn] == ["in the embeddings", "after layer 0", "after layer 1"]
    legend = drawn[0].figure.legends[0]
    assert [text.get_text() for text in legend.get_texts()] == ["no", "yes"]
    assert plots.principal_components(result, ["1_post"], [ax]) == (ax,)
    np.testing.assert_allclose(ax.collections[1].get_offsets(), result.coordinates[result.class_of == 1, 2])


def test_what_is_refused(ax):
    result = make_separability()
    for wrong in (["2_post"], [], "0_pre", 3):
        with pytest.raises(InputError, match="depths are "):
            plots.principal_components(result, wrong)
    with pytest.raises(InputError, match="axes is a list with an Axes for each of 3 depths"):
        plots.principal_components(result, axes=[ax])
    with pytest.raises(InputError, match="this picture takes a result of separability, got int"):
        plots.probe_accuracy(3)
