"""The result of an ablation: total, direct and indirect effect of each part on the metric."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from maze_dla.results.base import PromptResult
from maze_dla.results.disagreements import Disagreement, disagreements_of
from maze_dla.results.ranking import RankedPart, ranked, sums_of_buckets
from maze_dla.results.statistics import Proportion, Summary, proportion
from maze_dla.results.tolerances import PRECISIONS, ROUNDING_OF_LOGITS, tolerance_of
from maze_dla.results.torch_defaults import torch_defaults

if TYPE_CHECKING:
    import pandas as pd


class IndirectBy(NamedTuple):
    """The routes of the indirect effect, in logits: later heads, later MLPs, and the final norm."""

    heads: Float[Tensor, "prompt *part layer head"]
    mlps: Float[Tensor, "prompt *part mlp"]
    norm: Float[Tensor, " prompt *part"]

    def by_route(self) -> Float[Tensor, "prompt *part route"]:
        """The sum over heads, the sum over MLPs, and the norm, on the last axis."""
        heads = self.heads.double().flatten(-2).sum(-1)
        return torch.stack([heads, self.mlps.double().sum(-1), self.norm.double()], -1)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class EffectResult(PromptResult):
    """Effects of the ablation of each part on the metric, in logits; `metric` is that of the plain run.

    The total effect is the metric of the edited run minus that of the plain one, the direct effect the change of the
    part's own contribution at the read position at the plain run's final scale. The indirect effect is the rest; it is
    the sum of what later heads, later MLPs and the final norm do otherwise.

    `info` names the parts, the value put in, the positions, and the hash of the reference that supplies it.

    McGrath et al. 2023 (arXiv 2307.15771); Rushing and Nanda 2024 (arXiv 2402.15390).
    """

    total: Float[Tensor, " prompt *part"]
    direct: Float[Tensor, " prompt *part"]
    part_axes: tuple[str, ...]
    """The axes of the parts, as ("layer", "head")."""
    part_labels: tuple[str, ...]
    """The names of all parts in row-major order, as "L5H3" or "MLP 2"."""
    later_heads: Float[Tensor, "prompt *part layer head"]
    """The part of the indirect effect that goes through each head; zero for heads that are not later."""
    later_mlps: Float[Tensor, "prompt *part mlp"]
    """The same of each layer's MLP; no columns where the model has none."""
    norm: Float[Tensor, " prompt *part"]
    """The part of the indirect effect by which the final norm's scale differs."""
    correct_after: Bool[Tensor, " prompt *part"] | None = None
    """Whether the edited run's most likely token is right."""
    loss: Float[Tensor, " prompt"] | None = None
    """The cross-entropy of the plain run in nats."""
    loss_after: Float[Tensor, " prompt *part"] | None = None
    """That of the edited run."""

    @property
    @torch_defaults()
    def indirect(self) -> Float[Tensor, " prompt *part"]:
        """The total minus the direct effect."""
        return self.total - self.direct

    @property
    def indirect_by(self) -> IndirectBy:
        """The routes of the indirect effect: arrays that sum to it, for every prompt and part."""
        return IndirectBy(self.later_heads, self.later_mlps, self.norm)

    @property
    @torch_defaults()
    def accuracy_after(self) -> dict[str, Proportion] | None:
        """The share of prompts answered correctly without each part, by its name; None where it is not known."""
        if self.correct_after is None:
            return None
        held = self.correct_after.flatten(1).unbind(1)
        return {name: proportion(right, self.clusters) for name, right in zip(self.part_labels, held, strict=True)}

    @property
    @torch_defaults()
    def loss_change(self) -> Summary | None:
        """The mean change of the cross-entropy by the ablation of each part, in nats; None where it is not known."""
        if self.loss is None or self.loss_after is None:
            return None
        return self.summarized(self.loss_after - self.loss.view(-1, *[1] * len(self.part_axes)))

    @torch_defaults()
    def top(self, k: int = 5) -> list[RankedPart]:
        """The `k` parts with the largest mean total effect by size, strongest first.

        Each is estimated on mazes that did not choose it, where there are at least 8 of them.

        Raises:
            InputError: k is no whole number, or below 0.
        """
        held = sums_of_buckets(self.total, self.buckets, int(self.clusters.max()) + 1)
        return ranked(self.summarized(self.total), self.part_labels, k, held)

    @torch_defaults()
    def disagreements(self, *kinds: str) -> list[Disagreement]:
        """The parts of which the direct effect says something else than the total one, largest indirect effect first.

        - "other sign": the mean direct and the mean total effect have other signs, and both intervals exclude zero.
        - "mostly indirect": the mean indirect effect is larger in size than the direct one; its interval excludes zero.
        - "repair": the indirect effect is opposed to the direct one and at least half its size, and both intervals
          exclude zero. Where it is larger than the direct one, nothing is repaired: the total effect has the other
          sign. Such an entry is `overturned`, and its `in_words` and its print say so in place of "repair".

        Intervals are those of one part: of many that do nothing, one in twenty excludes zero. One that reaches into
        the rounding of logits and effects does not exclude it.

        Args:
            *kinds: which of them; default all.

        Raises:
            InputError: an unknown kind.
        """
        effects = (self.direct, self.total, self.indirect)
        direct, total, indirect = (self.summarized(values.flatten(1)) for values in effects)
        return disagreements_of(self.part_labels, direct, total, indirect, kinds, self._rounding)

    @property
    def _rounding(self) -> float:
        """How large an effect may be that is none, in logits."""
        precision = PRECISIONS.get(str(self.info.get("precision")), self.total.dtype)
        largest = max(float(effect.abs().amax()) for effect in (self.direct, self.total))
        of_effects = tolerance_of(precision) * ROUNDING_OF_LOGITS * largest
        return max(float(self.info.get("rounding", 0.0)), of_effects)

    def per_prompt(self) -> dict[str, Float[Tensor, "prompt ..."]]:
        """The numbers of each prompt whose shape does not depend on how long prompts are."""
        effects = {"total": self.total, "direct": self.direct, "indirect": self.indirect}
        by = {"later_heads": self.later_heads, "later_mlps": self.later_mlps, "norm": self.norm}
        known = {"loss": self.loss, "loss_after": self.loss_after}
        return {**super().per_prompt(), **effects, **by, **{n: v for n, v in known.items() if v is not None}}

    @torch_defaults()
    def to_frame(self) -> pd.DataFrame:
        """One row for each prompt and part, in logits.

        Columns: prompt, part (its name), each of `part_axes`, total, direct, indirect, and of the indirect effect
        later_heads, later_mlps and norm, which sum to it; correct_after and loss_after (in nats) where they are known.
        """
        import pandas as pd

        index = torch.ones(self.total.shape).nonzero()
        table = pd.DataFrame({"prompt": index[:, 0].numpy(), "part": list(self.part_labels) * len(self)})
        table = table.assign(**{axis: index[:, i].numpy() for i, axis in enumerate(self.part_axes, 1)})
        routes = zip(("later_heads", "later_mlps", "norm"), self.indirect_by.by_route().unbind(-1), strict=True)
        numbers = {"total": self.total, "direct": self.direct, "indirect": self.indirect, **dict(routes)}
        numbers |= {"correct_after": self.correct_after, "loss_after": self.loss_after}
        return table.assign(**{n: v.reshape(-1).numpy() for n, v in numbers.items() if v is not None})

    def _summary_rows(self) -> list[tuple[str, str]]:
        asked = [(name, str(self.info[name])) for name in ("parts", "value", "positions") if name in self.info]
        strongest, n = "; ".join(map(repr, self.top(3))), len(self.part_labels)
        found = self.disagreements()
        said = f"{len(found)} of {n} parts" + (f"; the largest: {found[0]!r}" if found else "")
        return [*super()._summary_rows(), *asked, ("strongest total effects", strongest), ("direct misleads", said)]
