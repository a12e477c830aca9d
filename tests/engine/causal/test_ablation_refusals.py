"""Ablation that is refused, or has no donors; and its reference."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import maze_dla as dla
from maze_dla.engine.causal.effects import EffectReader
from maze_dla.engine.causal.supplies import donors_of
from maze_dla.engine.metrics import LinearMetric
from maze_dla.engine.prompts import PromptBatch
from maze_dla.errors import CompletenessError, InputError, ModelError, PromptError
from tests.engine.small_models import make_batch, random_metric, shared_model


def test_donors_are_seeded_and_about_something_else(batch: PromptBatch, other: PromptBatch) -> None:
    maze = batch.columns["maze"]
    drawn = [donors_of(batch, batch, "read", seed) for seed in range(60)]
    assert torch.equal(drawn[3], donors_of(batch, batch, "read", 3))
    assert len({tuple(one.tolist()) for one in drawn}) > 50
    every = torch.stack(drawn)
    assert (maze[every] != maze).all()
    for i in range(len(batch)):  # each of the others is drawn at some time
        assert len(every[:, i].unique()) == int((maze != maze[i]).sum())
    long = torch.stack([donors_of(batch, other, "all", seed) for seed in range(20)])
    assert (other.lengths[long] == batch.lengths).all()
    order = torch.tensor([4, 2, 0, 5, 1, 3])
    assert torch.equal(donors_of(batch.select(order), other, "read", 3), donors_of(batch, other, "read", 3)[order])


def test_prompts_without_a_donor(model: Any, batch: PromptBatch, metric: LinearMetric) -> None:
    one = batch.select([0, 3])
    with pytest.raises(PromptError, match="prompt 0: the reference has no prompt about another maze"):
        dla.ablate(model, one, metric.select([0, 3]), value="resample")
    with pytest.raises(PromptError, match=r"give a reference= with prompts about more than one maze"):
        dla.ablate(model, one, metric.select([0, 3]), value="resample")
    with pytest.raises(PromptError, match="no prompt of 5 tokens about another maze") as caught:
        dla.ablate(model, batch.select([1, 2]), metric.select([1, 2]), value="resample", positions="all")
    lengths = sorted(batch.lengths[[1, 2]].tolist())
    counted = f"{lengths[0]} (1 prompt), {lengths[1]} (1) tokens"
    said = str(caught.value)
    assert f"2 of 2 prompts have none, of {counted}, and the reference's 2 prompts are of {counted}" in said
    assert "or value='mean', or positions='read'" in said


def test_the_mean_over_a_single_prompt_is_its_own(
    model: Any, batch: PromptBatch, other: PromptBatch, metric: LinearMetric
) -> None:
    one, here = batch.select([0]), metric.select([0])
    assert dla.ablate(model, one, here).total.abs().max() < 1e-5
    assert dla.ablate(model, one, here, reference=other).total.abs().max() > 1e-3


def test_the_reference_is_named(model: Any, batch: PromptBatch, other: PromptBatch, metric: LinearMetric) -> None:
    own = dla.ablate(model, batch, metric)
    named = dla.ablate(model, batch, metric, reference=other)
    assert own.info["reference"] != named.info["reference"]
    assert named.info["reference_prompts"] == 4
    again = dla.ablate(model, batch, metric, reference=other.select([3, 1, 0, 2]))
    assert again.info["reference"] == named.info["reference"]
    torch.testing.assert_close(again.total, named.total)
    assert not torch.allclose(own.total, named.total, atol=1e-3)
    assert "reference" not in dla.ablate(model, batch, metric, value="zero").info
    assert dla.ablate(model, batch, metric, value="resample", seed=4).info["ablation_seed"] == 4


@pytest.mark.parametrize("name", ["direct", "later_heads", "later_mlps", "norm"])
def test_effects_that_do_not_add_up_are_no_result(
    model: Any, batch: PromptBatch, metric: LinearMetric, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = EffectReader.__call__

    def wrong(self: Any, *given: Any) -> Any:
        found = right(self, *given)
        return {**found, name: found[name] * (1 + 1e-3)}

    dla.ablate(model, batch, metric)
    monkeypatch.setattr(EffectReader, "__call__", wrong)
    with pytest.raises(CompletenessError, match="total effect = direct"):
        dla.ablate(model, batch, metric)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"parts": "head"}, "parts is 'heads', .* got 'head'"),
        ({"parts": []}, "got an empty list"),
        ({"parts": ["L0H0", (0, 0)]}, "parts has L0H0 twice"),
        ({"parts": ["L2H0"]}, "L2H0|layer"),
        ({"parts": ["2_mlp_out"]}, "the model has no '2_mlp_out'"),
        ({"parts": ["L0N40"]}, "40"),
        ({"heads": [(0, 0)]}, "heads goes with parts='sources'"),
        ({"parts": "sources"}, "value is 'zero' or 'renormalize', got 'mean'"),
        ({"value": "renormalize"}, "value is 'zero', 'mean' or 'resample', got 'renormalize'"),
        ({"value": "median"}, "value is 'zero', 'mean' or 'resample', got 'median'"),
        ({"positions": "each"}, "positions is 'read' or 'all', got 'each'"),
        ({"seed": -1}, "seed"),
        ({"reference": 3}, "reference is a PromptBatch"),
    ],
)
def test_what_cannot_be_ablated(
    model: Any, batch: PromptBatch, metric: LinearMetric, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        dla.ablate(model, batch, metric, **options)


def test_kinds_that_a_batch_does_not_name(model: Any) -> None:
    batch = make_batch((5, 9))
    metric = random_metric(batch)
    with pytest.raises(InputError, match="there are no sources by kind"):
        dla.ablate(model, batch, metric, parts="sources", value="zero")
    with pytest.raises(InputError, match="means at all positions are by kind of token"):
        dla.ablate(model, batch, metric, positions="all")
    assert dla.ablate(model, batch, metric, parts="source_positions", value="zero").total.shape == (2, 2, 3, 9)


def test_mlps_that_a_model_lacks(batch: PromptBatch, metric: LinearMetric) -> None:
    model = shared_model(torch.float64, attn_only=True)
    with pytest.raises(InputError, match="the model has no MLPs"):
        dla.ablate(model, batch, metric, parts="mlps")
    with pytest.raises((InputError, ModelError), match=r"[Nn]euron"):
        dla.ablate(model, batch, metric, parts=["L0N3"])
    assert dla.ablate(model, batch, metric, parts="layers").part_labels == ("0_attn_out", "1_attn_out")
