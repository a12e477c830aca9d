"""Predictions: the model's most likely tokens at the read position, with their probabilities."""

from __future__ import annotations

from typing import TypedDict

from jaxtyping import Bool, Float, Int
from torch import Tensor

from maze_dla.engine.fit import check_fit
from maze_dla.engine.forward.running import Parts, run
from maze_dla.engine.ids import in_sets
from maze_dla.engine.model import MicroBatch, ResidualModel, soft_capped
from maze_dla.engine.prompts import PromptBatch
from maze_dla.engine.sites import LOGITS, Activations
from maze_dla.errors import InputError, check_whole
from maze_dla.results.columns import Columns


class Predicted(TypedDict):
    """The most likely tokens of every prompt, the likeliest first."""

    ids: Int[Tensor, "prompt k"]
    probabilities: Float[Tensor, "prompt k"]
    is_answer: Bool[Tensor, "prompt k"]
    names: dict[int, str]
    columns: Columns


def predict(model: ResidualModel, batch: PromptBatch, k: int = 5, *, sequences_at_once: int | None = None) -> Predicted:
    """The `k` most likely tokens of every prompt; `prediction_table` makes a table of them.

    Raises:
        InputError: the batch does not fit the model, or k is outside 1..vocabulary.
    """
    check_fit(model, batch)
    k = check_whole("k", k, 1)
    if k > batch.d_vocab:
        raise InputError(f"k is between 1 and the vocabulary's {batch.d_vocab} tokens, got {k}")

    def measure(micro: MicroBatch, found: Activations) -> Parts:
        top = soft_capped(found[LOGITS], model.weights.logit_cap).softmax(-1).topk(k, dim=-1)
        return {"ids": top.indices, "probabilities": top.values}

    parts = run(model, batch, [LOGITS], measure, what="predicting", sequences_at_once=sequences_at_once)
    return {
        "ids": parts["ids"],
        "probabilities": parts["probabilities"],
        "is_answer": in_sets(parts["ids"], batch.answers),
        "names": {int(token): batch.token_name(int(token)) for token in parts["ids"].unique()},
        "columns": batch.columns,
    }
