from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from maze_dla import plots
from maze_dla.errors import InputError

STEPS = torch.tensor([i % 4 if i % 5 else 7 for i in range(30)]) - 1
NAMES = sorted(set(STEPS.tolist()))


def means(values):
    """[row, step], one step after the other."""
    return np.array([values[step == STEPS].double().mean(0).tolist() for step in NAMES]).T


def ticks(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def test_the_lens_heat_map_is_the_mean_of_each_step(depths, ax):
    result = depths()
    assert plots.lens_along_path(result, STEPS, ax) is ax
    np.testing.assert_allclose(ax.images[0].get_array(), means(result.values))
    assert ticks(ax.yaxis)[:3] == ["embeddings", "attention 0", "MLP 0"]
    assert len(ticks(ax.yaxis)) == len(result.labels)
    assert "the final norm's scale" in ax.get_title()


def test_the_layers_heat_map_sums_to_the_metric(attribution, ax):
    result = attribution(n=30)
    assert plots.layers_along_path(result, STEPS, ax) is ax
    shown = np.asarray(ax.images[0].get_array())
    np.testing.assert_allclose(shown[:-1], means(result.layers))
    np.testing.assert_allclose(shown.sum(0), means(result.metric[:, None])[0], atol=1e-5)
    assert ticks(ax.yaxis)[0] == "token embedding"
    assert ticks(ax.yaxis)[-1] == "constant"


def test_under_each_step_stands_the_number_of_its_prompts(depths, ax):
    plots.lens_along_path(depths(), STEPS.tolist(), ax)
    assert ticks(ax.xaxis) == [f"{step}\n{int((step == STEPS).sum())}" for step in NAMES]
    assert NAMES[0] == -1


def test_zero_is_in_the_middle_of_the_colours(depths, attribution, ax):
    result = depths()
    plots.lens_along_path(result, STEPS, ax)
    low, high = ax.images[0].get_clim()
    assert low == -high == pytest.approx(-float(np.abs(means(result.values)).max()))
    assert ax.images[0].get_cmap().name == "RdBu_r"
    nothing = attribution(n=30)
    nothing = replace(nothing, layers=0 * nothing.layers, constant=0 * nothing.constant)
    assert plots.layers_along_path(nothing, STEPS).images[0].get_clim() == (-1, 1)


def test_a_long_path(depths):
    result = depths(n=60)
    ax = plots.lens_along_path(result, torch.arange(60))
    assert len(ticks(ax.xaxis)) == 60


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([1, 2], r"steps has shape \(2,\), expected one for each of 30 prompts"),
        (torch.zeros(30, 1, dtype=torch.long), r"steps has shape \(30, 1\)"),
        (torch.zeros(30), "steps are whole numbers, got torch.float32"),
        ([True] * 30, "steps are whole numbers, got torch.bool"),
    ],
)
def test_steps_that_are_none(depths, attribution, steps, message):
    for draw in (
        lambda: plots.lens_along_path(depths(), steps),
        lambda: plots.layers_along_path(attribution(n=30), steps),
    ):
        with pytest.raises(InputError, match=message):
            draw()
