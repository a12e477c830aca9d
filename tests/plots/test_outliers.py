from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from maze_dla import plots
from maze_dla.errors import InputError
from maze_dla.plots._colours import VERMILION
from tests.results.causal_results import make_patch
from tests.results.outlier_results import make_outliers


def dots(ax):
    """The points of each group, by its name in the legend."""
    return {c.get_label(): np.asarray(c.get_offsets()) for c in ax.collections if len(c.get_offsets())}


def test_points_are_increases_against_inverse_outlier_scores(ax):
    result = make_outliers()
    assert plots.mlp_outliers(result, ax, label=3) is ax
    top = result.top(3)
    found = dots(ax)
    assert set(found) == {"all positions", "6 random positions", "3 largest scores"}
    np.testing.assert_allclose(found["3 largest scores"], [(1 / r.outlier, r.loss_increase) for r in top])
    assert len(found["all positions"]) == int(result.ranked.sum())
    assert [text.get_text() for text in ax.texts] == [f"t{row.position} L{row.layer}" for row in top]
    assert ax.get_xscale() == "log"
    assert ax.get_xlabel().replace("\n", " ") == (
        "inverse outlier score 1 / (max - mean) over neurons, before the norm"
    )
    (chosen,) = [c for c in ax.collections if c.get_label() == "3 largest scores"]
    assert chosen.get_facecolor()[0].tolist()[:3] == pytest.approx(_rgb(VERMILION))


def test_points_are_scores_after_against_before(ax):
    result = make_outliers()
    plots.mlp_outliers_after_norm(result, ax)
    found = dots(ax)["4 largest scores"]
    np.testing.assert_allclose(found[:, 1], 3 * found[:, 0])
    assert ax.get_title().replace("\n", " ").startswith("Outlier scores before and after the norm")
    assert "same before and after" in [line.get_label() for line in ax.lines]


def test_without_a_norm_the_title_says_so(ax):
    plots.mlp_outliers_after_norm(make_outliers(normed=False), ax)
    assert ax.get_title().replace("\n", " ").startswith("No norm inside the MLP: scores stay")
    assert "before the norm" not in plots.mlp_outliers(make_outliers(normed=False)).get_xlabel()


def test_what_is_refused():
    for draw in (plots.mlp_outliers, plots.mlp_outliers_after_norm):
        with pytest.raises(InputError, match="takes a result of mlp_outliers, got PatchResult"):
            draw(make_patch())
        with pytest.raises(InputError, match="label is at least 0, got -1"):
            draw(make_outliers(), label=-1)
        with pytest.raises(InputError, match="no position can be drawn"):
            draw(replace(make_outliers(), outlier=make_outliers().outlier * 0))


def _rgb(colour):
    return [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
