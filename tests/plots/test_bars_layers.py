from __future__ import annotations

import numpy as np
import pytest

from maze_dla import plots


def heights(ax):
    return np.array([bar.get_height() for bar in ax.containers[1]])


def test_bars_are_the_means_and_sum_to_the_metric(attribution, ax):
    result = attribution()
    assert plots.layers(result, ax) is ax
    np.testing.assert_allclose(heights(ax)[:-1], result.layers.mean(0), rtol=1e-5)
    np.testing.assert_allclose(heights(ax)[-1], result.constant.mean(), rtol=1e-5)
    np.testing.assert_allclose(heights(ax).sum(), result.metric.mean(), rtol=1e-4)


def test_error_bars_are_the_interval(attribution, ax):
    result = attribution()
    plots.layers(result, ax)
    summary = result.layer_summary()
    _, _, (bars,) = ax.containers[0]
    for i, segment in enumerate(bars.get_segments()[:-1]):
        np.testing.assert_allclose(segment[:, 1], [summary.low[i], summary.high[i]])


def test_kinds_have_names_and_colours(attribution, ax):
    plots.layers(attribution(n_layers=1), ax)
    names = [label.get_text() for label in ax.get_xticklabels()]
    assert names == ["token embedding", "position embedding", "attention 0", "MLP 0", "constant"]
    colours = [bar.get_facecolor() for bar in ax.containers[1]]
    assert colours[0] == colours[1]
    assert len(set(colours)) == 4
    shown = {t.get_text(): h.get_facecolor() for t, h in zip(*legend(ax), strict=True)}
    assert shown == dict(zip(["embeddings", "attention", "MLP", "constant"], colours[1:], strict=True))


def legend(ax):
    return ax.get_legend().get_texts(), ax.get_legend().get_patches()


def test_a_kind_that_is_not_there_is_not_in_the_legend(attribution, ax):
    from dataclasses import replace

    whole = attribution(n_layers=1)
    result = replace(whole, layers=whole.layers[:, :3], layer_labels=whole.layer_labels[:3])
    plots.layers(result, ax)
    assert [t.get_text() for t in legend(ax)[0]] == ["embeddings", "attention", "constant"]


@pytest.mark.filterwarnings("ignore:.*degrees of freedom")
def test_one_prompt(attribution, ax):
    plots.layers(attribution(n=1), ax)
    assert np.isfinite(heights(ax)).all()
