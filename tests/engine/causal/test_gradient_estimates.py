"""Estimates from gradients: the slope of what patching does, and how well they agree with the truth."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import maze_dla as dla
from maze_dla.engine.causal import gradients
from maze_dla.engine.edits import EDITABLE
from maze_dla.engine.metrics import logit_diff
from maze_dla.engine.pairs import PromptPairs
from tests.engine.pairs_of_tokens import random_pairs
from tests.engine.small_models import make_model, shared_model

from .one_at_a_time import Put, coefficients_of, prompt, read, run

STEP = 1e-4


@pytest.fixture(scope="module")
def model() -> Any:
    return shared_model(torch.float64)


@pytest.fixture(scope="module")
def pairs() -> PromptPairs:
    return random_pairs((5, 7), changed=3)


def given(site: str) -> dict[str, Any]:
    return {"site": site, "neurons": ["L0N3", (1, 7)]} if site == "neurons" else {"site": site}


@pytest.mark.parametrize("direction", ["denoise", "noise"])
@pytest.mark.parametrize("site", EDITABLE)
def test_the_estimate_is_a_finite_difference(model: Any, pairs: PromptPairs, site: str, direction: Any) -> None:
    """A small step from the activation of the run that is edited towards the other one's, one hooked pass each."""
    found = dla.patch(model, pairs, direction=direction, positions="each", estimate="gradient", **given(site))
    into, source = pairs.corrupted, pairs.clean
    if direction == "noise":
        into, source = source, into
    coefficients = coefficients_of(logit_diff(pairs))
    assert found.estimated
    for i in range(len(pairs)):
        names = ["resid_pre", "attn_out", site]
        here, there = (run(model, prompt(batch, i), names=names) for batch in (into, source))
        for index in torch.ones(found.values.shape[1:]).nonzero().tolist():
            position, layer = index[-1], index[0]
            head = index[1] if "head" in found.axes else None
            if found.neurons:
                layer, head = (int(part) for part in found.neurons[index[0]].removeprefix("L").split("N"))
            if position >= int(pairs.clean.lengths[i]):
                assert found.values[(i, *index)].isnan()
                continue
            place = (position,) if head is None else (position, head)
            one, two = (held[site, layer][place] for held in (here, there))
            if torch.equal(one, two):
                assert found.change[(i, *index)] == 0
                continue
            ends = [
                read(
                    model,
                    prompt(into, i),
                    coefficients[i],
                    [Put(site, layer, position, one + step * (two - one), head)],
                )
                for step in (STEP, -STEP)
            ]
            assert abs(float(found.change[(i, *index)]) - (ends[0] - ends[1]) / (2 * STEP)) < 1e-4


@pytest.mark.parametrize("site", EDITABLE)
def test_positions_together_are_the_sum_of_each(model: Any, pairs: PromptPairs, site: str) -> None:
    each = dla.patch(model, pairs, positions="each", estimate="gradient", **given(site))
    whole = dla.patch(model, pairs, positions="all", estimate="gradient", **given(site))
    torch.testing.assert_close(whole.change, each.change.nansum(-1))
    read_alone = dla.patch(model, pairs, positions="read", estimate="gradient", **given(site))
    ends = torch.stack([each.change[i, ..., n - 1] for i, n in enumerate(pairs.clean.lengths.tolist())])
    torch.testing.assert_close(read_alone.change, ends)


def test_of_a_linear_model_the_estimate_is_exact(pairs: PromptPairs) -> None:
    """In one layer without norm and MLP, all but queries and keys are."""
    model = make_model(torch.float64, attn_only=True, normalization_type=None, n_layers=1)
    for site in ("z", "v", "pattern", "attn_out"):
        exact, estimate = (dla.patch(model, pairs, site=site, estimate=how) for how in ("exact", "gradient"))  # pyright: ignore
        torch.testing.assert_close(estimate.values, exact.values, equal_nan=True)
        assert estimate.agreement == pytest.approx(1.0)
        assert exact.agreement is None
        assert not exact.estimated
        assert exact.sampled == 0
    exact, estimate = (dla.patch(model, pairs, site="k", estimate=how) for how in ("exact", "gradient"))  # pyright: ignore
    assert not torch.allclose(estimate.values, exact.values, atol=1e-2)
    assert estimate.agreement is not None
    assert estimate.agreement < 0.9999


@pytest.mark.parametrize("positions", ["each", "all"])
def test_the_agreement_is_that_of_a_sample_with_the_truth(
    model: Any, positions: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = random_pairs((5, 12, 9, 9), changed=4)
    exact = dla.patch(model, pairs, site="mlp_out", positions=positions)
    monkeypatch.setattr(gradients, "CELLS_OF_SAMPLE", 10_000)
    all_of_them = dla.patch(model, pairs, site="mlp_out", positions=positions, estimate="gradient")
    moved = exact.change.nan_to_num() != 0
    assert all_of_them.sampled == int(moved.sum())
    both = torch.stack([all_of_them.change[moved], exact.change[moved]])
    assert all_of_them.agreement == pytest.approx(float(torch.corrcoef(both)[0, 1]))
    assert all_of_them.agreement is not None
    assert all_of_them.agreement < 0.999
    monkeypatch.setattr(gradients, "CELLS_OF_SAMPLE", 3)
    some = [
        dla.patch(model, pairs, site="mlp_out", positions=positions, estimate="gradient", seed=s) for s in (0, 0, 1)
    ]
    assert [found.sampled for found in some] == [3] * 3
    assert some[0].agreement == some[1].agreement != some[2].agreement
    torch.testing.assert_close(some[0].values, all_of_them.values, equal_nan=True)


def test_no_sample_has_no_agreement(model: Any) -> None:
    clean = random_pairs((5, 7)).clean
    found = dla.patch(model, PromptPairs(clean, clean), dla.correct_vs_other(clean), estimate="gradient")
    assert found.sampled == 0
    assert found.agreement is not None
    assert found.agreement != found.agreement  # no number
    assert not found.change.nan_to_num().any()


def test_no_gradient_is_left_behind(pairs: PromptPairs) -> None:
    model = make_model()
    dla.patch(model, pairs, estimate="gradient")
    assert all(p.grad is None for p in model.parameters())
    assert torch.is_grad_enabled()
