"""Circuits: everything but some parts ablated, and a set of parts that keeps most of the metric.

Faithfulness is that of Wang et al. 2022 (arXiv 2211.00593, section 4) as a share: 0 with all heads and MLPs ablated, 1
with none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

import torch
from jaxtyping import Bool
from torch import Tensor
from tqdm.auto import tqdm

from maze_dla.engine.causal.ablation import hash_of
from maze_dla.engine.causal.parts import Part, parts_of
from maze_dla.engine.causal.reading import AT_THE_END, MetricAtReads
from maze_dla.engine.causal.supplies import Positions, Supplies, Supply
from maze_dla.engine.completeness import SumChecks
from maze_dla.engine.direct.described import describe, judged
from maze_dla.engine.edits import Edit
from maze_dla.engine.fit import check_fit
from maze_dla.engine.forward.running import Parts as Values
from maze_dla.engine.forward.running import in_micro_batches
from maze_dla.engine.metrics import LinearMetric
from maze_dla.engine.model import MicroBatch, ResidualModel
from maze_dla.engine.precision import at_least_single
from maze_dla.engine.prompts import PromptBatch
from maze_dla.engine.sites import LOGITS, Site
from maze_dla.errors import InputError, check_whole
from maze_dla.results.buckets import buckets_of, halves
from maze_dla.results.circuits import CircuitResult

MOST_NUMBERS = 1 << 22  # that edits hold at once


def keep_only(
    model: ResidualModel,
    batch: PromptBatch,
    metric: LinearMetric,
    parts: Sequence[Any],
    *,
    value: str = "mean",
    positions: str = "read",
    reference: PromptBatch | None = None,
    seed: int = 0,
    sequences_at_once: int | None = None,
) -> CircuitResult:
    """Ablate all heads and MLPs but some, as `maze_dla.keep_only` does.

    Raises:
        InputError: batch, reference or metric do not fit the model, an unknown value or position, or a part that is
            neither a head nor an MLP.
        PromptError: resampling finds no donor for a prompt.
        CompletenessError: the metric is not what the final residual gives.
    """
    work = _Circuits.of(model, batch, metric, value, positions, reference, seed)
    kept = work.numbers(parts)
    sets = torch.zeros(2, len(work.parts), dtype=torch.bool)
    sets[0, kept] = True
    return work.result(work.run(sets, sequences_at_once), [work.parts[i].name for i in kept])


def find_circuit(
    model: ResidualModel,
    batch: PromptBatch,
    metric: LinearMetric,
    *,
    share: Any = 0.9,
    value: str = "mean",
    reference: PromptBatch | None = None,
    seed: int = 0,
    sequences_at_once: int | None = None,
) -> CircuitResult:
    """A set of heads and MLPs that keeps a share of the metric, found greedily, as `maze_dla.find_circuit` does.

    Raises:
        InputError: as `keep_only`; a share outside 0..1; too few mazes for two halves; or a metric that ablating all
            heads and MLPs does not lower.
        PromptError: as `keep_only`.
    """
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share <= 1:
        raise InputError(f"share is above 0 and at most 1, got {share!r:.60}")
    reference = batch if reference is None else reference
    own = buckets_of(batch.columns[batch.unit])
    choosing = halves()[0][own]
    if not choosing.any() or choosing.all():
        raise InputError(f"all prompts fall into one half: expected more, about different {batch.unit}s")
    chosen = torch.nonzero(choosing).flatten()
    work = _Circuits.of(model, batch.select(chosen), metric.select(chosen), value, "read", reference, seed)
    found, reached = work.greedy(share, sequences_at_once)
    rest = torch.nonzero(~choosing).flatten()
    scored = _Circuits.of(model, batch.select(rest), metric.select(rest), value, "read", reference, seed)
    sets = torch.zeros(2, len(work.parts), dtype=torch.bool)
    sets[0, found] = True
    about = {"chosen_on": len(chosen), "share_where_chosen": reached, "share_asked": share}
    return scored.result(scored.run(sets, sequences_at_once), [work.parts[i].name for i in found], **about)


@dataclass(frozen=True, eq=False)
class _Circuits:
    """Sets of parts that are kept, everything else ablated at once."""

    model: ResidualModel
    batch: PromptBatch
    metric: LinearMetric
    parts: tuple[Part, ...]
    supplies: Supplies
    checks: SumChecks = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "checks", SumChecks(self.model.weights.precision))

    @classmethod
    def of(
        cls,
        model: ResidualModel,
        batch: PromptBatch,
        metric: LinearMetric,
        value: str,
        positions: str,
        reference: PromptBatch | None,
        seed: int,
    ) -> _Circuits:
        """All heads and MLPs of a model, and what takes their place."""
        check_fit(model, batch, metric)
        if reference is not None:
            check_fit(model, reference)
        if positions not in get_args(Positions):
            raise InputError(f"positions is 'read' or 'all', got {positions!r:.60}")
        listed = [parts_of(model, "heads", None, (), 0)]
        listed += [parts_of(model, "mlps", None, (), 0)] if "mlp_out" in model.sites else []
        sites = [site for parts in listed for site in parts.sites]
        given: Any = {"value": value, "positions": positions, "sites": sites}
        reference = batch if reference is None else reference
        supplies = Supplies.of(model, batch, reference, seed=check_whole("seed", seed, 0), **given)
        return cls(model, batch, metric, tuple(p for parts in listed for p in parts.listed), supplies)

    def numbers(self, parts: Sequence[Any]) -> list[int]:
        """Which of all parts are named.

        Raises:
            InputError: no list of heads and MLPs, or one of them twice.
        """
        if isinstance(parts, (list, tuple)) and not parts:
            return []
        known = {part.name: i for i, part in enumerate(self.parts)}
        chosen = parts_of(self.model, parts, None, (), 0)
        if others := [name for name in chosen.names if name not in known]:
            raise InputError(f"parts to keep are heads and MLPs, such as 'L5H3' and '2_mlp_out', got {others[0]!r:.60}")
        return [known[name] for name in chosen.names]

    def run(self, sets: Bool[Tensor, "set part"], sequences_at_once: int | None) -> Values:
        """The metric of each prompt with each set of parts kept, [prompt, set], and that of the plain run."""

        def compute(micro: MicroBatch) -> tuple[Tensor, Values]:
            here = self.metric.select(micro.prompts)
            sites = list(dict.fromkeys(Site(part.site.name, part.layer) for part in self.parts))
            edited = [Site(site.name, site.layer, position=self.supplies.positions) for site in sites]
            plain, rerun = self.model.forward.editable(micro, [*AT_THE_END, LOGITS, *sites], edited)
            reader = MetricAtReads.of(self.model.weights, here)
            metric, size = reader.check(self.checks, plain, here, micro.prompts)
            supply, n = self.supplies.for_micro_batch(micro, plain), len(micro.prompts)
            kept = metric.new_empty(n, len(sets))
            for some in torch.arange(len(sets)).split(self._at_once(micro)):
                prompts = torch.arange(n).repeat(len(some))
                found = rerun(prompts, self._edits(sets[some], micro, supply), AT_THE_END)
                kept[:, some] = reader(found, prompts).view(len(some), n).T
            judgement = judged(at_least_single(plain[LOGITS]), here.answers, here.foils)
            return micro.prompts, {"metric": metric, "logit_size": size, "kept": kept, **judgement}

        return in_micro_batches(
            self.model, self.batch, compute, what="keeping parts", sequences_at_once=sequences_at_once, share=0.5
        )

    def _at_once(self, micro: MicroBatch) -> int:
        """How many sets, so that what is put in place of all their parts has the memory for it."""
        shape = self.model.weights.shape
        tokens = len(micro.prompts) if self.supplies.positions == "read" else int((micro.positions + 1).sum())
        return max(MOST_NUMBERS // (tokens * shape.n_layers * (shape.n_heads * shape.d_head + shape.d_model)), 1)

    def _edits(self, sets: Bool[Tensor, "set part"], micro: MicroBatch, supply: Supply) -> list[Edit]:
        """The edits that ablate all parts that a set does not keep, in a branch of every set and prompt."""
        n, edits = len(micro.prompts), []
        prompts, positions = torch.arange(n), micro.positions
        if self.supplies.positions == "all":
            read = torch.arange(micro.tokens.shape[1]) <= micro.positions[:, None]
            prompts, positions = torch.nonzero(read).unbind(1)
        for i, part in enumerate(self.parts):
            without = torch.nonzero(~sets[:, i]).flatten()
            branches = (without[:, None] * n + prompts).flatten()
            values = supply(Site(part.site.name, part.layer), prompts, positions)
            values = values if part.site.head is None else values.select(1, part.site.head)
            several = values.repeat(len(without), *[1] * (values.ndim - 1))
            edits.append(Edit(part.site, branches, positions.repeat(len(without)), several))
        return edits

    def greedy(self, share: float, sequences_at_once: int | None) -> tuple[list[int], float]:
        """Parts in the order in which they are added, each the one that raises the mean metric most; and their share.

        Raises:
            InputError: ablating all heads and MLPs does not lower the mean metric.
        """
        chosen = torch.zeros(len(self.parts), dtype=torch.bool)
        found = self.run(chosen[None], sequences_at_once)
        full, none = float(found["metric"].double().mean()), float(found["kept"].double().mean())
        if not full > none:
            raise InputError(
                f"the metric is {full:.3g} logits, and {none:.3g} with all heads and MLPs ablated: there is nothing to "
                "keep"
            )
        order: list[int] = []
        reached = 0.0
        with tqdm(total=len(self.parts), desc="adding parts", disable=None, delay=2, leave=False) as bar:
            while reached < share and len(order) < len(self.parts):
                left = torch.nonzero(~chosen).flatten()
                sets = chosen.repeat(len(left), 1)
                sets[torch.arange(len(left)), left] = True
                means = self.run(sets, sequences_at_once)["kept"].double().mean(0)
                best = int(left[int(means.argmax())])
                chosen[best] = True
                order.append(best)
                reached = (float(means.max()) - none) / (full - none)
                bar.update()
        return order, reached

    def result(self, found: Values, kept: Sequence[str], **more: Any) -> CircuitResult:
        """The result of two sets: the parts that are kept, and none."""
        self.checks.finish()
        described: Any = describe(self.model, self.batch, self.metric, found.pop("predicted"), found.pop("logit_size"))
        supplies = self.supplies
        described["info"] |= {"value": supplies.value, "positions": supplies.positions, **more}
        if supplies.value != "zero":
            described["info"] |= {"reference": hash_of(supplies.reference)}
        sets = found.pop("kept")
        return CircuitResult(
            **{"correct": None, **described, **found}, kept=sets[:, 0], ablated=sets[:, 1], parts=tuple(kept)
        )
