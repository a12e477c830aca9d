"""Activation patching: one run's activation put into the other, site by site, and what it does to the metric.

Vig et al. 2020 ("Investigating gender bias in language models using causal mediation analysis", section 3), Meng et al.
2022 ("Locating and editing factual associations in GPT", section 2); for what the two directions mean, Heimersheim and
Nanda 2024 ("How to use and interpret activation patching", section 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from maze_dla.engine.causal.cells import Grid, Swap, entries_in_chunks, grid_of
from maze_dla.engine.causal.gradients import Sample, estimated_changes
from maze_dla.engine.causal.reading import AT_THE_END, MetricAtReads
from maze_dla.engine.completeness import SumChecks
from maze_dla.engine.devices import to_device
from maze_dla.engine.direct.contrast import PairedPrompts, for_both
from maze_dla.engine.direct.described import describe, judged
from maze_dla.engine.edits import Rerun
from maze_dla.engine.fit import check_fit_of_pairs
from maze_dla.engine.forward.running import Parts, in_micro_batches
from maze_dla.engine.metrics import LinearMetric, logit_diff
from maze_dla.engine.model import MicroBatch, ResidualModel
from maze_dla.engine.pairs import PromptPairs
from maze_dla.engine.precision import at_least_single
from maze_dla.engine.sites import LOGITS
from maze_dla.errors import InputError, check_whole
from maze_dla.results.parts import Neuron
from maze_dla.results.patching import PatchResult

MOST_NUMBERS = 1 << 20  # that edits hold at once
SHARE = {"each": 0.5, "all": 0.75, "read": 1.0}  # of a plain run's micro-batch: every position by itself needs memory


def patch(
    model: ResidualModel,
    pairs: PromptPairs,
    metric: LinearMetric | None = None,
    *,
    site: str = "resid_pre",
    direction: str = "denoise",
    positions: str | None = None,
    neurons: Sequence[Neuron] | None = None,
    estimate: str = "exact",
    seed: int = 0,
    sequences_at_once: int | None = None,
) -> PatchResult:
    """Put one run's activations into the other, as `maze_dla.patch` does.

    Raises:
        InputError: pairs or metric do not fit the model or each other, an unknown site, direction, estimate or value of
            `positions`, or neurons that do not go with the site.
        ModelError: a site that the model does not have, or that cannot be edited.
        CompletenessError: the metric is not what the final residual gives.
    """
    if direction not in ("denoise", "noise"):
        raise InputError(f"direction is 'denoise' or 'noise', got {direction!r:.60}")
    if estimate not in ("exact", "gradient"):
        raise InputError(f"estimate is 'exact' or 'gradient', got {estimate!r:.60}")
    if metric is None:
        metric = logit_diff(pairs if pairs.unanswered is None else pairs.clean)
    check_fit_of_pairs(model, pairs, metric)
    grid, axes = grid_of(model, site, positions, neurons)
    sample = Sample(check_whole("seed", seed, 0)) if estimate == "gradient" else None
    patching = _Patching(model, pairs, for_both(metric, pairs), grid, direction, sample)
    parts = in_micro_batches(
        model,
        pairs.joined(),
        patching.of_micro_batch,
        what="patching",
        sequences_at_once=sequences_at_once,
        in_pairs=True,
        share=SHARE[grid.together],
        n_rows=len(pairs),
    )
    patching.checks.finish()
    return patching.result(metric, axes, parts)


@dataclass(frozen=True, eq=False)
class _Patching:
    """The patching of one set of pairs: its grid, direction and metric."""

    model: ResidualModel
    pairs: PromptPairs
    metric: LinearMetric
    grid: Grid
    direction: str
    sample: Sample | None
    checks: SumChecks = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "checks", SumChecks(self.model.weights.precision))

    def of_micro_batch(self, micro: MicroBatch) -> tuple[Tensor, Parts]:
        """Rows of pairs, and their parts."""
        grid, here = self.grid, self.metric.select(micro.prompts)
        plain, rerun = self.model.forward.editable(micro, [*AT_THE_END, LOGITS, *grid.sites], grid.edited)
        reader = MetricAtReads.of(self.model.weights, here)
        metric, size = reader.check(self.checks, plain, here, micro.prompts)
        paired = PairedPrompts.of(micro, len(self.pairs), torch.device("cpu"))
        into, source = paired.corrupted, paired.clean
        if self.direction == "noise":
            into, source = source, into
        swap = Swap(into, source, grid, micro, plain)
        logits = at_least_single(plain[LOGITS])
        parts = {name: x[paired.clean] for name, x in judged(logits, here.answers, here.foils).items()}
        parts |= {"clean": metric[paired.clean], "corrupted": metric[paired.corrupted], "logit_size": size[into]}
        differing = swap.differing()
        if self.sample is None:
            parts["change"] = self._changes(swap, differing, rerun, reader)
        else:
            parts["change"] = estimated_changes(self.model, swap, differing, here)
            chosen = self.sample.of(differing, grid.together)
            exact = self._changes(swap, differing & chosen, rerun, reader)
            self.sample.compare(parts["change"], exact, chosen & differing)
        return micro.prompts[into] % len(self.pairs), parts

    def _changes(
        self, swap: Swap, differing: Bool[Tensor, "pair unit position"], rerun: Rerun, reader: MetricAtReads
    ) -> Float[Tensor, "pair unit ..."]:
        """How far each edit moves the metric; exactly zero where both runs agree, where nothing is run."""
        device = reader.direction.device
        changes = torch.zeros(differing.shape, dtype=reader.constant.dtype, device=device)
        plain = reader(swap.plain)
        width = {"pattern": differing.shape[2], "neurons": 1}.get(self.grid.site, self.model.weights.shape.d_model)
        if self.grid.together != "each":
            changes = changes[..., 0]
        for entries, branches in entries_in_chunks(differing, self.grid.together, max(MOST_NUMBERS // width, 1)):
            first = torch.ones(len(branches), dtype=torch.bool)
            first[1:] = branches[1:] != branches[:-1]
            cell = entries[first][:, : changes.ndim]
            prompts = swap.into[cell[:, 0]]
            read = reader(rerun(prompts, swap.edits(entries, branches), AT_THE_END), prompts)
            at = tuple(to_device(index, device) for index in cell.unbind(1))
            changes[at] = read - plain[to_device(prompts, device)]
        return changes

    def result(self, metric: LinearMetric, axes: tuple[str, ...], parts: Parts) -> PatchResult:
        """The result of these parts."""
        clean, n = self.pairs.clean, len(self.pairs)
        of_clean = self.metric.select(torch.arange(n))
        described: dict[str, Any] = {
            **describe(self.model, clean, of_clean, parts.pop("predicted"), parts.pop("logit_size"))
        }
        described["info"] |= {"change": self.pairs.info["change"]} if "change" in self.pairs.info else {}
        described["info"] |= {"positions": self.grid.together}
        change = parts.pop("change")
        of_pairs: dict[str, Any] = {**described, **parts}
        plain = of_pairs["corrupted" if self.direction == "denoise" else "clean"]
        values = plain.view(-1, *[1] * (change.ndim - 1)) + change
        if axes[:2] == ("layer", "head"):
            values = values.unflatten(1, (self.grid.n_layers, -1))
        lengths, longest = clean.lengths, int(clean.lengths.max())
        if axes[-1] == "position":
            values = values[..., :longest]
            behind = torch.arange(longest) >= lengths[:, None]
            values = values.masked_fill(behind.view(n, *[1] * (values.ndim - 2), longest), torch.nan)
        return PatchResult(
            **{"correct": None, **of_pairs},
            metric=plain,
            values=values,
            site=self.grid.site,
            direction=self.direction,
            axes=axes,
            neurons=self._neurons(axes),
            lengths=lengths,
            kinds=clean.kinds,
            token_kinds=_token_kinds(clean, longest),
            estimated=self.sample is not None,
            agreement=None if self.sample is None else self.sample.correlation,
            sampled=0 if self.sample is None else self.sample.n,
        )

    def _neurons(self, axes: tuple[str, ...]) -> tuple[str, ...]:
        places = zip(self.grid.layers, self.grid.numbers, strict=True)
        return tuple(f"L{i}N{n}" for i, n in places) if axes[0] == "neuron" else ()


def _token_kinds(batch: Any, longest: int) -> Tensor | None:
    """The kind of each token of each prompt, -1 behind the read position."""
    if batch.sequence_kinds is None:
        return None
    kinds = batch.sequence_kinds[batch.sequence_of, :longest]
    return kinds.masked_fill(torch.arange(longest) >= batch.lengths[:, None], -1)
