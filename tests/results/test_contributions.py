"""Contributions add, subtract and scale where their labels agree, and are refused where they do not."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import maze_dla as dla
from maze_dla.errors import InputError
from maze_dla.results.attribution import AttributionResult, ContributionResult
from maze_dla.results.components import Component
from maze_dla.results.contributions import Contributions
from maze_dla.results.measures import shares_of_the_metric, totals_of
from tests.engine.small_models import make_batch, random_metric, shared_model

NUMBERS = ("layers", "heads", "attn_bias", "mlp_bias", "constant", "neurons", "sources")


def attribution(seed: int = 2, **options: Any) -> AttributionResult:
    batch = make_batch(seed=seed)
    return dla.attribute(shared_model(), batch, random_metric(batch), **{"neurons": True, "sources": True, **options})


def test_the_metric_is_what_everything_sums_to() -> None:
    result = attribution()
    torch.testing.assert_close(result.total(), result.metric.double() - result.gap, rtol=0, atol=1e-12)


def test_sums_and_differences_are_those_of_every_entry() -> None:
    one, two = attribution(), attribution(seed=8)
    weights = torch.arange(len(one), dtype=torch.float32) - 2
    for made, expected in (
        (one + two, lambda a, b: a + b),
        (one - two, lambda a, b: a - b),
        (0.5 * (one - two), lambda a, b: (a - b) / 2),
        ((one + two) * weights, lambda a, b: (a + b) * weights.view(-1, *[1] * (a.ndim - 1))),
    ):
        assert type(made) is Contributions  # accuracy, scales and patterns are not linear
        assert made.components == one.components
        for name in NUMBERS:
            a, b = getattr(one, name), getattr(two, name)
            torch.testing.assert_close(getattr(made, name), expected(a, b), rtol=1e-6, atol=1e-6)


def test_what_one_of_them_lacks_the_sum_lacks() -> None:
    made = attribution() - attribution(seed=8, neurons=False)
    assert made.neurons is None
    assert made.sources is not None


def test_other_labels_shapes_and_factors_are_refused() -> None:
    one = attribution()
    swapped = replace(one, layer_labels=("pos_embed", "embed", *one.layer_labels[2:]))
    with pytest.raises(InputError, match=r"contributions with other layer_labels: \('embed', 'pos_embed'"):
        one + swapped
    fewer = make_batch((5, 31))
    with pytest.raises(InputError, match=r"of other shapes: layers \(7, 6\) and \(2, 6\)"):
        one - dla.attribute(shared_model(), fewer, random_metric(fewer))
    for factor in (torch.ones(2), "a", 2j, [1.0, 2.0], torch.ones(7, dtype=torch.complex64)):
        with pytest.raises(InputError, match="contributions are multiplied by a number, or by one for each prompt"):
            one * factor


def test_factors_of_numpy_are_those_of_torch() -> None:
    one = attribution()
    weights = np.arange(len(one), dtype=np.float32)
    for made in (one * weights, weights * one, list(map(float, weights)) * one):
        assert made.heads.equal((one * torch.from_numpy(weights)).heads)


def test_contributions_alone_are_saved_and_streamed(tmp_path: Path) -> None:
    """As a contrast of two runs is, which has no scale and no patterns of its own."""
    result = attribution(sources=False, neurons="mean")
    chosen = {f.name: getattr(result, f.name) for f in fields(ContributionResult)}
    alone = ContributionResult(**chosen)
    again = dla.load_result(alone.save(tmp_path / "alone.zanj"))
    assert type(again) is ContributionResult
    assert again.heads.equal(alone.heads)
    stream = dla.stream(lambda _: alone, [1, 2])
    assert {"neurons", "heads"} <= stream.means.keys()
    assert "final_scale" not in stream.means
    loaded = dla.load_result(stream.save(tmp_path / "stream.zanj"))
    dla.plots.heads(alone)
    dla.plots.heads(loaded)


def test_kinds_that_one_lacks_the_sum_lacks() -> None:
    batch = make_batch()
    batch = replace(batch, kinds=("a", "b"), sequence_kinds=batch.sequences % 2)
    by_kind, without = (dla.attribute(shared_model(), batch, dla.logit(batch), sources=s) for s in ("kinds", False))
    assert (by_kind + without).sources_by_kind is None
    assert (by_kind - by_kind).kinds == ("a", "b")


def test_components_are_named_and_found_again() -> None:
    for component, name in (
        (Component("embed"), "embed"),
        (Component("attn_out", 3), "3_attn_out"),
        (Component("head", 5, 11), "L5H11"),
    ):
        assert str(component) == name
        assert Component.named(name) == component
    result = attribution()
    assert torch.equal(result.of_kind("mlp_out"), result.layers[:, [3, 5]])


def test_a_third_embedding_breaks_nothing(tmp_path: Path) -> None:
    """As position tables without rotation or a steering vector are: it stands before the first block."""
    result = attribution()
    labels = (*result.layer_labels[:2], "steering", *result.layer_labels[2:])
    added = torch.full((len(result), 1), 0.25)
    layers = torch.cat([result.layers[:, :2], added, result.layers[:, 2:]], 1)
    constant = result.constant - 0.25
    gap = result.metric.double() - layers.double().sum(1) - constant.double()
    steered = replace(result, layers=layers, layer_labels=labels, constant=constant, gap=gap)
    lens, expected = steered.lens(), result.lens()
    assert lens.labels == expected.labels
    torch.testing.assert_close(lens.values, expected.values, rtol=1e-5, atol=1e-5)
    assert set(steered.to_frame().component) == set(result.to_frame().component) | {"steering"}
    dla.plots.layers(steered)
    assert dla.load_result(steered.save(tmp_path / "steered.zanj")).components == steered.components  # pyright: ignore
    written = [shares_of_the_metric(totals_of(r), r.components)["written by embeddings"] for r in (result, steered)]
    more = float(written[1].replicates[0] - written[0].replicates[0])
    assert more == pytest.approx(0.25 / float(result.metric.mean()), rel=1e-4)
