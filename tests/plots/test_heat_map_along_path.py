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
    assert "the final norm's scale" in ax.get_title().replace("\n", " ")


def test_the_layers_heat_map_sums_to_the_metric(attribution, ax):
    result = attribution(n=30)
    assert plots.layers_along_path(result, STEPS, ax) is ax
    shown = np.asarray(ax.images[0].get_array())
    np.testing.assert_allclose(shown[:-1], means(result.layers))
    np.testing.assert_allclose(shown.sum(0), means(result.metric[:, None])[0], atol=1e-5)
    assert ticks(ax.yaxis)[0] == "token embedding"
    assert ticks(ax.yaxis)[-1] == "constant"


def test_steps_are_taken_whatever_the_default_device(depths, ax):
    result = depths()
    with torch.device("meta"):
        plots.lens_along_path(result, STEPS.tolist(), ax)
    np.testing.assert_allclose(ax.images[0].get_array(), means(result.values))
    with pytest.raises(InputError, match=r"^steps has no values: it lies on the meta device$"):
        plots.lens_along_path(result, STEPS.to("meta"))


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


def test_steps_with_few_prompts_do_not_set_the_colours(depths, ax):
    result = depths()
    steps = [i % 4 for i in range(29)] + [9]
    result.values[29] *= 50  # the only prompt of step 9
    plots.lens_along_path(result, steps, ax)
    often = np.array([[result.values[k:29:4, depth].double().mean() for k in range(4)] for depth in range(13)])
    assert ax.images[0].get_clim()[1] == pytest.approx(np.abs(often).max())
    assert ax.images[0].colorbar.extend == "both"
    assert float(ax.images[0].get_array()[-1, -1]) == pytest.approx(float(result.values[29, -1]))
    few = plots.lens_along_path(result, list(range(30)))
    assert few.images[0].get_clim()[1] == pytest.approx(float(result.values.abs().max()))
    assert few.images[0].colorbar.extend == "neither"


class Batch:
    """Prompts that know their steps, as a picture sees them."""

    def __init__(self, labels, steps):
        self.labels, self.steps = labels, steps


def test_the_batch_itself_is_taken(depths, attribution, ax):
    result = depths()
    plots.lens_along_path(result, Batch(result.prompt_tokens, STEPS), ax)
    np.testing.assert_allclose(ax.images[0].get_array(), means(result.values))
    other = (*result.prompt_tokens[:4], ("x", *result.prompt_tokens[4][1:]), *result.prompt_tokens[5:])
    for draw in (
        lambda batch: plots.lens_along_path(result, batch),
        lambda batch: plots.layers_along_path(attribution(n=30), batch),
    ):
        with pytest.raises(InputError, match=r"other prompts: at position 0 it has 'x', where prompt 4 of the result"):
            draw(Batch(other, STEPS))
        with pytest.raises(InputError, match="the batch has 29 prompts, the result 30"):
            draw(Batch(result.prompt_tokens[1:], STEPS[1:]))


def test_a_long_path(depths):
    result = depths(n=60)
    ax = plots.lens_along_path(result, torch.arange(60))
    assert len(ticks(ax.xaxis)) == 60


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([1, 2], r"steps has shape \(2,\), expected one for each of 30 prompts"),
        (torch.zeros(30, 1, dtype=torch.long), r"steps has shape \(30, 1\)"),
        (Batch((("x",),) * 30, None), "steps are a whole number for each prompt, or the batch of paths"),
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
