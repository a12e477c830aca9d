"""Runs over any number of prompts, in constant memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sized
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from tqdm.auto import tqdm

from maze_dla.errors import InputError, check_path
from maze_dla.results.activations import ActivationResult
from maze_dla.results.attention import AttentionResult
from maze_dla.results.attribution import ContributionResult
from maze_dla.results.base import PromptResult
from maze_dla.results.buckets import N_BUCKETS, Clusters, error_by_bucket
from maze_dla.results.circuits import CircuitResult
from maze_dla.results.distances import DistanceResult
from maze_dla.results.effects import EffectResult
from maze_dla.results.grouped_stream import Groups
from maze_dla.results.head_scores import HeadScores
from maze_dla.results.moments import BatchMoments
from maze_dla.results.patching import PatchResult
from maze_dla.results.shards import ShardWriter
from maze_dla.results.skill import plain_labels, plain_numbers
from maze_dla.results.steering import SteerResult
from maze_dla.results.streamed import StreamedResult

Batch = TypeVar("Batch")
EDITED = (PatchResult, EffectResult, CircuitResult, SteerResult)  # more than means and variances say
ATTENTION = (AttentionResult, HeadScores, DistanceResult)
JUDGED = ("correct", "preferred")  # of which streams count prompts
OF_EACH_BATCH = ("seed", "mazes", "prompts", "shift_invariant", "rounding")  # may differ between batches of one kind


def stream(
    ask: Callable[[Batch], PromptResult],
    batches: Iterable[Batch],
    *,
    shards: str | Path | None = None,
    group_by: str | None = None,
    bins: Any = None,
) -> StreamedResult:
    """Ask the same of one batch after another and keep means, variances and counts; each batch is then let go.

    A bar with the rate and the time left appears on a terminal when it takes more than two seconds; the time left
    needs `batches` to have a length. Metrics are alike where their names are, and where they compare with one mask of
    tokens also that mask; coefficients and masks of each prompt's own are not compared between batches.

    Intervals are clustered by maze, as in one run over all prompts. Where some maze comes in several batches they are
    clustered by 64 fixed groups of mazes (by a hash) instead, which holds as well. The names of mazes are all that
    grows with their number.

    Args:
        ask: from a batch to its result, such as `lambda batch: attribute(model, batch, correct_vs_other(batch))`.
            With `neurons="mean"` and `sources="kinds"` nothing that is large is kept even for one batch.
        batches: such as `maze.prompt_batches(n_mazes=100_000)`, or a list.
        shards: a folder for the numbers of every prompt, one Parquet file for each batch, whole or not there at all;
            `pandas.read_parquet(folder)` reads them. Rows are prompts; the arrays of a prompt are flattened, their
            shapes and labels stand in the metadata of the schema.
        group_by: a column of the results' `table`; the stream's `groups` are then as those of `result.group_by` over
            all prompts. Groups of results with `neurons="mean"` have no neurons.
        bins: edges of bins of that column, as for `result.group_by`; default a group for each value.

    Raises:
        InputError: no batches, a column that a result does not have, a number of bins (they are known at the end only),
            something else than a result of attribute, logit_lens or token_lens, results of different kinds, shapes,
            metrics, scales or models, or a folder that already holds shards or cannot be written.
        MazeDlaError: whatever `ask` raises; the shards of the batches before it are left.
    """
    if not isinstance(batches, Iterable):
        raise InputError(f"batches are a list of batches or what yields them, got {type(batches).__name__}")
    if not callable(ask):
        raise InputError(f"ask is a function from a batch to its result, got {type(ask).__name__}")
    if shards is not None:
        check_path(shards, "shards")
    groups = None if group_by is None and bins is None else Groups.by(group_by, bins, Accumulator)
    with nullcontext() if shards is None else ShardWriter.open(shards) as writer:
        streamed = _accumulate(ask, batches, writer, groups)
    return streamed if groups is None else replace(streamed, groups=groups.finished())


def _accumulate(
    ask: Callable[[Batch], PromptResult], batches: Iterable[Batch], writer: ShardWriter | None, groups: Groups | None
) -> StreamedResult:
    accumulator = Accumulator()
    total = len(batches) if isinstance(batches, Sized) else None
    with tqdm(total=total, desc="streaming", unit="batch", disable=None, delay=2, leave=False) as bar:
        for batch in batches:
            result = ask(batch)
            _check_streamed(result)
            accumulator.add(result)
            if groups is not None:
                groups.add(result)
            if writer is not None:
                writer.write(result)
            bar.update()
            del batch, result  # before the next batch is made
    return accumulator.finished()


def _check_streamed(result: object) -> None:
    """Refuse what is no result, and results of edited runs.

    Shares recovered or kept are of all prompts together, and what takes a part's place comes from the whole reference.
    """
    if not isinstance(result, PromptResult):
        raise InputError(f"ask returns the result of a batch, got {type(result).__name__}")
    if isinstance(result, ActivationResult):
        raise InputError(
            "streams are of attribute, logit_lens and token_lens, got an ActivationResult: write_activations writes "
            "the activations of one batch after another to Parquet files"
        )
    if isinstance(result, EDITED):
        raise InputError(
            f"streams are of attribute, logit_lens and token_lens, got {type(result).__name__}: give patch, ablate, "
            "keep_only, find_circuit and steer all prompts in one batch, which they run in pieces"
        )
    if isinstance(result, ATTENTION):
        raise InputError(
            f"streams are of attribute, logit_lens and token_lens, got {type(result).__name__}: give head_scores all "
            "prompts in one batch, which it runs in pieces"
        )


class Accumulator:
    """Means, variances and counts of the results so far."""

    def __init__(self) -> None:
        self.moments: dict[str, BatchMoments] = defaultdict(BatchMoments)
        self.of: dict[object, int] = {}  # the batch of what each prompt is about
        self.several = False  # whether something came in several batches
        self.n_batches = self.n_clusters = 0
        self.counts = torch.zeros(N_BUCKETS, dtype=torch.long)
        self.alike: dict[str, Any] = {}
        self.labels: dict[str, tuple[str, ...]] = {}
        self.info: dict[str, Any] = {}
        self.n = 0
        self.answered: dict[str, int] = {}
        self.largest_gap = 0.0

    def add(self, result: PromptResult) -> None:
        """One more result."""
        numbers = result.per_prompt()
        self._check(result, {name: tuple(values.shape[1:]) for name, values in numbers.items()})
        if result.answered is not None:
            numbers |= plain_numbers(result.answered, result.columns, result.info)
        if (gap := numbers.pop("gap", None)) is not None:
            self.largest_gap = max(self.largest_gap, float(gap.abs().max()))
        judged = {"correct": result.correct, "preferred": result.preferred}
        known = {name: held for name, held in judged.items() if held is not None}
        clusters = self._clusters(result)
        for name, values in (numbers | {name: held.double() for name, held in known.items()}).items():
            self.moments[name].add(values, clusters)
        if isinstance(result, ContributionResult) and "neurons" not in numbers and result.neuron_mean is not None:
            self.moments["neurons"].add_neurons(result, clusters)
        self.n += len(result)
        for name, held in known.items():
            self.answered[name] = self.answered.get(name, 0) + int(held.sum())

    def _clusters(self, result: PromptResult) -> Clusters:
        """The numbers of the things that prompts are about, noting what came in an earlier batch."""
        numbers, buckets = result.clusters, result.buckets
        self.counts += buckets.bincount(minlength=N_BUCKETS)
        sizes = numbers.bincount()
        self.n_clusters += len(sizes)
        if (names := result.columns.get(str(result.info.get("unit")))) is not None:
            for name in dict.fromkeys(names.tolist() if isinstance(names, Tensor) else names):
                self.several |= self.of.setdefault(name, self.n_batches) != self.n_batches
        self.n_batches += 1
        return Clusters(numbers, sizes, buckets)

    def _check(self, result: PromptResult, shapes: dict[str, tuple[int, ...]]) -> None:
        """Refuse what cannot be averaged with the results so far."""
        own = {name: result.info.get(name) for name in result.info if name not in OF_EACH_BATCH}
        plain = {} if result.answered is None else plain_labels(result.columns, result.info)
        alike = {
            "kind": type(result).__name__,
            "numbers": shapes,
            "notion of right": result.correct is not None,
            "labels": result.axis_labels | plain,
            "scale": getattr(result, "scale", None),
            "neurons": getattr(result, "neuron_mean", None) is not None,
            "model": result.info.get("model"),
            **own,
        }
        if not self.alike:
            self.alike, self.info, self.labels = alike, dict(result.info), alike["labels"]
            return
        both = (alike, self.alike)
        if differs := [name for name in {**self.alike, **alike} if both[0].get(name) != both[1].get(name)]:
            seen, first = (f"{one.get(differs[0])!r:.200}" for one in both)
            raise InputError(
                f"results of one stream are alike, but after {self.n} prompts comes one of another {differs[0]}: "
                f"{seen} where the first had {first}"
            )

    def finished(self) -> StreamedResult:
        """The result over all prompts."""
        if not self.alike:
            raise InputError("a stream needs at least one batch, got none")
        kept = {name: m for name, m in self.moments.items() if name not in JUDGED}
        errors = {name: m.error for name, m in self.moments.items()}
        sums = {name: m.sums for name, m in self.moments.items()}
        if self.several:  # prompts about one thing in several batches: buckets, which hold all of them, are clusters
            by_bucket = {name: error_by_bucket(held, self.counts) for name, held in sums.items() if held is not None}
            errors = {name: by_bucket.get(name, torch.full_like(error, torch.nan)) for name, error in errors.items()}
        return StreamedResult(
            of=self.alike["kind"],
            n=self.n,
            n_correct=self.answered.get("correct"),
            n_preferred=self.answered.get("preferred"),
            means={name: m.mean for name, m in kept.items()},
            variances={name: m.variance for name, m in kept.items()},
            axis_labels=self.labels,
            largest_gap=self.largest_gap,
            info=self.info,
            scale=self.alike["scale"],
            errors=errors,
            n_clusters=int((self.counts > 0).sum()) if self.several else self.n_clusters,
            n_units=len(self.of) or self.n_clusters,
            bucket_counts=self.counts,
            bucket_sums={name: held for name, held in sums.items() if held is not None},
        )
