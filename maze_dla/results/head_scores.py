"""The result of `head_scores`: how much of each head's attention falls on the keys of each relation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from maze_dla.errors import InputError, check_whole
from maze_dla.results.aligned import summary_by_column
from maze_dla.results.base import PromptResult
from maze_dla.results.held_out import ByBucket
from maze_dla.results.ranking import RankedHead, ranked, sums_of_buckets
from maze_dla.results.statistics import Summary
from maze_dla.results.torch_defaults import torch_defaults

if TYPE_CHECKING:
    import pandas as pd

ALIKE = 0.9  # of the pairs of both together, from where on a relation is the same in every maze
ROUNDING = 1e-6  # of attention
UNIFORM = "uniform attention"
LARGE = 0.1  # of attention, which a reader would call looking there


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class HeadScores(PromptResult):
    """Attention of each head to the keys of each relation, a share from 0 to 1, beside two baselines.

    A score is the mean over a prompt's queries of the attention on the keys that the relation names for them. Queries
    count that have such a key and may attend to others too. Prompts without one are NaN and are left out of means.
    `metric` is the logit of the target.

    - `uniform`: the share of keys that the relation names, which attention spread evenly over all keys up to the query
      would score.
    - `random`: the score for the relation of another maze's prompt (of the same layout where there is one) laid over
      these patterns, the mean over several. A head that always looks at the same place, or so many tokens back, scores
      as much there.

    A relation that is the same in every maze, as "previous token" is, says nothing about what stands there; it is
    compared with uniform attention, all others with other mazes (`against`).
    """

    values: Float[Tensor, "prompt relation layer head"]
    random: Float[Tensor, "prompt relation layer head"]
    uniform: Float[Tensor, "prompt relation"]
    n_queries: Int[Tensor, "prompt relation"]
    """How many queries count."""
    overlap: Float[Tensor, "prompt relation"]
    """The part of the pairs of query and key in own or other relations that is in both, at places that both have."""
    relations: tuple[str, ...]

    @property
    def head_labels(self) -> tuple[str, ...]:
        """The names of all heads, layer by layer."""
        _, _, n_layers, n_heads = self.values.shape
        return tuple(f"L{layer}H{head}" for layer in range(n_layers) for head in range(n_heads))

    @property
    @torch_defaults()
    def same_in_all(self) -> Bool[Tensor, " relation"]:
        """Which relations are the same in every maze, so that other mazes are no baseline; true without any."""
        return ~(self.overlap.nanmean(0) < ALIKE)

    @property
    def against(self) -> tuple[str, ...]:
        """The baseline that each relation is compared with, in words."""
        other = f"another {self.info.get('unit') or 'prompt'}'s keys"
        return tuple(UNIFORM if same else other for same in self.same_in_all.tolist())

    @property
    @torch_defaults()
    def baseline(self) -> Float[Tensor, "prompt relation layer head"]:
        """`random`, or `uniform` of relations that are the same in every maze."""
        return torch.where(self.same_in_all[:, None, None], self.uniform[..., None, None], self.random)

    @property
    @torch_defaults()
    def above(self) -> Float[Tensor, "prompt relation layer head"]:
        """Scores minus their baseline; NaN where one of them is not known."""
        return self.values - self.baseline

    @torch_defaults()
    def summary(self) -> Summary:
        """Mean score of each head with its clustered 95% interval, [relation, layer, head]."""
        return self._over_prompts(self.values)

    @torch_defaults()
    def above_summary(self) -> Summary:
        """Mean of score minus baseline with its clustered 95% interval, [relation, layer, head]."""
        return self._above

    @property
    @torch_defaults()
    def is_above(self) -> Bool[Tensor, "relation layer head"]:
        """Which heads are above the baseline, with all heads and relations looked at together.

        The interval of score minus baseline excludes zero at 95% for all of them at once (Bonferroni).
        """
        from scipy.stats import t as student_t

        found = self._above
        if found.n_clusters < 2:
            return torch.zeros(found.mean.shape, dtype=torch.bool)
        reach = float(student_t.ppf(1 - 0.025 / found.mean.numel(), found.n_clusters - 1))
        return found.mean - reach * found.standard_error > ROUNDING

    @torch_defaults()
    def top(self, relation: str, k: int = 5) -> list[RankedHead]:
        """The `k` heads whose attention to the keys of a relation is farthest above the baseline, the farthest first.

        Each is measured on mazes that did not choose it, where there are at least 8 of them. `is_above` says which are
        above at all.

        Raises:
            InputError: an unknown relation, or k that is no whole number or below 0.
        """
        r, k = self._number(relation), check_whole("k", k, 0)
        held = self._by_bucket(self.above[:, r] + 1)  # at least 0, so that the largest by size are the largest
        moved = {name: getattr(self._above, name)[r] + 1 for name in ("mean", "low", "high")}
        score, baseline = self.summary().mean[r], self._over_prompts(self.baseline).mean[r]
        found = []
        for part in ranked(replace(self._above, **moved), self.head_labels, k, held):
            (layer, head), ends = part.at, (part.mean - 1, part.low - 1, part.high - 1)
            numbers = float(score[layer, head]), float(baseline[layer, head]), *ends
            found.append(RankedHead(part.name, layer, head, *numbers, self.against[r], part.chosen))
        return sorted(found, key=lambda one: -one.above)

    @torch_defaults()
    def to_frame(self) -> pd.DataFrame:
        """One row for each relation and head.

        Columns: relation; head (its name), layer, number; score with its clustered 95% interval, low and high; uniform
        and random, the two baselines; against, which of them the score is compared with; above (score minus that
        baseline), above_low and above_high; is_above, with all rows looked at together; prompts, how many have such
        queries.
        """
        import pandas as pd

        shape, n_prompts = self.values.shape[1:], (self.n_queries > 0).sum(0)
        at = torch.ones(shape).nonzero()
        table = pd.DataFrame({"relation": [self.relations[r] for r in at[:, 0].tolist()]})
        table["head"] = list(self.head_labels) * shape[0]
        table = table.assign(layer=at[:, 1].numpy(), number=at[:, 2].numpy())
        score, above = self.summary(), self._above
        numbers = {"score": score.mean, "low": score.low, "high": score.high}
        uniform = self.uniform.double().nanmean(0)[:, None, None].expand(shape)
        numbers |= {"uniform": uniform, "random": self._over_prompts(self.random).mean}
        table = table.assign(**{name: values.flatten().numpy() for name, values in numbers.items()})
        table["against"] = [self.against[r] for r in at[:, 0].tolist()]
        numbers = {"above": above.mean, "above_low": above.low, "above_high": above.high, "is_above": self.is_above}
        table = table.assign(**{name: values.flatten().numpy() for name, values in numbers.items()})
        return table.assign(prompts=n_prompts[at[:, 0]].numpy())

    def _by_bucket(self, values: Float[Tensor, "prompt layer head"]) -> ByBucket:
        """The sums by bucket over the prompts of which the numbers are known."""
        known = ~values.isnan().flatten(1).any(1)
        return sums_of_buckets(values[known], self.buckets[known], len(self.clusters[known].unique()))

    def _number(self, relation: str) -> int:
        if not isinstance(relation, str) or relation not in self.relations:
            raise InputError(f"no relation {relation!r:.60}, there are {', '.join(self.relations)}")
        return self.relations.index(relation)

    @cached_property
    @torch_defaults()
    def _above(self) -> Summary:
        return self._over_prompts(self.above)

    def _over_prompts(self, values: Float[Tensor, "prompt relation layer head"]) -> Summary:
        """Mean and interval over the prompts that have such queries, and of which the numbers are known."""
        last = values.movedim(1, -1)
        found = summary_by_column(last, ~last.isnan().flatten(1, 2).any(1), self.clusters)
        names = ("mean", "standard_error", "low", "high")
        return replace(found, **{name: getattr(found, name).movedim(-1, 0) for name in names})

    def _summary_rows(self) -> list[tuple[str, str]]:
        rows = super()._summary_rows()[:-1]
        rows.append(("queries", str(self.info.get("queries", "?"))))
        above, far = self.is_above.flatten(1), (self._above.mean >= LARGE).flatten(1)
        for r, relation in enumerate(self.relations):
            n, n_far = int(above[r].sum()), int((above & far)[r].sum())
            words = f"{n_far} of {above.shape[1]} heads {LARGE} or more above {self.against[r]}, {n} at all"
            rows.append((relation, "; ".join([words, *map(repr, self.top(relation, 1 if n else 0))])))
        return rows
