"""The result of a run over more prompts than memory holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from maze_dla.results.base import Reported, format_mean, shown_accuracy, skill_rows
from maze_dla.results.components import Component
from maze_dla.results.groups import GroupedResult
from maze_dla.results.held_out import ByBucket, check_by_bucket
from maze_dla.results.lens import LensSummary, Scale
from maze_dla.results.skill import PLAIN_NUMBERS, Skill, skill_of_means
from maze_dla.results.statistics import Proportion, Summary, interval_of, proportion_of, summary_from_moments
from maze_dla.results.summaries import ContributionSummaries, no_such_number, summary_frame
from maze_dla.results.words import about

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False, repr=False)
class StreamedResult(Reported, ContributionSummaries):
    """Means and variances over prompts, in the units of the results that they come from.

    `means` and `variances` (unbiased) have an array for each number that those results hold for every prompt:
    "metric", and of an attribution "layers", "heads", "attn_bias", "mlp_bias", "constant", "final_scale", "lens" (at
    the final scale) and, where asked for, "neurons" and "sources_by_kind"; of a logit lens "values"; of a token lens
    "target_rank", "entropy" and "kl"; and where chance is known, the numbers of
    `maze_dla.results.skill.plain_numbers`, which `skill` is made of. `axis_labels` names the entries of their last
    axis, where they have names. `largest_gap` is the largest completeness gap of any prompt. `n_correct` and
    `n_preferred` count the prompts for which `correct` and `preferred` hold in those results, None where these are not
    known. `scale` is that of the lenses that were streamed, None for other results. `groups` are those of
    `stream(..., group_by=...)`, which hold a stream each.

    `errors` are the standard errors of the means, of `correct` and `preferred` too, clustered by what prompts are
    about: `n_units` things, such as mazes. Where one of them came in several batches, they are clustered by 64 fixed
    buckets of things instead; `n_clusters` is the number of clusters. `bucket_counts` and `bucket_sums` are the number
    of prompts of each bucket and the sums over them. Files of version 0.1 have none of these: their intervals count
    prompts.
    """

    of: str
    n: int
    n_correct: int | None
    means: Mapping[str, Float[Tensor, "..."]]
    variances: Mapping[str, Float[Tensor, "..."]]
    axis_labels: Mapping[str, tuple[str, ...]]
    largest_gap: float
    info: Mapping[str, Any]
    n_preferred: int | None = None
    scale: Scale | None = None
    groups: GroupedResult | None = None
    errors: Mapping[str, Float[Tensor, "..."]] = field(default_factory=dict)
    n_clusters: int | None = None
    n_units: int | None = None
    bucket_counts: Int[Tensor, " bucket"] | None = None
    bucket_sums: Mapping[str, Float[Tensor, "..."]] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.n

    @property
    def accuracy(self) -> Proportion | None:
        """The share of prompts that the model answers correctly; None where the metric has no notion of right."""
        # results of version 0.1 hold under `n_correct` what is now `n_preferred`
        forced = self.info.get("forced_choice") and self.n_preferred is not None
        answered = self.n_preferred if forced else self.n_correct
        if answered is None:
            return None
        error = self.errors.get("preferred" if forced else "correct")
        if error is None or self.n_clusters is None:
            return Proportion(answered, self.n)
        return proportion_of(answered, self.n, self.n_clusters, float(error))

    @property
    def skill(self) -> Skill | None:
        """The accuracy beside chance and plain strategies; None where the metric has no notion of right.

        Streams saved before these were kept compare with nothing.
        """
        if self.accuracy is None:
            return None
        names = self.axis_labels.get("plain", ())
        return skill_of_means(names, {name: self.summary(name) for name in PLAIN_NUMBERS if names}, self.n)

    def summary(self, name: str) -> Summary:
        """Mean, standard error and 95% interval of one of `means` over prompts.

        Raises:
            InputError: no such name.
        """
        if not isinstance(name, str) or name not in self.means:
            raise no_such_number(name, list(self.means))
        if self.n_clusters is None or name not in self.errors:
            return summary_from_moments(self.means[name], self.variances[name], self.n)
        return interval_of(self.means[name], self.errors[name], self.n, self.n_clusters)

    def by_bucket(self, name: str) -> ByBucket | None:
        """Sums of one of the numbers over each of 64 fixed buckets of mazes; None where they are not known."""
        return check_by_bucket(self.bucket_sums.get(name), self.bucket_counts, self.n_units)

    @property
    def about(self) -> str:
        """Of how many things the prompts are, where they are not of one each: " about 50 mazes"."""
        return "" if self.n_units is None else about(self.n, self.n_units, self.info.get("unit"))

    def metric_summary(self) -> Summary:
        """Mean, standard error and interval of the metric over prompts."""
        return self.summary("metric")

    @property
    def layer_labels(self) -> tuple[str, ...]:
        """The components of "layers", where an attribution was streamed."""
        return self.axis_labels.get("layers", ())

    @property
    def components(self) -> tuple[Component, ...]:
        """The same by kind and layer."""
        return tuple(map(Component.named, self.layer_labels))

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of tokens of "sources_by_kind", where they were asked for."""
        return self.axis_labels.get("sources_by_kind", ())

    def moved_summary(self) -> Summary:
        """Mean, standard error and interval of what all heads together moved from each kind of token, [kind].

        Files of the first streams hold each head's alone: then the mean is there, and the interval is NaN.
        """
        if "moved_by_kind" in self.means or "sources_by_kind" not in self.means:
            return super().moved_summary()
        mean = self.means["sources_by_kind"].sum((0, 1))
        return summary_from_moments(mean, torch.full_like(mean, torch.nan), self.n)

    def lens_summary(self) -> LensSummary:
        """The mean metric at every depth with its 95% interval: of a logit lens, or of an attribution.

        Raises:
            InputError: neither of them was streamed.
        """
        name, scale = ("values", self.scale) if self.of == "LensResult" else ("lens", "final")
        return LensSummary(self.summary(name), self.axis_labels.get(name, ()), scale)

    def to_frame(self) -> pd.DataFrame:
        """Columns number, index, label, mean, standard_error, low, high; one row for each entry of each array."""
        return summary_frame({name: self.summary(name) for name in self.means}, self.axis_labels)

    def save(self, path: str | Path) -> Path:
        """Write the result to a `.zanj` file, as other results; `load_result` reads it."""
        from maze_dla.results.storage import save_result

        return save_result(self, path)

    def _summary_rows(self) -> list[tuple[str, str]]:
        metric = f"{format_mean(self.metric_summary())} logits"
        facts = [
            ("model", str(self.info.get("model", "?"))),
            ("task", str(self.info.get("task", "?"))),
            ("prompts", str(self.n) + self.about),
            ("accuracy", shown_accuracy(self.accuracy)),
            *skill_rows(self.skill),
            (str(self.info.get("metric", "metric")), metric),
        ]
        if self.n_clusters is None:
            facts.append(("intervals", "count prompts, as if each were about something else (a file of version 0.1)"))
        elif self.n_clusters != self.n_units:
            facts.append(("intervals", f"clustered by {self.n_clusters} groups: some things came in several batches"))
        if "heads" in self.means:
            facts.append(("strongest heads", ", ".join(f"{h.name} {h.mean:+.2f}" for h in self.top_heads(3))))
            facts.append(("completeness gap", f"{self.largest_gap:.1e} logits at most"))
        return facts
