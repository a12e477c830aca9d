"""How much of each contribution depends on what two prompts of a pair differ in, and how much they share.

With u, v the unscaled contributions of a part in the clean and the corrupted run (activation times pulled-back
direction) and a, b the inverse final scales: dependent = (u - v)/2 * (a + b)/2 and shared = (u + v)/2 * (a + b)/2. The
part named `norm` takes sum(u + v)/2 * (a - b)/2 in dependent and sum(u - v)/2 * (a - b)/2 in shared, and the constant
stands in shared alone: they sum to half the difference and to half the sum of the two metrics.

Differences are taken of activations, before they meet the direction: what is alike in both runs is exactly zero.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from maze_dla.engine.completeness import SumChecks
from maze_dla.engine.devices import to_device
from maze_dla.engine.direct.attribution import parts_of_run
from maze_dla.engine.direct.described import describe, judged
from maze_dla.engine.direct.directions import pull_back
from maze_dla.engine.direct.parts import (
    by_kind,
    check_parts,
    components_of,
    contributions,
    fields_of,
    kept_parts,
    sites_to_record,
    sizes,
)
from maze_dla.engine.fit import check_contrast, check_fit_of_pairs
from maze_dla.engine.forward.running import Parts, run
from maze_dla.engine.ids import NONE
from maze_dla.engine.metrics import LinearMetric, logit_diff
from maze_dla.engine.model import MicroBatch, ResidualModel
from maze_dla.engine.pairs import PromptPairs
from maze_dla.engine.sites import FINAL_SCALE, LOGITS, Activations, Site
from maze_dla.results.attribution import AttributionResult, ContributionResult
from maze_dla.results.buckets import buckets_of
from maze_dla.results.columns import groups_of
from maze_dla.results.components import Component
from maze_dla.results.contrast import DEPENDENT, SHARED, ContrastResult
from maze_dla.results.moments import PromptMoments, neuron_fields, sum_in_double
from maze_dla.results.tolerances import tolerance_of

NORM = Component("norm")
NOT_LINEAR = ("pattern", FINAL_SCALE.name, LOGITS.name)  # stays with the two runs


def contrast(
    model: ResidualModel,
    pairs: PromptPairs,
    metric: LinearMetric | None = None,
    *,
    neurons: bool | Literal["mean"] = False,
    sources: bool | Literal["kinds"] = False,
    sequences_at_once: int | None = None,
) -> ContrastResult:
    """Attribute the metric in both prompts of every pair, and split it in halves, as `maze_dla.contrast` does.

    One forward pass over both.

    Raises:
        InputError: pairs or metric do not fit the model or each other, pairs whose corrupted prompts have no answer,
            an unknown value of `neurons` or `sources`.
        CompletenessError: parts of a run, or of a half, do not add up.
    """
    metric = logit_diff(pairs) if metric is None else metric
    keep = kept_parts(pairs.clean, neurons, sources)
    check_contrast(pairs)
    check_fit_of_pairs(model, pairs, metric)
    joined, of_both = pairs.joined(), for_both(metric, pairs)
    about, checks = pairs.clean.columns[pairs.clean.unit], SumChecks(model.weights.precision)
    moments = PromptMoments(groups_of(about), buckets_of(about))

    def measure(micro: MicroBatch, found: Activations) -> Parts:
        here, paired = of_both.select(micro.prompts), PairedPrompts.of(micro, len(pairs), found[LOGITS].device)
        parts = parts_of_run(model, found, micro, here, joined.kinds)
        halves = halves_of(model, found, micro, here, parts, paired, len(joined.kinds))
        _check(checks, parts, halves, micro.prompts, paired)
        parts |= judged(found[LOGITS], here.answers, here.foils)
        if neurons and "neurons" in parts:  # at once, so that a micro-batch that memory cut short counts once
            of_each = [x for p in (parts, halves) for x in paired.split(p["neurons"])]
            moments.add(torch.stack(of_each, 1), micro.prompts[paired.clean.cpu()])
        kept = {name: x for name, x in parts.items() if name in keep or isinstance(name, Component)}
        return kept | {("half", n): x for n, x in halves.items() if n in keep or isinstance(n, Component)}

    parts = run(
        model,
        joined,
        sites_to_record(model, sources),
        measure,
        what="contrasting",
        sequences_at_once=sequences_at_once,
        in_pairs=True,
    )
    checks.finish()
    return _result(model, pairs, metric, of_both, parts, moments)


def for_both(metric: LinearMetric, pairs: PromptPairs) -> LinearMetric:
    """The metric of the clean prompts, and again for the corrupted ones, where their own answers count as right.

    A metric whose right answers are not those of the clean prompts keeps its own for both.
    """
    n = len(pairs)
    twice = replace(metric, made_for=None, compared_with=None).select(torch.arange(n).repeat(2))
    if metric.answers is None or not metric.answers.equal(pairs.clean.answers):
        return twice
    foils = (metric.foils, None if metric.foils is None else pairs.corrupted.foils)
    known = foils[0] is not None and foils[1] is not None
    return replace(
        twice,
        answers=_stacked(metric.answers, pairs.corrupted.answers),
        foils=_stacked(foils[0], foils[1]) if known else None,  # pyright: ignore[reportArgumentType]
    )


def _stacked(one: Int[Tensor, "prompt _"], two: Int[Tensor, "prompt _"]) -> Int[Tensor, "both k"]:
    """Sets of ids one below the other, filled up with -1."""
    width = max(one.shape[1], two.shape[1])
    pad = torch.nn.functional.pad
    return torch.cat([pad(sets, (0, width - sets.shape[1]), value=NONE) for sets in (one, two)])


@dataclass(frozen=True)
class PairedPrompts:
    """The numbers within a micro-batch of the clean prompts and, in the same order, of their corrupted ones."""

    clean: Int[Tensor, " pair"]
    corrupted: Int[Tensor, " pair"]

    @classmethod
    def of(cls, micro: MicroBatch, n_pairs: int, device: torch.device) -> PairedPrompts:
        """Those of a micro-batch of pairs."""
        order = (micro.prompts % n_pairs * 2 + (micro.prompts >= n_pairs)).argsort()
        return cls(to_device(order[0::2], device), to_device(order[1::2], device))

    def split(self, values: Float[Tensor, "prompt ..."]) -> tuple[Tensor, Tensor]:
        """The values of the clean prompts and of the corrupted ones."""
        return values[self.clean], values[self.corrupted]

    def join(self, one: Float[Tensor, "pair ..."], two: Float[Tensor, "pair ..."]) -> Float[Tensor, "prompt ..."]:
        """The first for the clean prompts, the second for the corrupted ones."""
        joined = one.new_empty(2 * len(one), *one.shape[1:])
        joined[self.clean], joined[self.corrupted] = one, two
        return joined

    def halved(self, values: Float[Tensor, "prompt ..."]) -> Float[Tensor, "prompt ..."]:
        """Half of clean minus corrupted for the clean prompts, half of their sum for the corrupted ones."""
        clean, corrupted = self.split(values)
        return self.join((clean - corrupted) / 2, (clean + corrupted) / 2)


def halves_of(
    model: ResidualModel,
    found: Activations,
    micro: MicroBatch,
    metric: LinearMetric,
    runs: Parts,
    paired: PairedPrompts,
    n_kinds: int,
) -> Parts:
    """All parts of both halves: dependent ones for the clean prompts, shared ones for the corrupted ones."""
    direction = pull_back(model.weights, metric)[0][paired.clean]
    a, b = (1 / scale for scale in paired.split(found[FINAL_SCALE]))
    direction = direction * ((a + b) / 2)[:, None]
    constant = paired.split(runs["constant"])[0]
    is_shared = paired.join(torch.zeros_like(a), torch.ones_like(a))
    read = {s: paired.halved(x) for s, x in found.items() if s.position == "read" and s.name not in NOT_LINEAR}

    def sources(layer: int, through_W_O: Tensor) -> Tensor:
        moved = _moved(found, layer, micro, through_W_O.shape[1])
        return torch.einsum("phse,phe->phs", paired.halved(moved), through_W_O)

    with_sources = Site("pattern", 0) in found
    both = paired.join(direction, direction)
    parts: Parts = {
        "metric": paired.halved(runs["metric"]),
        "constant": paired.join(torch.zeros_like(constant), constant),
        **contributions(model, read, both, biases=is_shared, sources=sources if with_sources else None),
    }
    parts[NORM] = _norm(parts, a, b, paired)
    if with_sources and micro.kinds is not None:
        parts["sources_by_kind"] = by_kind(parts["sources"], micro.kinds[micro.rows], n_kinds)
    return parts


def _moved(
    found: Activations, layer: int, micro: MicroBatch, n_heads: int
) -> Float[Tensor, "prompt head position d_head"]:
    """The values that each head takes from each position, before W_O, times the attention paid there."""
    values = found[Site("v", layer, position="all")]
    values = values.repeat_interleave(n_heads // values.shape[2], 2)[to_device(micro.rows, values.device)]
    return values.transpose(1, 2) * found[Site("pattern", layer)][..., None]


def _norm(
    parts: Parts, a: Float[Tensor, " pair"], b: Float[Tensor, " pair"], paired: PairedPrompts
) -> Float[Tensor, " prompt"]:
    """The part of the norm, whose scale differs between the two runs, in both halves.

    As sum(u + v)/2 * (a - b)/2 = shared * (a - b)/(a + b), and likewise the other way round.
    """
    writers = torch.stack([values for name, values in parts.items() if isinstance(name, Component)], -1)
    dependent, shared = (sum_in_double(half) for half in paired.split(writers))
    a, b = (inverse.to(shared) for inverse in (a, b))
    ratio = (a - b) / (a + b)
    return paired.join((shared * ratio).to(writers), (dependent * ratio).to(writers))


def _check(
    checks: SumChecks, runs: Parts, halves: Parts, prompts: Int[Tensor, " prompt"], paired: PairedPrompts
) -> None:
    """Check the sums of both runs, and those of both halves by the sizes of the two runs."""
    of_runs = sizes(runs)
    check_parts(checks, runs, prompts, *of_runs)
    largest = [torch.maximum(*paired.split(size)) for size in of_runs]
    numbers = prompts[to_device(paired.clean, prompts.device)]
    for which, part in enumerate((DEPENDENT, SHARED)):
        of_half = {name: paired.split(values)[which] for name, values in halves.items()}
        check_parts(checks, of_half, numbers, *largest, which=f"{part} part: ")


def _result(
    model: ResidualModel,
    pairs: PromptPairs,
    metric: LinearMetric,
    of_both: LinearMetric,
    parts: Parts,
    moments: PromptMoments,
) -> ContrastResult:
    """The two runs and the two halves; what halves are named by is that of the clean run."""
    n, components, neurons = len(pairs), components_of(model, parts), [neuron_fields(moments, i) for i in range(4)]
    halves = {name[1]: parts.pop(name) for name in [*parts] if isinstance(name, tuple)}
    slack = tolerance_of(model.weights.precision) * float(sizes(parts)[1].max())
    changed = {"change": pairs.info["change"]} if "change" in pairs.info else {}
    results: dict[str, Any] = {}
    for i, (name, batch) in enumerate((("clean", pairs.clean), ("corrupted", pairs.corrupted))):
        here = {key: values[i * n : (i + 1) * n] for key, values in parts.items()}
        of_run = of_both.select(torch.arange(i * n, (i + 1) * n))
        described = describe(model, batch, of_run, here.pop("predicted"), here.pop("logit_size"))
        described["info"] |= {**changed, "run": name}
        results[name] = AttributionResult(**described, **fields_of(here, components, batch, neurons[i]))
    clean: AttributionResult = results["clean"]
    known = {name: value for name, value in clean.info.items() if name not in ("run", "forced_choice")}
    for i, part in enumerate((DEPENDENT, SHARED)):
        results[part] = ContributionResult(
            prompt_tokens=clean.prompt_tokens,
            targets=clean.targets,
            columns=clean.columns,
            # sums are differences of what was rounded in runs of this size
            info={**known, "part": part, "rounding": slack},
            **fields_of(
                {key: values[i * n : (i + 1) * n] for key, values in halves.items()},
                [*components, NORM],
                pairs.clean,
                neurons[2 + i],
            ),
        )
    return ContrastResult(**results, info={**pairs.info, "pairs": n})
