"""Metrics: linear functionals of the logits at the read position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from maze_dla.engine.devices import sent
from maze_dla.engine.precision import at_least_single
from maze_dla.engine.prompts import PromptBatch, chosen_prompts
from maze_dla.errors import InputError


@dataclass(frozen=True, eq=False)
class LinearMetric:
    """m = sum over v of c[v] * logit[v], in logits, with its own coefficients c for every prompt.

    The coefficients of prompt p are `shares[p] * background` plus `weights[p, k]` at token `ids[p, k]`: one pattern
    over the vocabulary that all prompts share, and a few tokens of each prompt's own. No [prompt, vocab] array is
    held.

    `targets` are those of the batch that the metric was made for, so that it is not used with another.
    `shift_invariant` says whether the coefficients of every prompt sum to zero: only then does the metric stay the
    same when a constant is added to all logits, as centring the unembedding does.
    """

    name: str
    ids: Int[Tensor, "prompt k"]
    weights: Float[Tensor, "prompt k"]
    background: Float[Tensor, "vocab"]
    shares: Float[Tensor, "prompt"]
    targets: Int[Tensor, "prompt"] | None = None

    def __len__(self) -> int:
        return len(self.shares)

    @property
    def d_vocab(self) -> int:
        """Size of the vocabulary that the metric was made for."""
        return len(self.background)

    @property
    def shift_invariant(self) -> bool:
        """Whether adding a constant to all logits leaves the metric as it is."""
        total = self.weights.sum(1) + self.shares * self.background.sum()
        size = self.weights.abs().sum(1) + self.shares.abs() * self.background.abs().sum()
        return bool((total.abs() <= 1e-9 * size).all())

    def __call__(self, logits: Float[Tensor, "prompt vocab"]) -> Float[Tensor, "prompt"]:
        """The metric of each prompt, in logits."""
        here = self.to(logits)
        chosen = (logits.gather(1, here.ids) * here.weights).sum(1)
        return chosen + here.shares * (logits @ here.background) if self.has_background else chosen

    def size(self, logits: Float[Tensor, "prompt vocab"]) -> Float[Tensor, "prompt"]:
        """How large the logits are that the metric adds and subtracts, in logits: sum over v of |c[v] * logit[v]|."""
        here, size = self.to(logits), logits.abs()
        chosen = (size.gather(1, here.ids) * here.weights.abs()).sum(1)
        return chosen + here.shares.abs() * (size @ here.background.abs()) if self.has_background else chosen

    def direction(self, unembedding: Float[Tensor, "d_model vocab"]) -> Float[Tensor, "prompt d_model"]:
        """W_U c: the direction in the residual stream, behind the final norm, that the metric reads."""
        here = self.to(at_least_single(unembedding[:, :0]))
        own = torch.einsum("pk,pkd->pd", here.weights, at_least_single(unembedding.T[here.ids]))
        if not self.has_background:
            return own
        return own + here.shares[:, None] * (at_least_single(unembedding) @ here.background)

    def constant(self, bias: Float[Tensor, "vocab"]) -> Float[Tensor, "prompt"]:
        """b_U . c: what the unembedding's bias adds to the metric, in logits."""
        bias = at_least_single(bias)
        here = self.to(bias)
        own = (here.weights * bias[here.ids]).sum(1)
        return own + here.shares * (bias @ here.background) if self.has_background else own

    @cached_property
    def has_background(self) -> bool:
        """Whether any prompt has coefficients beside those at its own tokens."""
        return bool((self.background != 0).any() and (self.shares != 0).any())

    def to(self, like: Tensor) -> LinearMetric:
        """The metric where a tensor is, its coefficients in that tensor's precision."""
        numbers = (self.weights, self.background, self.shares)
        weights, background, shares = (sent(t.to(like.dtype), like.device) for t in numbers)
        return LinearMetric(self.name, sent(self.ids, like.device), weights, background, shares, self.targets)

    def coefficients(self) -> Float[Tensor, "prompt vocab"]:
        """The coefficients c themselves, as an array: for small batches and for tests."""
        dense = self.shares[:, None] * self.background
        return dense.scatter_add(1, self.ids, self.weights)

    def select(self, prompts: Sequence[int] | Tensor) -> LinearMetric:
        """The metric of just these prompts, in this order."""
        i = chosen_prompts(prompts, len(self))
        targets = None if self.targets is None else self.targets[i]
        return LinearMetric(self.name, self.ids[i], self.weights[i], self.background, self.shares[i], targets)


def logit(batch: PromptBatch) -> LinearMetric:
    """The logit of the target. Not invariant under adding a constant to all logits."""
    ones = torch.ones(len(batch), 1, dtype=torch.float64)
    return _sparse("logit of the target", batch, batch.targets[:, None], ones)


def logit_diff(batch: PromptBatch, incorrect: Tensor | Sequence[int] | str | None = None) -> LinearMetric:
    """Logit difference: target minus one other token. Invariant under adding a constant to all logits.

    Args:
        batch: the prompts; the correct token is the target.
        incorrect: the other token's id for each prompt, or the name of a token set that holds, beside the target,
            exactly one token for each prompt. Default: the batch's own `incorrect`.

    Raises:
        InputError: a batch without incorrect tokens, another number of them than of prompts, one outside the
            vocabulary or equal to its target.
    """
    incorrect = batch.incorrect if incorrect is None else incorrect
    if incorrect is None:
        raise InputError("this batch names no incorrect tokens: give one for each prompt, or a token set's name")
    if isinstance(incorrect, str):
        others = batch.others(incorrect)
        if (counts := others.sum(1)).ne(1).any():
            i = int(torch.nonzero(counts != 1)[0])
            raise InputError(f"prompt {i}: a logit difference needs one incorrect token, got {int(counts[i])}")
        foils = others.int().argmax(1)
    else:
        foils = torch.as_tensor(incorrect, dtype=torch.long)
    if foils.shape != batch.targets.shape:
        raise InputError(f"incorrect ids have shape {tuple(foils.shape)}, targets {tuple(batch.targets.shape)}")
    if (outside := (foils < 0) | (foils >= batch.d_vocab)).any():
        i = int(torch.nonzero(outside)[0])
        raise InputError(f"prompt {i}: incorrect id {int(foils[i])} outside the vocabulary of {batch.d_vocab} tokens")
    if (same := foils == batch.targets).any():
        i = int(torch.nonzero(same)[0])
        raise InputError(f"prompt {i}: the incorrect token equals the target {batch.token_name(int(foils[i]))!r}")
    signs = torch.tensor([1.0, -1.0], dtype=torch.float64).expand(len(batch), 2)
    return _sparse("logit difference", batch, torch.stack([batch.targets, foils], 1), signs)


def correct_vs_other(batch: PromptBatch, others: str | Tensor = "all", reduce: str = "mean") -> LinearMetric:
    """The target's logit minus the mean, or the sum, of the logits of the other tokens.

    With `reduce="mean"` it is invariant under adding a constant to all logits. With `reduce="sum"` it is not (unless
    there is a single other token), and so depends on whether the unembedding was centred.

    Args:
        batch: the prompts; the correct token is the target, which never counts as one of the others.
        others: "all" tokens, a name in `batch.token_sets` (mazes: "cells", "neighbors"), or a boolean mask of shape
            [vocab] or [prompt, vocab].
        reduce: "mean" or "sum" over the others.

    Raises:
        InputError: unknown name, mask of another shape, or a prompt without any other token.
    """
    if reduce not in ("mean", "sum"):
        raise InputError(f"reduce is 'mean' or 'sum', got {reduce!r}")
    mask = batch.token_set(others)
    name = f"correct minus {reduce} of {others if isinstance(others, str) else 'masked'}"
    if mask.ndim == 2:
        return _against_own_sets(name, batch, others, batch.others(mask), reduce)
    held = mask[batch.targets]
    counts = mask.sum() - held.long()
    _check_not_empty(counts, others)
    shares = -1.0 / counts.double() if reduce == "mean" else -torch.ones(len(batch), dtype=torch.float64)
    weights = 1.0 - shares * held  # takes the target out of the others again
    return LinearMetric(name, batch.targets[:, None], weights[:, None], mask.double(), shares, batch.targets)


def linear_metric(
    batch: PromptBatch, coefficients: Float[Tensor, "prompt vocab"], name: str = "linear metric"
) -> LinearMetric:
    """Any linear functional of the logits, from its coefficients.

    Raises:
        InputError: coefficients of another shape, or not finite.
    """
    c = torch.as_tensor(coefficients).double()
    if tuple(c.shape) != (len(batch), batch.d_vocab):
        raise InputError(f"coefficients have shape {tuple(c.shape)}, expected ({len(batch)}, {batch.d_vocab})")
    if not c.isfinite().all():
        raise InputError(f"prompt {int(torch.nonzero(~c.isfinite())[0, 0])}: a coefficient is not finite")
    ids, weights = _padded(c != 0, c)
    return _sparse(name, batch, ids, weights)


def _against_own_sets(
    name: str, batch: PromptBatch, asked: str | Tensor, others: Tensor, reduce: Reduce
) -> LinearMetric:
    counts = others.sum(1)
    _check_not_empty(counts, asked)
    weight = -1.0 / counts.double() if reduce == "mean" else -torch.ones(len(batch), dtype=torch.float64)
    ids, weights = _padded(others, others * weight[:, None])
    ones = torch.ones(len(batch), 1, dtype=torch.float64)
    return _sparse(name, batch, torch.cat([batch.targets[:, None], ids], 1), torch.cat([ones, weights], 1))


def _padded(held: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """The ids that each row holds and their values, rows filled up with weight zero."""
    k = max(int(held.sum(1).max()), 1)
    ids = held.int().argsort(dim=1, descending=True, stable=True)[:, :k]
    return ids, values.gather(1, ids)


def _sparse(name: str, batch: PromptBatch, ids: Tensor, weights: Tensor) -> LinearMetric:
    none = torch.zeros(batch.d_vocab, dtype=torch.float64)
    return LinearMetric(name, ids, weights, none, torch.zeros(len(batch), dtype=torch.float64), batch.targets)


def _check_not_empty(counts: Tensor, others: str | Tensor) -> None:
    if (counts == 0).any():
        i = int(torch.nonzero(counts == 0)[0])
        what = repr(others) if isinstance(others, str) else "the mask"
        raise InputError(
            f"prompt {i} has no other token in {what} beside its target ({int((counts == 0).sum())} such prompts); "
            f"batch.having(name) leaves such prompts out"
        )
