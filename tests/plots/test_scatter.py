from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgba

from maze_dla import plots
from maze_dla.errors import InputError
from maze_dla.plots._colours import GREY, VERMILION
from maze_dla.plots._points import name_points
from tests.results.causal_results import make_effects, make_patch, noise

HEADS = ("layer", "head")


def both(**changes):
    """Values and patterns of one run, which rank heads in other orders."""
    values = make_patch(HEADS, site="v", **changes)
    other = values.metric[:, None, None] + 0.5 * values.change.flip(1) + 0.1 * noise(24, 3, 4, seed=7)
    return values, replace(values, site="pattern", values=other)


def dots(ax):
    """The points of each colour."""
    return [c for c in ax.collections if len(c.get_offsets()) and hasattr(c, "get_sizes") and len(c.get_sizes())]


def texts(ax):
    return {text.get_text(): text.xy for text in ax.texts}


def test_a_point_is_a_head_at_both_of_its_shares(ax):
    values, patterns = both()
    assert plots.values_and_patterns(values, patterns, ax) is ax
    expected = np.stack([r.recovered.mean.flatten() for r in (values, patterns)], 1)
    np.testing.assert_allclose(dots(ax)[0].get_offsets(), expected, rtol=1e-6)
    assert ax.get_xlabel() == "values patched: metric, from 0 (corrupted) to 1 (clean)"
    assert ax.get_ylabel() == "patterns patched: metric, from 0 (corrupted) to 1 (clean)"
    title = ax.get_title().replace("\n", " ")
    assert title == "Heads patched, clean into corrupted: logit difference, 24 pairs about 12 mazes"


def test_the_strongest_by_either_are_named_at_their_place(ax):
    values, patterns = both()
    plots.values_and_patterns(values, patterns, ax, label=3)
    found = texts(ax)
    assert set(found) == {"L2H3", "L2H2", "L2H1"}
    assert found["L2H3"] == pytest.approx([float(r.recovered.mean[2, 3]) for r in (values, patterns)])


def test_of_the_noised_run_heads_that_change_nothing_are_not_named(ax):
    """They keep the metric at 1, which is not the strongest effect."""
    values, patterns = both(direction="noise")
    plots.values_and_patterns(values, patterns, ax, label=2)
    size = torch.maximum(*(r.change.double().mean(0).abs() for r in (values, patterns))).flatten()
    assert set(texts(ax)) == {values.site_names[i] for i in size.argsort(descending=True)[:2]}
    assert "corrupted into clean" in ax.get_title().replace("\n", " ")


def test_where_shares_are_not_known_they_are_changes(ax):
    values, patterns = both(apart=0.0)
    plots.values_and_patterns(values, patterns, ax)
    expected = np.stack([r.change_summary.mean.flatten() for r in (values, patterns)], 1)
    np.testing.assert_allclose(dots(ax)[0].get_offsets(), expected, rtol=1e-6)
    assert ax.get_xlabel() == "values patched: mean change (logits)"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v, p: (p, v), "values are of the site 'v' by layer and head, got 'pattern'"),
        (lambda v, p: (v, v), "patterns are of the site 'pattern' by layer and head, got 'v'"),
        (lambda v, p: (v, None), "this picture takes a result of patch, got None"),
        (lambda v, p: (make_patch(site="v"), p), "got 'v' by layer and position"),
        (lambda v, p: (v.select(range(8)), p), "the batch has 24 prompts, the result 8"),
        (lambda v, p: (v, replace(p, direction="noise")), "have other directions: denoise and noise"),
        (lambda v, p: (v, replace(p, info={**p.info, "positions": "read"})), "have other positions: None and read"),
        (lambda v, p: (v, replace(p, values=p.values[:, :2])), r"have other heads: \(3, 4\) and \(2, 4\)"),
        (lambda v, p: (v, replace(p, info={**p.info, "metric": "logit"})), "have other metrics: logit diff"),
    ],
)
def test_other_results_do_not_belong_together(change, message):
    with pytest.raises(InputError, match=message):
        plots.values_and_patterns(*change(*both()))


def test_a_part_is_at_its_direct_and_total_effect(ax):
    effects = make_effects()
    assert plots.direct_and_total(effects, ax) is ax
    points = np.stack([v.double().mean(0).flatten() for v in (effects.direct, effects.total)], 1)
    drawn = np.concatenate([d.get_offsets() for d in dots(ax)])
    np.testing.assert_allclose(drawn[np.lexsort(drawn.T)], points[np.lexsort(points.T)], rtol=1e-6)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("mean direct effect (logits)", "mean total effect (logits)")
    assert "(value mean, positions read): logit difference, 24 prompts about 12 mazes" in ax.get_title().replace(
        "\n", " "
    )


def test_those_off_the_line_are_marked_and_named(ax):
    effects = make_effects()
    plots.direct_and_total(effects, ax)
    off = {"L0H0", "L0H1", "L0H2", "L0H3", "L1H0", "L1H1"}
    found = texts(ax)
    assert set(found) == off
    mean = [float(v.double().mean(0)[1, 1]) for v in (effects.direct, effects.total)]
    assert found["L1H1"] == pytest.approx(mean)
    colours = {tuple(d.get_facecolor()[0]): len(d.get_offsets()) for d in dots(ax)}
    assert colours == {to_rgba(VERMILION): 6, to_rgba(GREY): 6}


def test_the_farthest_are_named_first(ax):
    plots.direct_and_total(make_effects(), ax, label=1)
    mean = make_effects().indirect.double().mean(0).flatten()
    assert list(texts(ax)) == [make_effects().part_labels[int(mean.abs().argmax())]]


def test_nothing_is_named_where_all_is_direct_or_may_be_noise(ax):
    effects = make_effects()
    plots.direct_and_total(replace(effects, total=effects.direct), ax)
    assert not ax.texts
    plots.direct_and_total(replace(effects, total=effects.total + 50 * noise(24, 3, 4, seed=3)), ax)
    assert len(ax.texts) < 6
    plots.direct_and_total(make_effects(n_mazes=1), ax)
    assert len(ax.texts) < 6


def test_the_diagonal_is_there(ax):
    plots.direct_and_total(make_effects(), ax)
    line = next(line for line in ax.lines if line.get_label() == "total = direct")
    assert line.get_slope() == 1
    assert line.get_xy1() == (0, 0)


@pytest.mark.parametrize(
    ("effects", "options", "message"),
    [
        (None, {}, "this picture takes a result of ablate, got None"),
        (make_patch(), {}, "this picture takes a result of ablate, got PatchResult"),
        (make_effects(), {"label": -1}, "label is at least 0, got -1"),
    ],
)
def test_what_cannot_be_drawn_is_an_error(effects, options, message):
    with pytest.raises(InputError, match=message):
        plots.direct_and_total(effects, **options)


def test_names_do_not_cover_each_other(ax):
    """Nine points close together in a row and a column, and their names once they are drawn."""
    near = [(0.03 * i, 0.0) for i in range(5)] + [(0.06, 0.03 * i) for i in range(1, 5)]
    ax.set(xlim=(-0.5, 0.7), ylim=(-0.5, 0.7))
    name_points(ax, np.array(near), [f"L1H{i}" for i in range(9)])
    ax.figure.canvas.draw()
    boxes = [text.get_window_extent() for text in ax.texts]
    covered = [
        min(a.x1, b.x1) - max(a.x0, b.x0) > 2 and min(a.y1, b.y1) - max(a.y0, b.y0) > 2
        for i, a in enumerate(boxes)
        for b in boxes[:i]
    ]
    assert len(boxes) == 9
    assert not any(covered)


def test_a_point_without_a_name_has_none(ax):
    name_points(ax, np.array([[0.2, 0.2], [0.5, 0.5]]), [None, "L0H1"])
    assert texts(ax) == {"L0H1": pytest.approx((0.5, 0.5))}
