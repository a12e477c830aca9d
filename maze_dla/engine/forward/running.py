"""Running a batch: in micro-batches of the longest sequences first, put together in the order of its prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from tqdm.auto import tqdm

from maze_dla.engine.devices import to_device
from maze_dla.engine.model import MicroBatch, ModelWeights, ResidualModel
from maze_dla.engine.precision import at_least_single
from maze_dla.engine.prompts import PromptBatch
from maze_dla.engine.sites import Activations, Site
from maze_dla.errors import check_whole

BYTES_ON_CPU, TOKENS_ON_CPU = 6 << 20, (1024, 2048)  # of a layer's largest activations; never fewer, never more tokens
MOST_THREADS = 4  # threads share the work on a micro-batch: each adds as much to it, up to so many
MOST_TOKENS = 1 << 20
SHARE_OF_FREE_MEMORY = 0.5

Parts = dict[Any, Tensor]  # by the name of a field of the result, or by component
Measure = Callable[[MicroBatch, Activations], Parts]
Compute = Callable[[MicroBatch], tuple[Tensor, Parts]]  # of which rows, and their values


class SequenceQueue:
    """The sequences of a batch, the longest first, those of one length that begin alike side by side.

    Each is as long as its last read position; one that no prompt reads is not there. In pairs, the first half of the
    sequences with the second, both of a pair (of one length) are always taken together.
    """

    def __init__(self, batch: PromptBatch, n_ctx: int, *, in_pairs: bool = False) -> None:
        self._batch, self._n_ctx, self.least = batch, n_ctx, 2 if in_pairs else 1
        n = len(batch.sequence_lengths)
        self._last_read = torch.zeros(n, dtype=torch.long)
        self._last_read.scatter_reduce_(0, batch.sequence_of, batch.lengths, reduce="amax")
        last_read, rows = self._last_read.tolist(), batch.sequences.numpy()
        read = [i for i in range(n) if last_read[i] > 0]
        self._order = sorted(read, key=lambda i: (-last_read[i], rows[i, : last_read[i]].tobytes()))
        if in_pairs:
            first: dict[int, int] = {}
            for place, i in enumerate(self._order):
                first.setdefault(i % (n // 2), place)
            self._order.sort(key=lambda i: first[i % (n // 2)])
        together = batch.sequence_of.argsort(stable=True)
        self._prompts_of = together.split(batch.sequence_of.bincount(minlength=n).tolist())
        self._next = 0

    def take(self, n_sequences: int, n_tokens: int) -> MicroBatch | None:
        """The next sequences: `least` or more, at most so many of them and of their tokens. None when all are taken."""
        if self._next == len(self._order):
            return None
        longest = int(self._last_read[self._order[self._next]])
        n = max(min(n_sequences, n_tokens // longest) // self.least, 1) * self.least
        chosen = self._order[self._next : self._next + n]
        self._next += len(chosen)
        return self._micro_batch(chosen, longest)

    def give_back(self, micro: MicroBatch) -> None:
        """Put the sequences that were taken last in front again."""
        self._next -= len(micro.tokens)

    def _micro_batch(self, chosen: list[int], longest: int) -> MicroBatch:
        """Widths are multiples of 8: a CPU library that caches a plan per shape then stays small."""
        batch = self._batch
        width = min(-(-longest // 8) * 8, batch.sequences.shape[1], self._n_ctx)
        read = torch.arange(width) < self._last_read[chosen][:, None]
        tokens = batch.sequences[chosen, :width].where(read, 0)  # what pads may be no token at all
        prompts = [self._prompts_of[i] for i in chosen]
        rows = torch.repeat_interleave(torch.arange(len(chosen)), torch.tensor([len(p) for p in prompts]))
        together = torch.cat(prompts)
        kinds = None if batch.sequence_kinds is None else batch.sequence_kinds[chosen, :width]
        return MicroBatch(tokens, together, rows, batch.read_positions[together], kinds)


def run(
    model: ResidualModel,
    batch: PromptBatch,
    sites: Sequence[Site],
    measure: Measure,
    *,
    what: str,
    sequences_at_once: int | None = None,
    in_pairs: bool = False,
    share: float = 1.0,
) -> Parts:
    """The values of `measure` on the activations of every micro-batch, in the order of the batch, on the CPU.

    Half precision comes to `measure` as float32: what is computed from it then has no further rounding. A micro-batch
    has at most `sequences_at_once` sequences; None leaves that to the device. Where its memory is not enough, they are
    halved and run again. A bar appears on a terminal when it takes more than two seconds. `in_pairs` keeps sequence i
    and sequence i + n/2 of n in one micro-batch. With a `share` a micro-batch has that share of the tokens that it
    would have.

    Raises:
        InputError: less than one sequence at once.
    """

    def compute(micro: MicroBatch) -> tuple[Tensor, Parts]:
        found = model.forward(micro, sites)
        return micro.prompts, measure(micro, {site: at_least_single(x) for site, x in found.items()})

    options = {"what": what, "sequences_at_once": sequences_at_once, "in_pairs": in_pairs, "share": share}
    return in_micro_batches(model, batch, compute, **options)


def in_micro_batches(
    model: ResidualModel,
    batch: PromptBatch,
    compute: Compute,
    *,
    what: str,
    sequences_at_once: int | None = None,
    in_pairs: bool = False,
    share: float = 1.0,
    n_rows: int | None = None,
) -> Parts:
    """The values that `compute` finds in every micro-batch, each value in its row, on the CPU; as `run`, which see.

    `compute` says of which rows its values are, out of `n_rows`, by default one for each prompt. A micro-batch has that
    `share` of the tokens that one of a plain run would have.

    Raises:
        InputError: less than one sequence at once.
    """
    if sequences_at_once is not None:
        check_whole("sequences_at_once", sequences_at_once, 1)
    limits = batch_limits(model.weights, sequences_at_once)
    limits = replace(limits, tokens=max(int(limits.tokens * share), 1))
    queue = SequenceQueue(batch, model.weights.shape.n_ctx, in_pairs=in_pairs)
    joined: Parts = {}
    with tqdm(total=len(batch), desc=what, unit="prompt", disable=None, delay=2, leave=False) as bar:
        while (micro := queue.take(limits.sequences, limits.tokens)) is not None:
            try:
                with torch.no_grad():
                    rows, piece = compute(micro)
            except torch.cuda.OutOfMemoryError:
                if len(micro.tokens) <= queue.least:
                    raise
                queue.give_back(micro)
                limits = limits.halved(micro)
                continue
            scatter_rows(piece, rows, joined, n_rows or len(batch))
            bar.update(len(micro.prompts))
    return {name: values.cpu() for name, values in joined.items()}


@dataclass(frozen=True)
class BatchLimits:
    """How much goes through the model together: at most so many sequences and tokens."""

    sequences: int
    tokens: int

    def halved(self, micro: MicroBatch) -> BatchLimits:
        """Half of what a micro-batch had."""
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return BatchLimits(max(len(micro.tokens) // 2, 1), self.tokens)


def batch_limits(weights: ModelWeights, sequences_at_once: int | None) -> BatchLimits:
    """Limits that are fast on the model's device: what the caches of a CPU hold, what is free on a GPU."""
    if sequences_at_once is not None:
        return BatchLimits(sequences_at_once, MOST_TOKENS)
    device, shape, n_bytes = weights.W_U.device, weights.shape, weights.W_U.element_size()
    if device.type != "cuda":
        (fewest, most), threads = TOKENS_ON_CPU, min(torch.get_num_threads(), MOST_THREADS)
        fitting = BYTES_ON_CPU // (n_bytes * (shape.d_mlp or shape.d_model))
        return BatchLimits(MOST_TOKENS, max(min(fitting, most) * threads, fewest))
    free, _ = torch.cuda.mem_get_info(device)
    reusable = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    a_token = 4 * n_bytes * (4 * shape.d_model + 2 * (shape.d_mlp or 0))
    return BatchLimits(MOST_TOKENS, max(int(SHARE_OF_FREE_MEMORY * (free + reusable)) // a_token, shape.n_ctx))


def scatter_rows(piece: Parts, prompts: Int[Tensor, " some"], joined: Parts, n: int) -> None:
    """Put a micro-batch's rows among those of all `n` prompts, in place: what is kept would lie between large arrays.

    The first micro-batch has the longest sequences; a later one has zeros at the positions that it lacks.
    """
    for name, values in piece.items():
        if name not in joined:
            joined[name] = values.new_zeros(n, *values.shape[1:])
        wide = joined[name] if values.dim() == 1 else joined[name][..., : values.shape[-1]]
        wide.index_copy_(0, to_device(prompts, values.device), values)
