"""Ablation: each part by itself is put out of action, and what that does to the metric, directly and indirectly.

McGrath et al. 2023 ("The Hydra effect", arXiv 2307.15771, sections 2 and 3); Wang et al. 2022 (arXiv 2211.00593,
section 2.2) on means over prompts; Chan et al. 2022 ("Causal scrubbing") on resampling.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

import torch
from jaxtyping import Int
from torch import Tensor

from maze_dla.engine.causal.effects import EffectReader, check_effects
from maze_dla.engine.causal.knockouts import KNOCKOUTS, knocked_out
from maze_dla.engine.causal.parts import Part, Parts, parts_of
from maze_dla.engine.causal.reading import AT_THE_END, MetricAtReads
from maze_dla.engine.causal.supplies import Positions, Supplies, Supply
from maze_dla.engine.completeness import SumChecks
from maze_dla.engine.devices import to_device
from maze_dla.engine.direct.described import describe, judged
from maze_dla.engine.edits import Edit
from maze_dla.engine.fit import check_fit
from maze_dla.engine.forward.running import Parts as Values
from maze_dla.engine.forward.running import in_micro_batches
from maze_dla.engine.metrics import LinearMetric
from maze_dla.engine.model import MicroBatch, ResidualModel, soft_capped
from maze_dla.engine.precision import at_least_single
from maze_dla.engine.prompts import PromptBatch
from maze_dla.engine.sites import LOGITS, Activations, Site, in_all_layers
from maze_dla.errors import InputError, check_whole
from maze_dla.results.effects import EffectResult

BYTES_OF_BRANCHES = 16 << 20  # of what branches record before it is read


def ablate(
    model: ResidualModel,
    batch: PromptBatch,
    metric: LinearMetric,
    *,
    parts: str | Sequence[Any] = "heads",
    heads: Sequence[Any] | None = None,
    value: str = "mean",
    positions: str = "read",
    reference: PromptBatch | None = None,
    seed: int = 0,
    answers: bool = False,
    sequences_at_once: int | None = None,
) -> EffectResult:
    """Ablate each part by itself, as `maze_dla.ablate` does.

    Raises:
        InputError: batch, reference or metric do not fit the model, or an unknown part, value or position.
        ModelError: a part that cannot be edited.
        PromptError: resampling finds no donor for a prompt.
        CompletenessError: effects do not add up.
    """
    check_fit(model, batch, metric)
    if reference is not None:
        check_fit(model, reference)
    if positions not in get_args(Positions):
        raise InputError(f"positions is 'read' or 'all', got {positions!r:.60}")
    seed = check_whole("seed", seed, 0)
    chosen = parts_of(model, parts, heads, batch.kinds, int(batch.lengths.max()))
    supplies = _supplies(model, batch, reference, chosen, value, positions, seed)
    work = _Ablation(model, batch, metric, chosen, supplies, value, positions, answers)
    found = in_micro_batches(model, batch, work.of_micro_batch, what="ablating", sequences_at_once=sequences_at_once)
    work.checks.finish()
    named = {"parts": parts if isinstance(parts, str) else list(chosen.names), "value": value, "positions": positions}
    if supplies is not None and value != "zero":
        named |= {"reference": hash_of(supplies.reference), "reference_prompts": len(supplies.reference)}
    named |= {"ablation_seed": seed} if value == "resample" else {}
    return work.result(found, named)


def hash_of(batch: PromptBatch) -> str:
    """A hash of the prompts of a batch, whatever their order."""
    return hashlib.blake2b(batch.fingerprints.sort().values.numpy().tobytes(), digest_size=8).hexdigest()


def _supplies(
    model: ResidualModel,
    batch: PromptBatch,
    reference: PromptBatch | None,
    parts: Parts,
    value: str,
    positions: Any,
    seed: int,
) -> Supplies | None:
    """The values that take the place of the parts; None where they are sources, whose attention is put out."""
    if any(part.site.name == "pattern" for part in parts.listed):
        if value not in KNOCKOUTS:
            raise InputError(f"sources are knocked out: value is 'zero' or 'renormalize', got {value!r:.60}")
        return None
    return Supplies.of(model, batch, batch if reference is None else reference, value, positions, parts.sites, seed)


@dataclass(frozen=True, eq=False)
class _Ablation:
    """The ablation of one batch: its parts, and the values put in their place."""

    model: ResidualModel
    batch: PromptBatch
    metric: LinearMetric
    parts: Parts
    supplies: Supplies | None
    value: str
    positions: Any
    answers: bool
    checks: SumChecks = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "checks", SumChecks(self.model.weights.precision))

    def of_micro_batch(self, micro: MicroBatch) -> tuple[Tensor, Values]:
        """The effects on the prompts of a micro-batch."""
        here = self.metric.select(micro.prompts)
        plain, rerun = self.model.forward.editable(micro, self._recorded(), self._edited())
        reader = MetricAtReads.of(self.model.weights, here)
        metric, size = reader.check(self.checks, plain, here, micro.prompts)
        logits = at_least_single(plain[LOGITS])
        values: Values = {"metric": metric, "logit_size": size, **judged(logits, here.answers, here.foils)}
        if self.answers:
            values["loss"] = self._loss(logits, here.answers)
        supply = None if self.supplies is None else self.supplies.for_micro_batch(micro, plain)
        effects = EffectReader.of(self.model, plain, reader)
        for first, listed in self._chunks(len(micro.prompts)):
            of_chunk = self._of_parts(listed, micro, plain, rerun, supply, effects, here)
            for name, found in of_chunk.items():
                if name not in values:
                    values[name] = found.new_zeros(len(micro.prompts), len(self.parts.listed), *found.shape[2:])
                values[name][:, first : first + len(listed)] = found
        return micro.prompts, values

    def _of_parts(
        self,
        listed: Sequence[Part],
        micro: MicroBatch,
        plain: Activations,
        rerun: Any,
        supply: Supply | None,
        effects: EffectReader,
        here: LinearMetric,
    ) -> Values:
        """The effects of some parts, [prompt, part, ...]."""
        n = len(micro.prompts)
        prompts = torch.arange(n).repeat(len(listed))
        edits = [self._edit(part, torch.arange(n) + n * i, micro, plain, supply) for i, part in enumerate(listed)]
        found = rerun(prompts, edits, [*effects.sites(listed), *([LOGITS] if self.answers else [])])
        of_branch = [part for part in listed for _ in range(n)]
        values = effects(found, prompts, of_branch)
        size = effects.metric(plain).abs().index_select(0, to_device(prompts, values["total"].device))
        largest = torch.stack([values["total"].abs(), values["direct"].abs(), values["norm"].abs(), size]).amax(0)
        largest = largest.maximum(values["later_heads"].flatten(1).abs().amax(1))
        check_effects(self.checks, values, largest, micro.prompts[prompts])
        if self.answers:
            values |= self._answered(at_least_single(found[LOGITS]), here.select(prompts))
        return {name: x.unflatten(0, (len(listed), n)).transpose(0, 1) for name, x in values.items()}

    def _edit(
        self, part: Part, branches: Int[Tensor, " prompt"], micro: MicroBatch, plain: Activations, supply: Supply | None
    ) -> Edit:
        """The edit that puts a part out of action, in a branch of every prompt."""
        prompts, positions = torch.arange(len(micro.prompts)), micro.positions
        if self.positions == "all" and not self._at_the_end(part.site):
            read = torch.arange(micro.tokens.shape[1]) <= micro.positions[:, None]
            prompts, positions = torch.nonzero(read).unbind(1)
        if supply is None:
            values = knocked_out(part, self.value == "renormalize", micro, plain, prompts, positions)
            return Edit(part.site, branches[prompts], positions, values)
        values = supply(Site(part.site.name, part.layer), prompts, positions)
        if part.site.head is not None:
            values = values.select(1, part.site.head)
        return Edit(part.site, branches[prompts], positions, values)

    def _at_the_end(self, site: Site) -> bool:
        """Whether nothing behind a site looks at other positions than the one that is read."""
        return site.layer == self.model.weights.shape.n_layers - 1

    def _recorded(self) -> list[Site]:
        """The sites that the plain run records."""
        names = ["z", *(["mlp_out"] if "mlp_out" in self.model.sites else [])]
        sites = [*AT_THE_END, LOGITS, *in_all_layers(names, self.model.weights.shape.n_layers)]
        for site in self.parts.sites:
            at = "all" if site.name == "pattern" and self.positions == "all" and not self._at_the_end(site) else "read"
            sites.append(Site(site.name, site.layer, position=at))
        return list(dict.fromkeys(sites))

    def _edited(self) -> list[Site]:
        return [Site(site.name, site.layer, position=self.positions) for site in self.parts.sites]

    def _chunks(self, n_prompts: int) -> list[tuple[int, Sequence[Part]]]:
        """Parts in order, as many together as their branches have the memory for."""
        shape = self.model.weights.shape
        of_branch = 4 * shape.n_layers * (shape.n_heads * shape.d_head + shape.d_model) * n_prompts
        of_branch += 4 * shape.d_vocab * n_prompts if self.answers else 0
        most = max(BYTES_OF_BRANCHES // of_branch, 1)
        return [(i, self.parts.listed[i : i + most]) for i in range(0, len(self.parts.listed), most)]

    def _answered(self, logits: Tensor, metric: LinearMetric) -> Values:
        """Which branches answer rightly, and their loss."""
        judgement = judged(logits, metric.answers, metric.foils)
        known = judgement.get("preferred" if metric.foils is not None else "correct")
        after = {} if known is None else {"correct_after": known}
        return after | {"loss_after": self._loss(logits, metric.answers)}

    def _loss(self, logits: Tensor, answers: Tensor | None) -> Tensor:
        """The cross-entropy of the right answers together, in nats.

        Raises:
            InputError: the metric has no notion of right.
        """
        if answers is None:
            raise InputError("answers=True needs a metric with right answers, such as correct_vs_other(batch)")
        at = to_device(answers, logits.device)
        logs = soft_capped(logits, self.model.weights.logit_cap).log_softmax(-1).gather(1, at.clamp_min(0))
        return -logs.masked_fill(at < 0, -torch.inf).logsumexp(1)

    def result(self, found: Values, named: dict[str, Any]) -> EffectResult:
        """The result of these effects."""
        described: Any = describe(self.model, self.batch, self.metric, found.pop("predicted"), found.pop("logit_size"))
        described["info"] |= named
        on_parts = ("total", "direct", "later_heads", "later_mlps", "norm", "correct_after", "loss_after")
        shaped = {n: x.unflatten(1, self.parts.sizes) if n in on_parts else x for n, x in found.items()}
        return EffectResult(
            **{"correct": None, **described, **shaped}, part_axes=self.parts.axes, part_labels=self.parts.names
        )
