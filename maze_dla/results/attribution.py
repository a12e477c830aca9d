"""The result of a direct logit attribution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor

from maze_dla.results.base import PromptResult
from maze_dla.results.buckets import N_BUCKETS, bucket_sums
from maze_dla.results.contributions import Contributions
from maze_dla.results.frames import Level, contribution_frame
from maze_dla.results.held_out import ByBucket
from maze_dla.results.lens import LensResult, LensSummary
from maze_dla.results.statistics import Summary, interval_of, summary_from_moments
from maze_dla.results.summaries import ContributionSummaries, no_such_number
from maze_dla.results.torch_defaults import torch_defaults
from maze_dla.results.words import depths_of, rows_of_half

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ContributionResult(PromptResult, Contributions, ContributionSummaries):
    """Contributions to the metric of every prompt, with what they are contributions to.

    For every prompt `layers.sum(1) + constant = metric`, up to `gap` (`metric` minus the sum). `neuron_mean`,
    `neuron_variance` (over prompts, unbiased), `neuron_error` (the standard error of the mean, clustered),
    `neuron_sums` (over the prompts of each of `buckets`) and `neuron_crossed` (over clusters the sum of size times
    deviation from the mean, which joining batches takes) are there whenever neurons were asked for.

    Where it is one half of a contrast, `info["part"]` says which ("dependent" or "shared"), and the last of the layers
    is `norm`, by which the final scales of the two runs differ.
    """

    gap: Float[Tensor, " prompt"]
    neuron_mean: Float[Tensor, "layer neuron"] | None = None
    neuron_variance: Float[Tensor, "layer neuron"] | None = None
    neuron_error: Float[Tensor, "layer neuron"] | None = None
    neuron_crossed: Float[Tensor, "layer neuron"] | None = None
    neuron_sums: Float[Tensor, "bucket layer neuron"] | None = None

    def summary(self, name: str) -> Summary:
        """Mean, standard error and 95% interval over prompts of one of the numbers of `per_prompt`, or of the neurons.

        Raises:
            InputError: this result has no numbers of that name.
        """
        if name == "neurons" and self.neuron_mean is not None and self.neuron_variance is not None:
            if self.neuron_error is None:
                return summary_from_moments(self.neuron_mean, self.neuron_variance, len(self))
            return interval_of(self.neuron_mean, self.neuron_error, len(self), int(self.clusters.max()) + 1)
        numbers = self.per_prompt()
        if not isinstance(name, str) or name not in numbers:
            raise no_such_number(name, list(numbers))
        return self.summarized(numbers[name])

    @torch_defaults()
    def by_bucket(self, name: str) -> ByBucket | None:
        """Sums of one of the numbers over each of 64 fixed buckets of mazes; None where they are not known."""
        counts, n_units = self.buckets.bincount(minlength=N_BUCKETS), int(self.clusters.max()) + 1
        judged = {"correct": self.correct, "preferred": self.preferred}
        values = judged[name] if name in judged else self.per_prompt().get(name)
        if values is not None:
            return ByBucket(bucket_sums(values.double(), self.buckets), counts, n_units)
        return (
            ByBucket(self.neuron_sums, counts, n_units) if name == "neurons" and self.neuron_sums is not None else None
        )

    @torch_defaults()
    def lens(self) -> LensResult:
        """The logit lens at the final norm's recorded scale, which is the running sum of the layers.

        Of one half of a contrast it is that half of the two runs' lenses, at the mean of their inverse scales; `norm`
        enters with the last depth, final_post, which is so the half's metric.
        """
        running = (self.constant.double()[:, None] + self.layers.double().cumsum(1)).to(self.layers.dtype)
        labels = depths_of(self.components)
        if self.info.get("parallel_attn_mlp"):  # attention and MLP read the same residual stream
            labels = [None if label is not None and label.endswith("_mid") else label for label in labels]
        read = [i for i, label in enumerate(labels) if label is not None]
        return LensResult(
            self.metric,
            self.correct,
            self.prompt_tokens,
            self.targets,
            self.info,
            values=running[:, read],
            labels=tuple(label for label in labels if label is not None),
            scale="final",
            preferred=self.preferred,
            predicted=self.predicted,
            columns=self.columns,
        )

    def lens_summary(self) -> LensSummary:
        """The mean metric at every depth, at the final norm's recorded scale, with its 95% interval."""
        return self.lens().lens_summary()

    def per_prompt(self) -> dict[str, Float[Tensor, "prompt ..."]]:
        """The numbers of each prompt whose shape does not depend on how long prompts are."""
        names = ("metric", "layers", "heads", "attn_bias", "mlp_bias", "constant", "final_scale", "gap")
        found = {name: getattr(self, name, None) for name in (*names, "neurons", "sources_by_kind")}
        if self.sources_by_kind is not None:
            found["moved_by_kind"] = self.sources_by_kind.double().sum((1, 2))
        return {name: values for name, values in found.items() if values is not None} | {"lens": self.lens().values}

    @property
    def axis_labels(self) -> dict[str, tuple[str, ...]]:
        """Names for the last axis of some of them."""
        by_kind = () if self.sources_by_kind is None else ("sources_by_kind", "moved_by_kind")
        return {"layers": self.layer_labels, "lens": self.lens().labels, **dict.fromkeys(by_kind, self.kinds)}

    @torch_defaults()
    def to_frame(self, level: Level = "layer") -> pd.DataFrame:
        """One row for each prompt and part, in logits; the rows of a prompt sum to its metric at every level.

        Columns: prompt; level (layer, head, neuron, source, bias or constant); component ("3_mlp_out", "L5H3", ...);
        layer, the block that it belongs to, missing for embeddings and constant; head, neuron and position, where it
        is one or of one; source, the token there, or its kind; contribution. No part is there beside the whole that it
        belongs to, so that a sum over any rows counts nothing twice.

        Args:
            level: "layer" has each layer and the constant. "head" has the heads and b_O in place of each attention
                layer, "source" what each head moved from each position (or kind of token) and b_O, "neuron" the
                neurons and b_out in place of each MLP.

        Raises:
            InputError: an unknown level, or sources or neurons of a result that does not hold them for every prompt.
        """
        return contribution_frame(self, level)

    def _summary_rows(self) -> list[tuple[str, str]]:
        heads = ", ".join(f"{h.name} {h.mean:+.2f}" for h in self.top_heads(3))
        gap = f"{float(self.gap.abs().max()):.1e} logits at most"
        rows = rows_of_half(self.info, super()._summary_rows())
        return [*rows, ("strongest heads", heads), ("completeness gap", gap)]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class AttributionResult(ContributionResult):
    """Contributions to the metric at the frozen scale of the final norm, all in logits.

    Beside what a `ContributionResult` holds: `correct` and `preferred`, the `final_scale` that the norm recorded, and
    where sources were asked for the `patterns`, [prompt, layer, head, position], the attention that each head paid.

    Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits"; nostalgebraist 2020, "interpreting GPT:
    the logit lens"; Wang et al. 2022 (arXiv 2211.00593), section 3.
    """

    final_scale: Float[Tensor, " prompt"]
    patterns: Float[Tensor, "prompt layer head position"] | None = None
