"""Each metric against its definition in plain Python, on random logits and random vocabularies."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor

from maze_dla.engine.metrics import LinearMetric, correct_vs_other, linear_metric, logit, logit_diff
from maze_dla.engine.prompts import PromptBatch
from maze_dla.engine.sparse import SparseRows
from maze_dla.errors import InputError, PromptError

D_VOCAB, N = 11, 6
TARGETS = [3, 0, 10, 7, 3, 5]
COMMON = [0, 3, 4, 9]
OWN = [[3, 1], [2, 8, 10], [10, 0], [1, 2, 7], [9], [5, 6, 4]]
FOILS = [1, 2, 3, 4, 5, 6]


def mask_of(*sets: list[int]) -> Tensor:
    mask = torch.zeros(len(sets), D_VOCAB, dtype=torch.bool)
    for row, tokens in enumerate(sets):
        mask[row, tokens] = True
    return mask


def make_batch(**more: Any) -> PromptBatch:
    sets = {
        "cells": mask_of(COMMON)[0],
        "neighbors": mask_of(*OWN),
        "foils": mask_of(*([t, f] for t, f in zip(TARGETS, FOILS, strict=True))),
        "only target": mask_of(*([t] for t in TARGETS)),
        "token 10": mask_of([10])[0],
    }
    more = {"token_sets": sets, "incorrect": torch.tensor(FOILS), **more}
    return PromptBatch.from_tokens([[1, 2]] * N, TARGETS, d_vocab=D_VOCAB, **more)


def random_logits(seed: int = 0) -> Tensor:
    return torch.randn(N, D_VOCAB, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def by_hand(others: list[list[int]], reduce: str, logits: Tensor) -> list[float]:
    """The target's logit minus mean or sum of the others', the target itself never being one of them."""
    values = []
    for row, target, tokens in zip(logits.tolist(), TARGETS, others, strict=True):
        rest = [row[v] for v in tokens if v != target]
        values.append(row[target] - (sum(rest) / len(rest) if reduce == "mean" else sum(rest)))
    return values


OTHERS = {
    "all": ("all", [list(range(D_VOCAB))] * N),
    "named-common": ("cells", [COMMON] * N),  # holds the targets 3 and 0 and not the others
    "named-own": ("neighbors", OWN),
    "mask-common": (mask_of(COMMON)[0], [COMMON] * N),
    "mask-own": (mask_of(*OWN), OWN),
}


@pytest.mark.parametrize("reduce", ["mean", "sum"])
@pytest.mark.parametrize("name", OTHERS)
def test_correct_vs_other(name: str, reduce: Any) -> None:
    others, tokens = OTHERS[name]
    metric, logits = correct_vs_other(make_batch(), others, reduce), random_logits()
    assert metric(logits).tolist() == pytest.approx(by_hand(tokens, reduce, logits), abs=1e-12)
    other = "sum" if reduce == "mean" else "mean"
    assert metric(logits).tolist() != pytest.approx(by_hand(tokens, other, logits), abs=1e-3)


def test_correct_vs_other_by_default_takes_the_mean_of_all() -> None:
    logits = random_logits()
    expected = by_hand([list(range(D_VOCAB))] * N, "mean", logits)
    assert correct_vs_other(make_batch())(logits).tolist() == pytest.approx(expected, abs=1e-12)


def test_correct_vs_other_is_not_the_mirrored_token() -> None:
    """`~ids` of integer ids is V-1-id: one mirrored token, not all others."""
    logits = random_logits()
    mirrored = [row[t] - row[D_VOCAB - 1 - t] for row, t in zip(logits.tolist(), TARGETS, strict=True)]
    for reduce in ("mean", "sum"):
        seen = correct_vs_other(make_batch(), reduce=reduce)(logits).tolist()
        assert all(abs(a - b) > 1e-3 for a, b in zip(seen, mirrored, strict=True) if b != 0)
        c = correct_vs_other(make_batch(), reduce=reduce).coefficients()
        assert (c != 0).all()


def test_logit() -> None:
    logits = random_logits()
    assert logit(make_batch())(logits).tolist() == [row[t] for row, t in zip(logits.tolist(), TARGETS, strict=True)]


@pytest.mark.parametrize(
    "incorrect", [None, "foils", FOILS, torch.tensor(FOILS)], ids=["default", "name", "list", "ids"]
)
def test_logit_diff(incorrect: Any) -> None:
    logits = random_logits()
    expected = [row[t] - row[f] for row, t, f in zip(logits.tolist(), TARGETS, FOILS, strict=True)]
    assert logit_diff(make_batch(), incorrect)(logits).tolist() == pytest.approx(expected, abs=1e-12)


def test_linear_metric() -> None:
    logits, c = random_logits(), random_logits(1)
    c[2, 1:] = 0  # a metric that reads a single token at one prompt
    c[3, 4:] = 0
    expected = [sum(a * b for a, b in zip(x, y, strict=True)) for x, y in zip(logits.tolist(), c.tolist(), strict=True)]
    assert linear_metric(make_batch(), c)(logits).tolist() == pytest.approx(expected, abs=1e-12)
    assert torch.equal(linear_metric(make_batch(), c).coefficients(), c)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_row_keeps_its_digits_beside_far_larger_ones_that_are_alike(dtype: torch.dtype) -> None:
    """Held as the first row plus a difference it would be rounded as the first row is."""
    c, W_U = random_logits(1), torch.randn(7, D_VOCAB, dtype=dtype, generator=torch.Generator().manual_seed(0))
    c[:-1] = 1e8 * c[0]
    alone = linear_metric(make_batch().select([N - 1]), c[-1:]).direction(W_U)
    assert torch.allclose(linear_metric(make_batch(), c).direction(W_U)[-1:], alone, rtol=1e-5, atol=1e-6)
    for share, is_first in ((0.5, True), (1e-3, False)):  # where rows are of one size the first stands for all
        held = SparseRows.of(torch.cat([c[:1].expand(N - 1, -1), share * c[:1]]))
        assert bool(held.pattern.any()) == is_first


METRICS = {
    "logit": logit,
    "logit_diff": logit_diff,
    "mean of all": correct_vs_other,
    "sum of cells": lambda b: correct_vs_other(b, "cells", "sum"),
    "mean of cells": lambda b: correct_vs_other(b, "cells"),
    "mean of neighbors": lambda b: correct_vs_other(b, "neighbors"),
    "sum of neighbors": lambda b: correct_vs_other(b, "neighbors", "sum"),
    "sum of one": lambda b: correct_vs_other(b, torch.tensor([v == 1 for v in range(D_VOCAB)]), "sum"),
    "linear": lambda b: linear_metric(b, random_logits(1)),
}


@pytest.mark.parametrize("name", METRICS)
def test_coefficients_direction_and_constant_say_the_same(name: str) -> None:
    metric: LinearMetric = METRICS[name](make_batch())
    c = metric.coefficients()
    logits = random_logits(2)
    assert torch.allclose(metric(logits), (c * logits).sum(1), atol=1e-12)
    W_U, b_U = torch.randn(7, D_VOCAB, dtype=torch.float64), torch.randn(D_VOCAB, dtype=torch.float64)
    assert torch.allclose(metric.direction(W_U), c @ W_U.T, atol=1e-12)
    assert torch.allclose(metric.constant(b_U), c @ b_U, atol=1e-12)
    residual = torch.randn(N, 7, dtype=torch.float64)
    through = (residual * metric.direction(W_U)).sum(1) + metric.constant(b_U)
    assert torch.allclose(metric(residual @ W_U + b_U), through, atol=1e-12)
    assert len(metric) == N


@pytest.mark.parametrize("name", METRICS)
def test_shift_invariance_is_what_a_constant_shows(name: str) -> None:
    metric, logits = METRICS[name](make_batch()), random_logits()
    change = (metric(logits + 100) - metric(logits)).abs()
    assert metric.shift_invariant == bool((change < 1e-9).all())
    assert metric.shift_invariant == (name in {"logit_diff", "sum of one"} or name.startswith("mean"))


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize(
    "chosen", [[4, 0, 2], torch.tensor([5]), [1, 1], [False, True, False, True, True, False]], ids=str
)
def test_select(name: str, chosen: Any) -> None:
    metric, logits = METRICS[name](make_batch()), random_logits()
    rows = [i for i, c in enumerate(chosen) if c] if isinstance(chosen[0], bool) else list(map(int, chosen))
    part = metric.select(chosen)
    assert torch.allclose(part(logits[rows]), metric(logits)[rows], atol=1e-12)
    assert not torch.allclose(part(logits[rows]), metric(logits)[[3] * len(rows)], atol=1e-3)
    assert part.name == metric.name


def test_a_metric_works_in_the_logits_dtype() -> None:
    logits = random_logits().float()
    for make in METRICS.values():
        assert make(make_batch())(logits).dtype == torch.float32


def nan_at(prompt: int) -> Tensor:
    c = torch.zeros(N, D_VOCAB)
    c[prompt, 2] = float("nan")
    return c


NO_OTHER = "has no other token in {} beside its target ({} such prompts); batch.having(name) leaves such prompts out"
ERRORS = {
    "foils of another number": (
        lambda b: logit_diff(b, torch.tensor([1, 2, 3])),
        "incorrect ids have shape (3,), targets (6,)",
    ),
    "foil outside": (
        lambda b: logit_diff(b, [1, 2, 11, 4, 5, 6]),
        "prompt 2: incorrect id 11 outside the vocabulary of 11 tokens",
    ),
    "foil negative": (
        lambda b: logit_diff(b, [1, 2, 3, -1, 5, 6]),
        "prompt 3: incorrect id -1 outside the vocabulary of 11 tokens",
    ),
    "foil is target": (
        lambda b: logit_diff(b, [1, 0, 3, 4, 5, 6]),
        "prompt 1: the incorrect token equals the target '0'",
    ),
    "too many foils": (
        lambda b: logit_diff(b, "neighbors"),
        "prompt 1: a logit difference needs one incorrect token, got 3",
    ),
    "no incorrect tokens": (
        lambda b: logit_diff(PromptBatch.from_tokens([[1]], [2], d_vocab=4)),
        "this batch names no incorrect tokens: give one for each prompt, or a token set's name",
    ),
    "unknown set": (
        lambda b: correct_vs_other(b, "walls"),
        "unknown token set 'walls': this batch has 'all', 'cells', 'neighbors', 'foils', 'only target', 'token 10', "
        "or give a mask",
    ),
    "unknown reduce": (lambda b: correct_vs_other(b, reduce="max"), "reduce is 'mean' or 'sum', got 'max'"),
    "mask of another shape": (
        lambda b: correct_vs_other(b, torch.ones(5, dtype=torch.bool)),
        "a mask of others is boolean with shape (11,) or (6, 11), got torch.bool with shape (5,)",
    ),
    "mask of another dtype": (
        lambda b: correct_vs_other(b, torch.ones(11)),
        "a mask of others is boolean with shape (11,) or (6, 11), got torch.float32 with shape (11,)",
    ),
    "no other in own set": (
        lambda b: correct_vs_other(b, "only target"),
        "prompt 0 " + NO_OTHER.format("'only target'", 6),
    ),
    "no other in common set": (
        lambda b: correct_vs_other(b, "token 10"),
        "prompt 2 " + NO_OTHER.format("'token 10'", 1),
    ),
    "no other in own mask": (
        lambda b: correct_vs_other(b, mask_of(*([t] for t in TARGETS))),
        "prompt 0 " + NO_OTHER.format("the mask", 6),
    ),
    "no other in common mask": (
        lambda b: correct_vs_other(b, mask_of([0])[0]),
        "prompt 1 " + NO_OTHER.format("the mask", 1),
    ),
    "coefficients of another shape": (
        lambda b: linear_metric(b, torch.zeros(6, 5)),
        "coefficients have shape (6, 5), expected (6, 11)",
    ),
    "nothing is read": (
        lambda b: linear_metric(b, torch.ones(6, 11) * (torch.arange(6) != 3)[:, None]),
        "prompt 3: all coefficients are zero, so there is nothing to explain",
    ),
    "nothing is read, where most rows are alike": (
        lambda b: linear_metric(b, (torch.arange(6) != 5).float()[:, None].expand(6, 11)),
        "prompt 5: all coefficients are zero, so there is nothing to explain",
    ),
    "coefficients that are words": (
        lambda b: linear_metric(b, [["a"] * 11] * 6),
        "coefficients are an array [prompt, vocab] of numbers (too many dimensions 'str')",
    ),
    "answers of another number": (
        lambda b: linear_metric(b, torch.ones(6, 11), answers=[1, 2]),
        "answers for 2 prompts, the batch has 6",
    ),
    "answers by name": (
        lambda b: linear_metric(b, torch.ones(6, 11), answers="cells"),
        "answers are 'batch', None or ids for each prompt, got 'cells'",
    ),
    "answers outside": (
        lambda b: linear_metric(b, torch.ones(6, 11), answers=[1, {2, 11}, 3, 4, 5, 6]),
        "answers of prompt 1: token id 11 outside the vocabulary of 11 tokens",
    ),
    "half a foil": (lambda b: logit_diff(b, [1, 2.5, 3, 4, 5, 6]), "incorrect: token ids are whole numbers, got 2.5"),
    "foils in floats": (
        lambda b: logit_diff(b, torch.tensor([1.0, 2, 3, 4, 5, 6])),
        "incorrect: token ids are whole numbers, got float32",
    ),
    "true as a foil": (
        lambda b: logit_diff(b, [1, True, 3, 4, 5, 6]),
        "incorrect: token ids are whole numbers, got True",
    ),
    "a foil twice": (
        lambda b: logit_diff(b, [1, 2, [4, 6, 4], 4, 5, 6]),
        "incorrect of prompt 2: token id 4 stands there twice, expected once",
    ),
    "a target among the foils": (
        lambda b: logit_diff(b, [1, 2, 3, 4, {9, 3}, 6]),
        "prompt 4: the incorrect token equals the target '3'",
    ),
    "no foil": (lambda b: logit_diff(b, [1, 2, 3, [], 5, 6]), "incorrect: none for prompt 3, expected at least one id"),
    "coefficient not finite": (lambda b: linear_metric(b, nan_at(4)), "prompt 4: a coefficient is not finite"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_say_what_was_seen_and_what_was_expected(name: str) -> None:
    make, message = ERRORS[name]
    with pytest.raises((InputError, PromptError), match=f"^{re.escape(message)}$") as error:
        make(make_batch())
    assert isinstance(error.value, ValueError)
