from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from maze_dla import plots
from maze_dla.errors import InputError


def test_bars_are_the_strongest_neurons_in_order(attribution, ax):
    result = attribution()
    assert plots.neurons(result, ax, k=7) is ax
    mean = result.neurons.double().mean(0)
    order = mean.abs().flatten().argsort(descending=True)[:7]
    np.testing.assert_allclose([bar.get_width() for bar in ax.containers[1]], mean.flatten()[order])
    assert [t.get_text() for t in ax.get_yticklabels()] == [f"L{i // 30}N{i % 30}" for i in order.tolist()]
    bottom, top = ax.get_ylim()
    assert bottom > top, "the strongest is at the top"


def test_intervals_and_signs(attribution, ax):
    result = attribution()
    plots.neurons(result, ax, k=20)
    ranked = result.top_neurons(20)
    assert {part.mean > 0 for part in ranked} == {True, False}
    _, _, (bars,) = ax.containers[0]
    for segment, part in zip(bars.get_segments(), ranked, strict=True):
        np.testing.assert_allclose(segment[:, 0], [part.low, part.high])
    colours = {(bar.get_width() > 0, bar.get_facecolor()) for bar in ax.containers[1]}
    assert len(colours) == 2


def test_means_alone_are_enough(attribution, ax):
    assert plots.neurons(replace(attribution(), neurons=None), ax) is ax


def test_errors(attribution):
    with pytest.raises(InputError, match=r"no neurons: ask with attribute\(\.\.\., neurons=True\)"):
        plots.neurons(replace(attribution(), neurons=None, neuron_mean=None, neuron_variance=None))
    with pytest.raises(InputError, match="k is at least 1, got 0"):
        plots.neurons(attribution(), k=0)
