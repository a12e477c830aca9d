from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from maze_dla import plots
from maze_dla.errors import InputError
from maze_dla.plots._colours import text_colour


def test_the_heat_map_is_the_mean(attribution, ax):
    result = attribution()
    assert plots.heads(result, ax) is ax
    np.testing.assert_allclose(ax.images[0].get_array(), result.heads.mean(0), rtol=1e-4, atol=1e-6)


def test_limits_are_symmetric_and_reached(attribution, ax):
    result = attribution()
    plots.heads(result, ax)
    low, high = ax.images[0].get_clim()
    assert low == -high
    assert high == pytest.approx(float(result.heads.mean(0).abs().max()))


def test_a_model_that_does_nothing_has_limits(attribution, ax):
    result = attribution()
    plots.heads(replace(result, heads=torch.zeros_like(result.heads)), ax)
    assert ax.images[0].get_clim() == (-1, 1)


@pytest.mark.parametrize("label", [0, 3, 5])
def test_the_strongest_heads_are_named_at_their_place(attribution, ax, label):
    result = attribution()
    plots.heads(result, ax, label=label)
    mean = result.heads.mean(0)
    order = mean.abs().flatten().argsort(descending=True)[:label].tolist()
    expected = {f"L{i // 4}H{i % 4}": (i % 4, i // 4) for i in order}
    assert {text.get_text().strip("()"): text.get_position() for text in ax.texts} == expected


def test_names_in_brackets_are_of_heads_whose_interval_includes_zero(attribution, ax):
    result = attribution()
    heads = result.heads.clone()
    heads[:, :, 0] -= heads[:, :, 0].mean(0)
    heads[:, :, 1] += 10 * heads.abs().max()
    result = replace(result, heads=heads)
    plots.heads(result, ax, label=heads[0].numel())
    ranked = result.top_heads(heads[0].numel())
    marked = {text.get_text() for text in ax.texts}
    assert marked == {f"({h.name})" if h.low <= 0 <= h.high else h.name for h in ranked}
    assert 0 < sum(name.startswith("(") for name in marked) < len(marked)


def test_names_are_dark_on_light_and_light_on_dark():
    assert text_colour(np.array([1.0, 1.0, 1.0, 1.0])) == "black"
    assert text_colour(np.array([0.02, 0.19, 0.38, 1.0])) == "white"


def test_a_negative_label_is_an_error(attribution):
    with pytest.raises(InputError, match="label is at least 0, got -1"):
        plots.heads(attribution(), label=-1)
