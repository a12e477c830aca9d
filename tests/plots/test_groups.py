"""Heads and lenses by group: every number where it belongs, and groups that cannot be drawn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from maze_dla import plots
from maze_dla.errors import InputError

DISTANCES = [1, 2, 2, 5, 5, 5, 5, 9, 9, 9, 9, 9]


@pytest.fixture
def result(attribution):
    columns = {"maze": tuple("aabbccddeeff"), "distance": torch.tensor(DISTANCES), "step": torch.arange(12) % 3}
    made = attribution(n=12)
    return replace(made, columns=columns, info={**made.info, "unit": "maze"})


def curves(ax) -> dict[str, np.ndarray]:
    return {bars.get_label(): bars.lines[0].get_ydata() for bars in ax.containers}


def test_each_head_has_its_mean_and_interval_in_each_group(result, ax):
    plots.heads_by(result, "distance", heads=["L1H2", (0, 1)], ax=ax)
    expected = result.group_by("distance").summary("heads")
    assert list(curves(ax)) == ["L1H2", "L0H1"]
    assert np.allclose(curves(ax)["L1H2"], expected.mean[:, 1, 2].numpy())
    assert np.allclose(curves(ax)["L0H1"], expected.mean[:, 0, 1].numpy())
    ends = np.array([line[:, 1] for line in ax.containers[0].lines[2][0].get_segments() if len(line)])
    known = ~expected.low[:, 1, 2].isnan()
    assert known.tolist() == [False, True, True, True]  # the first group is of one maze
    assert np.allclose(ends[-3:, 0], expected.low[known, 1, 2].numpy())
    assert np.allclose(ends[-3:, 1], expected.high[known, 1, 2].numpy())
    below = [label.get_text() for label in ax.get_xticklabels()]
    assert below == ["1\n1 prompt", "2\n2 prompts", "5\n4 prompts", "9\n5 prompts"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("distance", "mean contribution (logits)")
    assert ax.get_title() == "Heads by distance: correct minus mean of neighbors"


def test_the_strongest_over_all_prompts_are_drawn(result, ax):
    plots.heads_by(result, "distance", bins=2, k=3, ax=ax)
    assert list(curves(ax)) == [part.name for part in result.top_heads(3)]
    assert len(ax.get_xticks()) == 2


def test_groups_are_drawn_as_what_they_were_made_of(result, ax):
    from matplotlib import pyplot as plt

    own, other = curves(plots.heads_by(result.group_by("distance"), ax=ax)), plt.subplots()[1]
    again = curves(plots.heads_by(result, "distance", ax=other))
    assert own.keys() == again.keys()
    assert all(np.array_equal(own[name], again[name]) for name in own)


def test_wide_intervals_of_small_groups_go_beyond_the_axis(result, ax):
    heads = torch.zeros_like(result.heads)
    heads[1, 0, 0], heads[2, 0, 0] = -50, 50
    distances = torch.tensor([1, 2, 2, *[5] * 9])
    wild = replace(result, heads=heads, columns={**result.columns, "distance": distances})
    plots.heads_by(wild, "distance", heads=["L0H0"], ax=ax)
    assert wild.group_by("distance").summary("heads").high[1, 0, 0] > 100
    assert ax.get_ylim()[1] < 2


def test_heads_along_the_path(result, ax):
    plots.heads_along_path(result, heads=["L0H0"], ax=ax)
    steps = torch.arange(12) % 3
    expected = [float(result.heads[steps == i, 0, 0].double().mean()) for i in range(3)]
    assert np.allclose(curves(ax)["L0H0"], expected)
    assert "path cells before the predicted token" in ax.get_xlabel()
    with pytest.raises(InputError, match=r"no steps of a path: their table has no column 'step'"):
        plots.heads_along_path(replace(result, columns={}))


def test_a_lens_has_a_curve_for_each_group(result, depths, ax):
    grouped = result.group_by("distance", bins=2)
    plots.lens(grouped, ax=ax)
    drawn = [line for line in ax.lines if len(line.get_xdata()) > 2]
    assert len(drawn) == 2
    for line, group in zip(drawn, grouped.results, strict=True):
        assert np.allclose(line.get_ydata(), group.lens_summary().summary.mean.numpy())
        assert line.get_label().startswith(f"distance {'1 to 5' if group is grouped.results[0] else '9'}: ")
    lens = depths()
    plots.lens(lens.group_by([0] * len(lens)), ax=ax)


def test_what_cannot_be_drawn(result, depths):
    grouped, lens = result.group_by("distance"), depths()
    for draw, message in (
        (lambda: plots.heads_by(result), "heads are drawn by a column of the table: name it, such as 'distance'"),
        (lambda: plots.heads_by(grouped, "step"), "these are groups by 'distance' already: leave column and bins out"),
        (lambda: plots.heads_by(lens.group_by([0] * len(lens))), "takes groups of results of attribute, got LensRes"),
        (lambda: plots.heads_by(result, "distance", heads="L0H0"), r"heads is a list of heads, such as \['L5H3'"),
        (lambda: plots.heads_by(result, "distance", heads=[]), "heads is a list of heads"),
        (lambda: plots.heads_by(result, "distance", heads=[(9, 9)]), r"got head \(9, 9\)"),
        (lambda: plots.heads_by(result, "distance", k=0), "k is at least 1, got 0"),
    ):
        with pytest.raises(InputError, match=message):
            draw()
