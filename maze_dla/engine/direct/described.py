"""The fields of every result beside its numbers: prompts, model, metric, and which answers are right."""

from __future__ import annotations

from typing import Any, TypedDict

import torch
from jaxtyping import Float, Int
from torch import Tensor

from maze_dla.engine.devices import to_device
from maze_dla.engine.ids import NONE
from maze_dla.engine.metrics import LinearMetric
from maze_dla.engine.model import ResidualModel
from maze_dla.engine.prompts import PromptBatch
from maze_dla.results.columns import Columns
from maze_dla.results.skill import BASELINES, CANDIDATES, CHANCE
from maze_dla.results.tolerances import ROUNDING_OF_LOGITS, tolerance_of


def judged(
    logits: Float[Tensor, "prompt vocab"],
    answers: Int[Tensor, "prompt answer"] | None,
    foils: Int[Tensor, "prompt foil"] | None = None,
) -> dict[str, Tensor]:
    """The most likely token of each prompt (`predicted`), whether it is right (`correct`), and whether the best right
    one is above the best wrong one (`preferred`), as far as right and wrong ones are known.
    """  # fmt: skip
    parts = {"predicted": logits.argmax(-1)}
    if answers is None:
        return parts
    answers = to_device(answers, logits.device)
    parts["correct"] = (answers == parts["predicted"][:, None]).any(-1)
    if foils is not None:
        parts["preferred"] = best_of(logits, answers) > best_of(logits, to_device(foils, logits.device))
    return parts


def best_of(logits: Float[Tensor, "prompt vocab"], ids: Int[Tensor, "prompt k"]) -> Float[Tensor, " prompt"]:
    """The highest logit of each prompt's set of tokens."""
    return logits.gather(1, ids.clamp_min(0)).masked_fill(ids == NONE, -torch.inf).amax(1)


class Described(TypedDict):
    """The fields that every result shares beside its numbers."""

    prompt_tokens: tuple[tuple[str, ...], ...]
    targets: tuple[str, ...]
    info: dict[str, Any]
    columns: Columns
    predicted: tuple[str, ...]


def describe(
    model: ResidualModel,
    batch: PromptBatch,
    metric: LinearMetric,
    predicted: Int[Tensor, " prompt"],
    logit_size: Tensor | None = None,
) -> Described:
    """The fields of a result that describe its prompts, its model and its metric.

    `precision` is what the model computes in, `rounding` how far sums may be off since logits of this size are rounded,
    `others` tells apart metrics of one name that compare every prompt with one mask of tokens.
    """
    facts = {"metric": metric.name, "shift_invariant": metric.shift_invariant, "unit": batch.unit}
    facts |= {} if metric.foils is None else {"forced_choice": True}
    facts |= {"precision": str(model.weights.precision).removeprefix("torch.")}
    facts |= {} if metric.others is None else {"others": metric.others}
    if logit_size is not None:
        facts |= {"rounding": tolerance_of(model.weights.precision) * ROUNDING_OF_LOGITS * float(logit_size.max())}
    columns, baselines = guesses(batch, metric)
    facts |= {BASELINES: baselines} if BASELINES in batch.info else {}
    names = {token: batch.token_name(token) for token in {*predicted.tolist(), *batch.targets.tolist()}}
    return {
        "prompt_tokens": batch.labels,
        "targets": tuple(names[token] for token in batch.targets.tolist()),
        "info": {**batch.info, **model.info, **facts},
        "columns": columns,
        "predicted": tuple(names[token] for token in predicted.tolist()),
    }


def guesses(batch: PromptBatch, metric: LinearMetric) -> tuple[Columns, list[str]]:
    """The batch's columns with the chance of each prompt, and the names of those of its plain strategies.

    Both hold for the most likely token to be one of the batch's answers. Where the metric names wrong tokens the
    candidates are these and the right ones, of which guessing takes any; no strategy of the batch answers that. Where
    the metric has right answers of its own nothing is known of either.
    """
    columns = {**batch.columns}
    if metric.foils is not None and metric.answers is not None:
        right, wrong = ((tokens != NONE).sum(1) for tokens in (metric.answers, metric.foils))
        return {**columns, CANDIDATES: right + wrong, CHANCE: right.double() / (right + wrong)}, []
    if metric.answers is not None and torch.equal(metric.answers, batch.answers):
        return columns, list(batch.info.get(BASELINES, ()))
    return {name: held for name, held in columns.items() if name not in (CANDIDATES, CHANCE)}, []
