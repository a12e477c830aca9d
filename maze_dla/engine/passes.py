"""Running a batch through a model in pieces."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm.auto import tqdm

from maze_dla.engine.devices import sent
from maze_dla.engine.ids import NONE, first_where
from maze_dla.engine.metrics import LinearMetric
from maze_dla.engine.model import Reads, ResidualModel, Wanted
from maze_dla.engine.prompts import PromptBatch
from maze_dla.engine.queue import ReadPlan
from maze_dla.errors import InputError, PromptError
from maze_dla.results.tolerances import ROUNDING_OF_LOGITS, tolerance_of

Parts = dict[str, Tensor]
Measure = Callable[[ReadPlan, Reads], Parts]
BYTES_ON_CPU, TOKENS_ON_CPU = 6 << 20, (1024, 2048)  # of a layer's largest activations; never fewer, never more tokens
MOST_THREADS = 4  # threads share the work on a piece: each adds as much to it, up to so many
MOST_TOKENS = 1 << 20
SHARE_OF_FREE_MEMORY = 0.5


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
    if batch.d_vocab != model.shape.d_vocab:
        raise InputError(f"the batch has a vocabulary of {batch.d_vocab} tokens, the model of {model.shape.d_vocab}")
    _check_vocabulary(getattr(model, "vocabulary", None), batch)
    if int(batch.lengths.max()) > model.shape.n_ctx:
        i = int(batch.lengths.argmax())
        raise PromptError(
            f"prompt {i} has {int(batch.lengths[i])} tokens, the model's context holds {model.shape.n_ctx}"
        )
    _check_tokens(batch, model.shape.d_vocab_in)
    if metric is not None:
        _check_metric(metric, batch)


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


def run(
    model: ResidualModel,
    batch: PromptBatch,
    wanted: Wanted,
    measure: Measure,
    *,
    what: str,
    sequences_at_once: int | None = None,
) -> Parts:
    """What `measure` makes of the reads of every piece, put together in the order of the batch, on the CPU.

    A piece has at most `sequences_at_once` sequences; None leaves that to the device. Where its memory is not enough,
    pieces are halved and the piece is run again. A bar appears on a terminal when it takes more than two seconds.

    Raises:
        InputError: less than one sequence at once.
    """
    if sequences_at_once is not None and sequences_at_once < 1:
        raise InputError(f"sequences_at_once is at least 1, got {sequences_at_once}")
    size = piece_size(model, sequences_at_once)
    queue = batch.queue()
    joined: Parts = {}
    with tqdm(total=len(batch), desc=what, unit="prompt", disable=None, delay=2, leave=False) as bar:
        while (plan := queue.take(size.sequences, size.tokens)) is not None:
            try:
                with torch.no_grad():
                    tokens = plan.tokens[:, : model.shape.n_ctx]
                    piece = measure(plan, model.read(tokens, plan.rows, plan.positions, wanted).at_least_single())
            except torch.cuda.OutOfMemoryError:
                if len(plan.tokens) == 1:
                    raise
                queue.give_back(plan)
                size = size.halved(plan)
                continue
            _put(piece, plan.prompts, joined, len(batch))
            bar.update(len(plan.prompts))
    return {name: values.cpu() for name, values in joined.items()}


@dataclass(frozen=True)
class PieceSize:
    """How much goes through the model together: at most so many sequences and tokens."""

    sequences: int
    tokens: int

    def halved(self, plan: ReadPlan) -> PieceSize:
        """Half of what a plan had."""
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return PieceSize(max(len(plan.tokens) // 2, 1), self.tokens)


def piece_size(model: ResidualModel, sequences_at_once: int | None) -> PieceSize:
    """A size that is fast on the model's device: what the caches of a CPU hold, what is free on a GPU."""
    if sequences_at_once is not None:
        return PieceSize(sequences_at_once, MOST_TOKENS)
    device = model.W_U.device
    shape = model.shape
    if device.type != "cuda":
        (fewest, most), threads = TOKENS_ON_CPU, min(torch.get_num_threads(), MOST_THREADS)
        fitting = BYTES_ON_CPU // (model.W_U.element_size() * (shape.d_mlp or shape.d_model))
        return PieceSize(MOST_TOKENS, max(min(fitting, most) * threads, fewest))
    free, _ = torch.cuda.mem_get_info(device)
    reusable = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    a_token = 4 * model.W_U.element_size() * (4 * shape.d_model + 2 * (shape.d_mlp or 0))
    return PieceSize(MOST_TOKENS, max(int(SHARE_OF_FREE_MEMORY * (free + reusable)) // a_token, shape.n_ctx))


def _put(piece: Parts, prompts: Int[Tensor, "some"], joined: Parts, n: int) -> None:
    """A piece in its place among all `n` prompts, where it is: whatever is kept of it would lie between large arrays.

    The first piece has the longest sequences; a later one has zeros at the positions that it lacks.
    """
    for name, values in piece.items():
        if name not in joined:
            joined[name] = values.new_zeros(n, *values.shape[1:])
        wide = joined[name] if values.dim() == 1 else joined[name][..., : values.shape[-1]]
        wide.index_copy_(0, sent(prompts, values.device), values)


def hits(
    logits: Float[Tensor, "prompt vocab"],
    answers: Int[Tensor, "prompt answer"] | None,
    foils: Int[Tensor, "prompt foil"] | None = None,
) -> Parts:
    """For which prompts the most likely token is right (`correct`), and the best right one above the best wrong one
    (`preferred`), as far as right and wrong ones are known.
    """  # fmt: skip
    if answers is None:
        return {}
    answers = sent(answers, logits.device)
    parts = {"correct": (answers == logits.argmax(-1, keepdim=True)).any(-1)}
    if foils is not None:
        parts["preferred"] = best_of(logits, answers) > best_of(logits, sent(foils, logits.device))
    return parts


def best_of(logits: Float[Tensor, "prompt vocab"], ids: Int[Tensor, "prompt k"]) -> Float[Tensor, "prompt"]:
    """The highest logit of each prompt's set of tokens."""
    return logits.gather(1, ids.clamp_min(0)).masked_fill(ids == NONE, -torch.inf).amax(1)


class Described(TypedDict):
    """The fields that every result shares beside its numbers."""

    prompt_tokens: tuple[tuple[str, ...], ...]
    targets: tuple[str, ...]
    info: dict[str, Any]


def describe(
    model: ResidualModel, batch: PromptBatch, metric: LinearMetric, logit_size: Tensor | None = None
) -> Described:
    """What every result says of its prompts, its model and its metric.

    `precision` is what the model computes in, `rounding` how far sums may be off since logits of this size are rounded,
    `others` tells apart metrics of one name that compare every prompt with one mask of tokens.
    """
    facts = {"metric": metric.name, "shift_invariant": metric.shift_invariant}
    facts |= {} if metric.foils is None else {"forced_choice": True}
    facts |= {"precision": str(model.precision).removeprefix("torch.")}
    facts |= {} if metric.others is None else {"others": metric.others}
    if logit_size is not None:
        facts |= {"rounding": tolerance_of(model.precision) * ROUNDING_OF_LOGITS * float(logit_size.max())}
    return {
        "prompt_tokens": batch.labels,
        "targets": tuple(batch.token_name(t) for t in batch.targets.tolist()),
        "info": {**batch.info, **model.info, **facts},
    }
