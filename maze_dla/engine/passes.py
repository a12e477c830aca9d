"""Running a batch through a model in pieces."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypedDict

import torch
from jaxtyping import Bool
from torch import Tensor
from tqdm.auto import tqdm

from maze_dla.engine.metrics import LinearMetric
from maze_dla.engine.model import Reads, ResidualModel, Wanted
from maze_dla.engine.prompts import PromptBatch, ReadPlan
from maze_dla.errors import InputError, PromptError

SEQUENCES_AT_ONCE = 16


def check_fit(model: ResidualModel, batch: PromptBatch, metric: LinearMetric | None = None) -> None:
    """Refuse a batch or metric that was made for another model or batch.

    Raises:
        InputError: vocabularies or numbers of prompts differ.
        PromptError: a prompt longer than the model's context.
    """
    if not isinstance(batch, PromptBatch):
        raise InputError(f"expected a PromptBatch, got {type(batch).__name__}")
    if metric is not None and not isinstance(metric, LinearMetric):
        raise InputError(f"expected a LinearMetric, such as correct_vs_other(batch), got {type(metric).__name__}")
    if batch.d_vocab != model.shape.d_vocab:
        raise InputError(f"the batch has a vocabulary of {batch.d_vocab} tokens, the model of {model.shape.d_vocab}")
    if metric is not None and len(metric) != len(batch):
        raise InputError(f"the metric was made for {len(metric)} prompts, the batch has {len(batch)}")
    if metric is not None and metric.targets is not None and not torch.equal(metric.targets, batch.targets):
        raise InputError("the metric was made for another batch: its targets are not those of this batch")
    if metric is not None and metric.d_vocab != model.shape.d_vocab:
        raise InputError(f"the metric has a vocabulary of {metric.d_vocab} tokens, the model of {model.shape.d_vocab}")
    if int(batch.lengths.max()) > model.shape.n_ctx:
        i = int(batch.lengths.argmax())
        raise PromptError(
            f"prompt {i} has {int(batch.lengths[i])} tokens, the model's context holds {model.shape.n_ctx}"
        )


def run(
    model: ResidualModel, batch: PromptBatch, wanted: Wanted, *, what: str, sequences_at_once: int = SEQUENCES_AT_ONCE
) -> Iterator[tuple[ReadPlan, Reads]]:
    """The reads of each piece of the batch. A bar appears on a terminal when it takes more than two seconds."""
    if sequences_at_once < 1:
        raise InputError(f"sequences_at_once is at least 1, got {sequences_at_once}")
    with tqdm(total=len(batch), desc=what, unit="prompt", disable=None, delay=2, leave=False) as bar:
        for plan in batch.plans(sequences_at_once):
            tokens = plan.tokens[:, : model.shape.n_ctx]
            with torch.no_grad():  # a scope for each piece: a generator must not leave it set for its caller
                reads = model.read(tokens, plan.rows, plan.positions, wanted)
            yield plan, reads
            bar.update(len(plan.prompts))


def in_batch_order(plans: list[Tensor], pieces: list[Tensor]) -> Tensor:
    """Pieces put together again, row i belonging to prompt i, on the CPU."""
    order = torch.cat(plans)
    joined = torch.cat(pieces).cpu()
    return torch.empty_like(joined).index_copy_(0, order, joined)


def hits(reads: Reads, batch: PromptBatch, plan: ReadPlan) -> Bool[Tensor, "prompt"]:
    """Whether the most likely token is the target, or, where the batch names an incorrect one, likelier than that."""
    targets = batch.targets[plan.prompts].to(reads.logits.device)
    if batch.incorrect is None:
        return reads.logits.argmax(-1) == targets
    incorrect = batch.incorrect[plan.prompts].to(targets)
    return (reads.logits.gather(1, targets[:, None]) > reads.logits.gather(1, incorrect[:, None]))[:, 0]


class Described(TypedDict):
    """The fields that every result shares beside its numbers."""

    prompt_tokens: tuple[tuple[str, ...], ...]
    targets: tuple[str, ...]
    info: dict[str, Any]


def describe(model: ResidualModel, batch: PromptBatch, metric: LinearMetric) -> Described:
    """What every result says of its prompts, its model and its metric."""
    facts = {"metric": metric.name, "shift_invariant": metric.shift_invariant}
    facts |= {} if batch.incorrect is None else {"forced_choice": True}
    return {
        "prompt_tokens": batch.labels,
        "targets": tuple(batch.token_name(t) for t in batch.targets.tolist()),
        "info": {**model.info, **batch.info, **facts},
    }
