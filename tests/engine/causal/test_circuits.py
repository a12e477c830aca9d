"""Keeping some parts and ablating all others at once, against hooks; circuits found on one half of the mazes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import maze_dla as dla
from maze_dla.engine.causal import circuits
from maze_dla.engine.causal.supplies import donors_of
from maze_dla.engine.metrics import LinearMetric
from maze_dla.engine.prompts import PromptBatch
from maze_dla.errors import InputError
from maze_dla.results.buckets import buckets_of, halves
from tests.engine.pairs_of_tokens import random_pairs
from tests.engine.small_models import make_batch, random_metric, shared_model

from .one_at_a_time import coefficients_of, prompt, read, run
from .test_ablation import LENGTHS, Means, puts_of

PARTS = [f"L{i}H{h}" for i in range(2) for h in range(3)] + ["0_mlp_out", "1_mlp_out"]


@pytest.fixture(scope="module")
def model() -> Any:
    return shared_model(torch.float64)


@pytest.fixture(scope="module")
def batch() -> PromptBatch:
    found = random_pairs(LENGTHS).clean
    return replace(found, columns={"maze": torch.tensor([0, 1, 2, 0, 2, 1])}, unit="maze")


@pytest.fixture(scope="module")
def metric(batch: PromptBatch) -> LinearMetric:
    return random_metric(batch)


def kept_by_hooks(
    model: Any, batch: PromptBatch, metric: LinearMetric, kept: list[str], value: str, positions: Any, seed: int
) -> Tensor:
    coefficients, means, found = coefficients_of(metric), Means(model, batch), []
    donors = donors_of(batch, batch, positions, seed) if value == "resample" else torch.zeros(len(batch)).long()
    for i in range(len(batch)):
        plain, donor = run(model, prompt(batch, i)), means.runs[int(donors[i])]
        puts = [
            put
            for part in PARTS
            if part not in kept
            for put in puts_of(i, batch, part, value, positions, plain, means, donor)
        ]
        found.append(read(model, prompt(batch, i), coefficients[i], puts))
    return torch.tensor(found, dtype=torch.float64)


@pytest.mark.parametrize("forward", ["auto", "hooked"])
@pytest.mark.parametrize("positions", ["read", "all"])
@pytest.mark.parametrize("value", ["zero", "mean", "resample"])
def test_keeping_parts_is_ablating_the_others(
    model: Any, batch: PromptBatch, metric: LinearMetric, value: Any, positions: Any, forward: Any
) -> None:
    kept = ["L1H2", "0_mlp_out"]
    options: Any = {"value": value, "positions": positions, "forward": forward, "seed": 2}
    found = dla.keep_only(model, batch, metric, kept, **options)
    torch.testing.assert_close(found.kept, kept_by_hooks(model, batch, metric, kept, value, positions, 2))
    torch.testing.assert_close(found.ablated, kept_by_hooks(model, batch, metric, [], value, positions, 2))
    assert found.parts == tuple(kept)
    assert (found.kept - found.ablated).abs().min() > 1e-6


def test_all_kept_is_the_model_and_none_kept_is_none(model: Any, batch: PromptBatch, metric: LinearMetric) -> None:
    for positions in ("read", "all"):
        everything = dla.keep_only(model, batch, metric, PARTS, positions=positions)  # pyright: ignore
        torch.testing.assert_close(everything.kept, everything.metric)
        torch.testing.assert_close(everything.metric, dla.attribute(model, batch, metric).metric)
        nothing = dla.keep_only(model, batch, metric, [], positions=positions)  # pyright: ignore
        assert torch.equal(nothing.kept, nothing.ablated)
        torch.testing.assert_close(nothing.ablated, everything.ablated)
        share = everything.share.mean
        assert bool(share.isnan()) or float(share) == pytest.approx(1.0)


def test_sets_in_pieces_are_the_same(model: Any, batch: PromptBatch, metric: LinearMetric) -> None:
    whole = dla.keep_only(model, batch, metric, ["L0H0"], positions="all")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(circuits, "MOST_NUMBERS", 1)
        pieces = dla.keep_only(model, batch, metric, ["L0H0"], positions="all", sequences_at_once=1)
    torch.testing.assert_close(pieces.kept, whole.kept)
    torch.testing.assert_close(pieces.ablated, whole.ablated)


@pytest.fixture(scope="module")
def many() -> tuple[PromptBatch, LinearMetric]:
    batch = make_batch(tuple(range(5, 13)) * 2)
    batch = replace(batch, columns={"maze": torch.arange(16) // 2}, unit="maze")
    return batch, dla.correct_vs_other(batch)


def test_the_result_is_that_of_mazes_that_did_not_choose(model: Any, many: tuple[PromptBatch, LinearMetric]) -> None:
    """And the choice is the greedy one, found once more by keeping each set in turn."""
    batch, metric = many
    choosing = halves()[0][buckets_of(batch.columns["maze"])]
    one, two = (torch.nonzero(half).flatten() for half in (choosing, ~choosing))
    options: Any = {"value": "mean", "reference": batch}
    full = float(dla.keep_only(model, batch.select(one), metric.select(one), [], **options).metric.mean())
    sign = (
        1.0
        if full > float(dla.keep_only(model, batch.select(one), metric.select(one), [], **options).kept.mean())
        else -1.0
    )
    metric = metric if sign > 0 else dla.linear_metric(batch, -metric.coefficients())
    found = dla.find_circuit(model, batch, metric, share=0.7, value="mean")
    assert found.info["chosen_on"] == len(one)
    assert found.prompt_tokens == batch.select(two).labels
    scored = dla.keep_only(model, batch.select(two), metric.select(two), found.parts, **options)
    torch.testing.assert_close(found.kept, scored.kept)
    torch.testing.assert_close(found.ablated, scored.ablated)

    def mean_with(parts: list[str]) -> float:
        return float(dla.keep_only(model, batch.select(one), metric.select(one), parts, **options).kept.mean())

    whole, none = mean_with(PARTS), mean_with([])
    chosen: list[str] = []
    while not chosen or (mean_with(chosen) - none) / (whole - none) < 0.7:
        left = [part for part in PARTS if part not in chosen]
        chosen.append(max(left, key=lambda part: mean_with([*chosen, part])))
    assert list(found.parts) == chosen
    assert found.info["share_where_chosen"] == pytest.approx((mean_with(chosen) - none) / (whole - none))
    assert f"chosen: {found.info['share_where_chosen']:.2f} of {len(one)} other prompts" in repr(found)
    table = found.to_frame()
    assert list(table) == ["prompt", "metric", "kept", "ablated"]
    assert table.kept.tolist() == found.kept.tolist()
    assert table.metric.tolist() == found.metric.tolist()
    against = dla.linear_metric(batch, -metric.coefficients())
    with pytest.raises(InputError, match="there is nothing to keep"):
        dla.find_circuit(model, batch, against, value="mean")


@pytest.mark.parametrize(
    ("parts", "options", "message"),
    [
        (["L0N3"], {}, "parts to keep are heads and MLPs, .* got 'L0N3'"),
        (["0_attn_out"], {}, "parts to keep are heads and MLPs"),
        (["L0H0", "L0H0"], {}, "L0H0 twice"),
        (["L9H0"], {}, "9"),
        (["L0H0"], {"value": "renormalize"}, "value is 'zero', 'mean' or 'resample', got 'renormalize'"),
        (["L0H0"], {"positions": "each"}, "positions is 'read' or 'all', got 'each'"),
    ],
)
def test_what_cannot_be_kept(
    model: Any, batch: PromptBatch, metric: LinearMetric, parts: Any, options: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        dla.keep_only(model, batch, metric, parts, **options)


@pytest.mark.parametrize("share", [0.0, 1.5, -1.0, "0.9", None, True])
def test_shares_that_are_none(model: Any, batch: PromptBatch, metric: LinearMetric, share: Any) -> None:
    with pytest.raises(InputError, match="share is above 0 and at most 1"):
        dla.find_circuit(model, batch, metric, share=share)


def test_one_maze_has_no_two_halves(model: Any, batch: PromptBatch, metric: LinearMetric) -> None:
    with pytest.raises(InputError, match="all prompts fall into one half"):
        dla.find_circuit(model, batch.select([0, 3]), metric.select([0, 3]))
