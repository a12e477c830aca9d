"""Whether a batch, a metric and a model were made for each other."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from maze_dla.engine.ids import first_where
from maze_dla.engine.metrics import LinearMetric
from maze_dla.engine.model import ResidualModel
from maze_dla.engine.pairs import PromptPairs
from maze_dla.engine.prompts import PromptBatch
from maze_dla.errors import InputError, PromptError


def check_fit(model: ResidualModel, batch: PromptBatch, metric: LinearMetric | None = None) -> None:
    """Refuse a batch or metric that was made for another model or batch.

    Raises:
        InputError: vocabularies or numbers of prompts differ, or a metric of other prompts.
        PromptError: a prompt longer than the model's context, or with a token that the model does not read.
    """
    if not isinstance(batch, PromptBatch):
        raise InputError(f"expected a PromptBatch, got {type(batch).__name__}")
    if metric is not None and not isinstance(metric, LinearMetric):
        raise InputError(f"expected a LinearMetric, such as correct_vs_other(batch), got {type(metric).__name__}")
    shape = model.weights.shape
    if batch.d_vocab != shape.d_vocab:
        raise InputError(f"the batch has a vocabulary of {batch.d_vocab} tokens, the model of {shape.d_vocab}")
    _check_vocabulary(model.vocabulary, batch)
    if int(batch.lengths.max()) > shape.n_ctx:
        i = int(batch.lengths.argmax())
        raise PromptError(f"prompt {i} has {int(batch.lengths[i])} tokens, the model's context holds {shape.n_ctx}")
    _check_tokens(batch, shape.d_vocab_in)
    if metric is not None:
        _check_metric(metric, batch)


def check_contrast(pairs: PromptPairs) -> None:
    """Refuse pairs that have no contrast.

    Raises:
        InputError: the corrupted prompts have no right answer of their own.
    """
    if pairs.unanswered is not None:
        raise InputError(f"a contrast needs a right answer to both prompts of a pair: {pairs.unanswered}")


def check_fit_of_pairs(model: ResidualModel, pairs: PromptPairs, metric: LinearMetric) -> None:
    """Refuse pairs or a metric that were made for another model or for other pairs.

    Raises:
        InputError: as `check_fit`, also for a metric of the corrupted prompts alone or of other pairs.
        PromptError: as `check_fit`.
    """
    if not isinstance(pairs, PromptPairs):
        raise InputError(f"expected PromptPairs, such as those of maze.pairs(), got {type(pairs).__name__}")
    check_fit(model, pairs.clean)
    check_fit(model, pairs.corrupted)
    try:
        check_fit(model, pairs.clean, metric)
    except InputError as problem:
        raise InputError(f"{problem}; the metric of pairs is logit_diff(pairs), or made from pairs.clean") from None
    expected = metric.compared_with
    if expected is not None and (differs := expected != pairs.corrupted.fingerprints).any():
        raise InputError(
            f"the metric was made for other pairs: the corrupted prompt of pair {first_where(differs)} is another one "
            f"({int(differs.sum())} of {len(pairs)} pairs differ)"
        )


def _check_tokens(batch: PromptBatch, size: int) -> None:
    """Refuse tokens that the model cannot read, where a prompt reads them."""
    if int(batch.sequences.max()) < size:
        return
    ends = torch.zeros(len(batch.sequences), dtype=torch.long)
    ends.scatter_reduce_(0, batch.sequence_of, batch.lengths, reduce="amax")
    outside = (batch.sequences >= size) & (torch.arange(batch.sequences.shape[1]) < ends[:, None])
    if outside.any():
        row, position = torch.nonzero(outside)[0].tolist()
        i = first_where((batch.sequence_of == row) & (batch.read_positions >= position))
        raise PromptError(
            f"prompt {i}, position {position}: token id {int(batch.sequences[row, position])} outside the {size} "
            "tokens that the model reads"
        )


def _check_metric(metric: LinearMetric, batch: PromptBatch) -> None:
    """Refuse a metric that was made for other prompts, also where they have the same targets."""
    if len(metric) != len(batch):
        raise InputError(f"the metric was made for {len(metric)} prompts, the batch has {len(batch)}")
    if metric.d_vocab != batch.d_vocab:
        raise InputError(f"the metric has a vocabulary of {metric.d_vocab} tokens, the model of {batch.d_vocab}")
    if metric.made_for is not None and (differs := metric.made_for != batch.fingerprints).any():
        i = first_where(differs)
        raise InputError(
            f"the metric was made for another batch: its prompt {i} has other tokens or other right answers than "
            f"prompt {i} of this batch ({int(differs.sum())} of {len(batch)} prompts differ)"
        )


def _check_vocabulary(known: Sequence[str] | None, batch: PromptBatch) -> None:
    """Refuse a batch whose tokens have other names than the model's, where both are known."""
    named = batch.vocabulary
    if known is None or named is None or named == known:
        return
    used = torch.cat([batch.sequences.flatten(), batch.targets]).unique().tolist()
    n = min(len(known), len(named))
    compared = range(n) if isinstance(known, tuple) and isinstance(named, tuple) else used  # a tokenizer decodes each
    differing = next((i for i in compared if 0 <= i < n and known[i] != named[i]), None)
    if differing is not None:
        raise InputError(
            f"the batch was made with another vocabulary: its token {differing} is {named[differing]!r}, the model's "
            f"is {known[differing]!r}"
        )
