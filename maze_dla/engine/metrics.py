"""Metrics: linear functionals of the logits at the read position."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from maze_dla.engine.devices import to_device
from maze_dla.engine.ids import NONE, check_sets, first_where, id_sets, in_sets
from maze_dla.engine.pairs import PromptPairs
from maze_dla.engine.precision import at_least_single
from maze_dla.engine.prompts import PromptBatch, chosen_prompts
from maze_dla.engine.sparse import SparseRows
from maze_dla.errors import InputError, check_kind
from maze_dla.results.arrays import check_values
from maze_dla.results.torch_defaults import torch_defaults

SUMMED = 1e-9  # the rounding of a sum of up to a million coefficients in double precision
NUMBERS = ("weights", "shared_coefficients", "shared_weight")
LARGE = 8  # times the vocabulary: where the unembedding of each prompt's own tokens is larger, all of it is less


@dataclass(frozen=True, eq=False, repr=False)
class LinearMetric:
    """m = sum over v of c[v] * logit[v], in logits, with its own coefficients c for every prompt.

    The coefficients of prompt p are `shared_weight[p] * shared_coefficients` plus `weights[p, k]` at token
    `ids[p, k]`: one pattern over the vocabulary that all prompts share, and a few tokens of each prompt's own. No
    [prompt, vocab] array is held.
    """

    name: str
    """Its name, for tables and pictures."""
    ids: Int[Tensor, "prompt k"]
    """Tokens with coefficients of each prompt's own."""
    weights: Float[Tensor, "prompt k"]
    """The coefficients of these tokens."""
    shared_coefficients: Float[Tensor, " vocab"]
    """The pattern over the vocabulary that all prompts share."""
    shared_weight: Float[Tensor, " prompt"]
    """The factor of the shared pattern for each prompt."""
    made_for: Int[Tensor, " prompt"] | None = None
    """Fingerprints of the prompts that the metric was made for, so that it is not used with others."""
    answers: Int[Tensor, "prompt answer"] | None = None
    """Tokens that count as right, filled up with -1; None where the metric has no notion of right."""
    foils: Int[Tensor, "prompt foil"] | None = None
    """Tokens that count as wrong, where the prompts name some."""
    others: str | None = None
    """A hash of the mask of tokens that every prompt is compared with: metrics of one name may have different masks."""
    compared_with: Int[Tensor, " prompt"] | None = None
    """Fingerprints of the corrupted prompts, where the metric was made for pairs."""
    rounding: float = 0.0
    """The relative error of each coefficient as it was given."""

    def __len__(self) -> int:
        return len(self.shared_weight)

    def __repr__(self) -> str:
        prompts = "1 prompt" if len(self) == 1 else f"{len(self):,} prompts"
        return f"{type(self).__name__}({self.name!r}, {prompts}, vocabulary of {self.d_vocab:,} tokens)"

    @property
    def d_vocab(self) -> int:
        """Size of the vocabulary that the metric was made for."""
        return len(self.shared_coefficients)

    @property
    @torch_defaults()
    def shift_invariant(self) -> bool:
        """Whether adding a constant to all logits leaves the metric as it is: whether coefficients sum to zero.

        Coefficients that were rounded when they were given, as 1/41 is in float32, sum to zero up to that rounding:
        up to one unit in the last place of each, half for the number itself and half for what it was computed from.
        """
        weights, shared, factor = (getattr(self, name).double() for name in NUMBERS)
        total = weights.sum(1) + factor * shared.sum()
        size = weights.abs().sum(1) + factor.abs() * shared.abs().sum()
        return bool((total.abs() <= max(self.rounding, SUMMED) * size).all())

    def __call__(self, logits: Float[Tensor, "prompt vocab"]) -> Float[Tensor, " prompt"]:
        """The metric of each prompt, in logits."""
        here = self.to(logits)
        chosen = (logits.gather(1, here.ids) * here.weights).sum(1)
        return chosen + here.shared_weight * (logits @ here.shared_coefficients) if self.has_shared else chosen

    def size(self, logits: Float[Tensor, "prompt vocab"]) -> Float[Tensor, " prompt"]:
        """How large the logits are that the metric adds and subtracts, in logits: sum over v of |c[v] * logit[v]|."""
        here, size = self.to(logits), logits.abs()
        chosen = (size.gather(1, here.ids) * here.weights.abs()).sum(1)
        if not self.has_shared:
            return chosen
        return chosen + here.shared_weight.abs() * (size @ here.shared_coefficients.abs())

    def direction(self, unembedding: Float[Tensor, "d_model vocab"]) -> Float[Tensor, "prompt d_model"]:
        """W_U c: the direction that the metric reads after the final norm."""
        here = self.to(at_least_single(unembedding[:, :0]))
        if self.ids.shape[1] * len(unembedding) > LARGE * self.d_vocab:
            return here.coefficients() @ at_least_single(unembedding).T
        own = torch.einsum("pk,pkd->pd", here.weights, at_least_single(unembedding.T[here.ids]))
        if not self.has_shared:
            return own
        return own + here.shared_weight[:, None] * (at_least_single(unembedding) @ here.shared_coefficients)

    def constant(self, bias: Float[Tensor, " vocab"]) -> Float[Tensor, " prompt"]:
        """b_U . c: what the unembedding's bias adds to the metric, in logits."""
        bias = at_least_single(bias)
        here = self.to(bias)
        own = (here.weights * bias[here.ids]).sum(1)
        return own + here.shared_weight * (bias @ here.shared_coefficients) if self.has_shared else own

    @cached_property
    def has_shared(self) -> bool:
        """Whether any prompt has coefficients beside those at its own tokens."""
        return bool((self.shared_coefficients != 0).any() and (self.shared_weight != 0).any())

    def to(self, like: Tensor) -> LinearMetric:
        """The metric where a tensor is, its coefficients in that tensor's precision."""
        numbers = {name: getattr(self, name).to(like.dtype) for name in NUMBERS}
        moved = {name: to_device(values, like.device) for name, values in {"ids": self.ids, **numbers}.items()}
        return replace(self, **moved, rounding=max(self.rounding, torch.finfo(like.dtype).eps))

    @torch_defaults()
    def coefficients(self) -> Float[Tensor, "prompt vocab"]:
        """The coefficients c themselves, as an array: for small batches and for tests."""
        dense = self.shared_weight[:, None] * self.shared_coefficients
        return dense.scatter_add(1, self.ids, self.weights)

    @torch_defaults()
    def select(self, prompts: Sequence[int] | Tensor) -> LinearMetric:
        """The metric of just these prompts, in this order."""
        i = chosen_prompts(prompts, len(self))
        own = ("ids", "weights", "shared_weight", "made_for", "compared_with", "answers", "foils")
        held = {name: getattr(self, name) for name in own}
        return replace(self, **{name: None if values is None else values[i] for name, values in held.items()})


@torch_defaults()
def logit(batch: PromptBatch) -> LinearMetric:
    """The logit of the target, the mean over several right tokens. Adding a constant to all logits changes it."""
    _needs_batch(batch)
    return _made("logit of the target", batch, *_weighted(batch.answers, 1.0))


@torch_defaults()
def logit_diff(batch: PromptBatch | PromptPairs, incorrect: Any = None) -> LinearMetric:
    """Logit difference: target minus one other token. Invariant under adding a constant to all logits.

    Where several tokens are right, or several wrong, it is the difference of their means. Of pairs it is the clean
    prompt's answer minus the corrupted prompt's; it serves both prompts of a pair.

    Args:
        batch: the prompts, or pairs of them; the correct tokens are their answers.
        incorrect: for each prompt the other token's id or a set of ids, or the name of a token set that holds, beside
            the right answers, exactly one token for each prompt. Default: the wrong tokens that the batch names, of
            pairs the answers of the corrupted prompts.

    Raises:
        InputError: a batch without incorrect tokens, another number of them than of prompts, one outside the
            vocabulary or equal to its target; pairs whose corrupted prompts have no answer, or a right one of the
            clean prompt.
        PromptError: ids that are no whole numbers.
    """
    if isinstance(batch, PromptPairs):
        if batch.unanswered is not None and incorrect is None:
            raise InputError(f"the corrupted prompts have no right answer to set against: {batch.unanswered}")
        made = logit_diff(batch.clean, batch.corrupted.answers if incorrect is None else incorrect)
        return replace(made, compared_with=batch.corrupted.fingerprints)
    _needs_batch(batch)
    foils = batch.foils if incorrect is None else _foils(batch, incorrect)
    if foils is None:
        raise InputError("this batch names no incorrect tokens: give one for each prompt, or a token set's name")
    right, wrong = _weighted(batch.answers, 1.0), _weighted(foils, -1.0)
    ids, weights = (torch.cat(both, 1) for both in zip(right, wrong, strict=True))
    return _made("logit difference", batch, ids, weights)


@torch_defaults()
def correct_vs_other(batch: PromptBatch, others: str | Tensor = "all", reduce: str = "mean") -> LinearMetric:
    """The target's logit minus the mean, or the sum, of the logits of the other tokens.

    With `reduce="mean"` it is invariant under adding a constant to all logits. With `reduce="sum"` it is not (unless
    there is a single other token), and so depends on whether the unembedding was centred.

    Args:
        batch: the prompts; where several tokens are right, the mean of their logits stands for the target's, and none
            of them counts as one of the others.
        others: "all" tokens, a name in `batch.token_sets` (mazes: "cells", "neighbors", and "forward", which is
            "neighbors" without stepping back), or a boolean mask of shape [vocab] or [prompt, vocab].
        reduce: "mean" or "sum" over the others.

    Raises:
        InputError: unknown name, mask of another shape, or a prompt without any other token.
    """
    _needs_batch(batch)
    if reduce not in ("mean", "sum"):
        raise InputError(f"reduce is 'mean' or 'sum', got {reduce!r}")
    rows = batch.set_rows(others)
    held = rows.at(batch.answers)
    counts = rows.sums() - held.sum(1)
    _check_not_empty(counts, others)
    factor = -1.0 / counts if reduce == "mean" else -torch.ones_like(counts)
    ids, weights = _weighted(batch.answers, 1.0)
    weights = weights - factor[:, None] * held  # takes right tokens out of the others again
    ids, weights = torch.cat([ids, rows.ids], 1), torch.cat([weights, factor[:, None] * rows.values], 1)
    name = f"correct minus {reduce} of {others if isinstance(others, str) else 'masked'}"
    one_mask = hashlib.sha256(rows.pattern.numpy().tobytes()).hexdigest()[:16] if rows.by_rule else None
    return _made(name, batch, ids, weights, rows.pattern, factor, others=one_mask)


@torch_defaults()
def linear_metric(
    batch: PromptBatch,
    coefficients: Float[Tensor, "prompt vocab"] | Any,
    name: str = "linear metric",
    *,
    answers: Any = "batch",
) -> LinearMetric:
    """Any linear functional of the logits, from its coefficients.

    Args:
        batch: the prompts.
        coefficients: [prompt, vocab], dense or one of torch's sparse tensors. Only those that are not zero are held.
        name: for tables and pictures.
        answers: what counts as right: "batch" for the batch's answers; a list with an id or a set of ids for each
            prompt; None for a metric without a notion of right, whose results have no accuracy.

    Raises:
        InputError: coefficients of another shape, not real, not finite, on the meta device, or all zero for a prompt;
            answers of another number.
        PromptError: answers that are no ids of the vocabulary.
    """
    _needs_batch(batch)
    check_values("the array of coefficients", coefficients, may_be_sparse=True)
    c = coefficients if isinstance(coefficients, Tensor) else _as_tensor(coefficients)
    if c.is_complex():
        raise InputError(f"coefficients are real numbers, got {str(c.dtype).removeprefix('torch.')}")
    if tuple(c.shape) != (len(batch), batch.d_vocab):
        raise InputError(f"coefficients have shape {tuple(c.shape)}, expected ({len(batch)}, {batch.d_vocab})")
    rows = SparseRows.of(c.detach().cpu())
    if not (rows.pattern.isfinite().all() and rows.values.isfinite().all()):
        bad = ~rows.values.isfinite().all(1) | ~rows.pattern.isfinite().all()
        raise InputError(f"prompt {first_where(bad)}: a coefficient is not finite")
    if (nothing := rows.are_zero()).any():
        raise InputError(f"prompt {first_where(nothing)}: all coefficients are zero, so there is nothing to explain")
    rounding = torch.finfo(c.dtype).eps if c.is_floating_point() else 0.0
    ones = torch.ones(len(batch), dtype=torch.float64)
    metric = _made(name, batch, rows.ids, rows.values, rows.pattern, ones, rounding=rounding)
    if isinstance(answers, str) and answers == "batch":
        return metric
    return replace(metric, answers=None if answers is None else _answers(batch, answers), foils=None)


def _needs_batch(batch: Any) -> None:
    check_kind(batch, PromptBatch, "a metric is made for a PromptBatch")


def _as_tensor(coefficients: Any) -> Tensor:
    """Numbers as they were given: those of Python in double precision, arrays in their own."""
    try:
        return torch.as_tensor(coefficients, dtype=None if hasattr(coefficients, "dtype") else torch.float64)
    except (TypeError, ValueError, RuntimeError) as problem:
        raise InputError(f"coefficients are an array [prompt, vocab] of numbers ({problem})") from problem


def _answers(batch: PromptBatch, answers: Any) -> Int[Tensor, "prompt answer"]:
    """A metric's own right tokens."""
    if isinstance(answers, str):
        raise InputError(f"answers are 'batch', None or ids for each prompt, got {answers!r}")
    sets = id_sets("answers", answers)
    if len(sets) != len(batch):
        raise InputError(f"answers for {len(sets)} prompts, the batch has {len(batch)}")
    check_sets("answers", sets, batch.d_vocab)
    return sets


def _foils(batch: PromptBatch, incorrect: Any) -> Int[Tensor, "prompt foil"]:
    """The wrong tokens that were given for each prompt, or found in a token set."""
    if isinstance(incorrect, str):
        rows = batch.set_rows(incorrect)
        held = rows.at(batch.answers)
        if (counts := rows.sums() - held.sum(1)).ne(1).any():
            i = first_where(counts != 1)
            raise InputError(f"prompt {i}: a logit difference needs one incorrect token, got {int(counts[i])}")
        every = torch.arange(batch.d_vocab).double()  # of a single other token the sum of ids is its id
        ids = rows.pattern @ every + (rows.values * rows.ids).sum(1) - (held * batch.answers).sum(1)
        return ids.round().long()[:, None]
    foils = id_sets("incorrect", incorrect)
    if len(foils) != len(batch):
        raise InputError(f"incorrect ids have shape ({len(foils)},), targets {tuple(batch.targets.shape)}")
    if (outside := ((foils < 0) | (foils >= batch.d_vocab)) & ((foils != NONE) | (foils[:, :1] == NONE))).any():
        i, k = torch.nonzero(outside)[0].tolist()
        raise InputError(
            f"prompt {i}: incorrect id {int(foils[i, k])} outside the vocabulary of {batch.d_vocab} tokens"
        )
    check_sets("incorrect", foils, batch.d_vocab)
    if (same := in_sets(foils, batch.answers)).any():
        i, k = torch.nonzero(same)[0].tolist()
        raise InputError(f"prompt {i}: the incorrect token equals the target {batch.token_name(int(foils[i, k]))!r}")
    return foils


def _weighted(sets: Int[Tensor, "prompt k"], total: float) -> tuple[Int[Tensor, "prompt k"], Float[Tensor, "prompt k"]]:
    """Ids with weights that are alike within each set and sum to the total."""
    held = (sets != NONE).double()
    return sets.clamp_min(0), total * held / held.sum(1, keepdim=True)


def _made(
    name: str,
    batch: PromptBatch,
    ids: Tensor,
    weights: Tensor,
    shared: Tensor | None = None,
    factor: Tensor | None = None,
    **more: Any,
) -> LinearMetric:
    """A metric for these prompts, with their notion of right and wrong."""
    shared = torch.zeros(batch.d_vocab, dtype=torch.float64) if shared is None else shared
    factor = torch.zeros(len(batch), dtype=torch.float64) if factor is None else factor
    known = {"made_for": batch.fingerprints, "answers": batch.answers, "foils": batch.foils}
    return LinearMetric(name, ids, weights, shared, factor, **known, **more)


def _check_not_empty(counts: Float[Tensor, " prompt"], others: str | Tensor) -> None:
    if (counts == 0).any():
        i = first_where(counts == 0)
        what = repr(others) if isinstance(others, str) else "the mask"
        raise InputError(
            f"prompt {i} has no other token in {what} beside its target ({int((counts == 0).sum())} such prompts); "
            f"batch.having(name) leaves such prompts out"
        )
