"""The result of activation patching: the metric with one run's activation put into the other, site by site."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from maze_dla.errors import InputError
from maze_dla.results.aligned import aligned_at_end, mean_by_kind, reaches, strongest_by_kind, summary_by_column
from maze_dla.results.base import PromptResult, format_mean, shown_accuracy
from maze_dla.results.ranking import RankedPart, place, ranked, sums_of_buckets
from maze_dla.results.recovered import Recovered, recovered_share
from maze_dla.results.statistics import Summary
from maze_dla.results.torch_defaults import torch_defaults

if TYPE_CHECKING:
    import pandas as pd

DENOISE, NOISE = "denoise", "noise"
DIRECTIONS = {
    DENOISE: "clean activations put into the corrupted run",
    NOISE: "corrupted activations put into the clean run",
}
POSITIONS = {"read": " at the read position", "all": " at all positions together"}
AXES = ("layer", "head", "position", "neuron")


@dataclass(frozen=True, eq=False, repr=False)
class KindChanges:
    """Changes by kind of token: those of each prompt, and the share recovered.

    `change` is the mean over a prompt's tokens of a kind of the change that patching each of them alone makes, in
    logits, [prompt, ..., kind]; NaN where a prompt has no such token. A kind that is patched as a whole need not change
    the metric by the sum: sums over positions are not assumed.
    """

    kinds: tuple[str, ...]
    change: Float[Tensor, " prompt *site"]
    summary: Summary
    """The mean change over the prompts that have such tokens, [..., kind], in logits."""
    recovered: Recovered
    strongest: Float[Tensor, " prompt *site"]
    """The change, [prompt, ..., kind], of the token of the kind that changes the metric most in that prompt, in logits.
    Where one of three tokens carries everything it is three times the mean."""
    strongest_summary: Summary
    """Its mean over prompts."""
    strongest_recovered: Recovered
    """The share that this one token recovers."""

    def __repr__(self) -> str:
        """The shares as tables, and what they are means of."""
        mean = f"{type(self).__name__}: the mean over a prompt's tokens of a kind, each patched alone\n{self.recovered}"
        return f"{mean}\nof these the token that changes most in each prompt\n{self.strongest_recovered}"


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class PatchResult(PromptResult):
    """The metric of prompts whose activation at one site is that of the other run, in logits.

    `direction` is "denoise" (the clean run's activation in the corrupted run) or "noise" (the other way round); they
    are not the same. `metric` is that of the run that is edited: the corrupted one for "denoise", the clean one for
    "noise". Prompts, columns and what is right are those of the clean prompts.

    Heimersheim and Nanda 2024, "How to use and interpret activation patching"; Wang et al. 2022 (arXiv 2211.00593).
    """

    clean: Float[Tensor, " prompt"]
    """The metric of the clean run."""
    corrupted: Float[Tensor, " prompt"]
    """The metric of the corrupted run."""
    values: Float[Tensor, " prompt *site"]
    """The metric of the edited run at each site; NaN at positions beyond a prompt's read position."""
    site: str
    """The activation that is put in, such as "resid_pre" or "z"."""
    direction: str
    axes: tuple[str, ...]
    """The axes of `values` after the prompt, of layer, head, position and neuron; a position is the last of them."""
    lengths: Int[Tensor, " prompt"]
    """The number of tokens of each prompt up to and including the read position."""
    neurons: tuple[str, ...] = ()
    """The names of the neurons, as "L2N17", where they are the site."""
    kinds: tuple[str, ...] = ()
    token_kinds: Int[Tensor, "prompt position"] | None = None
    """The kind of each token, a number in `kinds`; -1 beyond a prompt's end."""
    estimated: bool = False
    """Whether `values` are the linear estimate from gradients."""
    agreement: float | None = None
    """The correlation of the estimate with exact values at a sample of sites."""
    sampled: int = 0
    """The number of sites in that sample."""

    @property
    def by_position(self) -> bool:
        """Whether each position is a site of its own."""
        return self.axes[-1:] == ("position",)

    @property
    def where(self) -> str:
        """At which positions a site is edited, in words that follow its name; none where each position is a site."""
        return POSITIONS.get(str(self.info.get("positions")), "")

    @property
    @torch_defaults()
    def change(self) -> Float[Tensor, " prompt *site"]:
        """The metric of the edited run minus that of the run that was edited, in logits."""
        return self.values - self.metric.view(-1, *[1] * len(self.axes))

    @property
    def offsets(self) -> tuple[int, ...]:
        """The columns of `aligned`, ..., -2, -1, 0 from the read position; none where no position is a site."""
        return tuple(range(1 - self.values.shape[-1], 1)) if self.by_position else ()

    @torch_defaults()
    def aligned(self) -> Float[Tensor, " prompt *site"]:
        """`values` by offset from the read position, [prompt, ..., offset]; NaN where a prompt does not reach so far.

        Where no position is a site it is `values`.
        """
        return aligned_at_end(self.values, self.lengths) if self.by_position else self.values

    @cached_property
    @torch_defaults()
    def recovered(self) -> Recovered:
        """The share recovered at each site: 0 where the metric is that of corrupted prompts, 1 that of clean ones.

        Positions are offsets from the read position, the last column is that position itself; each column is over the
        prompts that reach so far, in the numerator and in the denominator.
        """
        return self._recovered(self.aligned(), self._present, self.site_axes, self._columns)

    @cached_property
    @torch_defaults()
    def change_summary(self) -> Summary:
        """Mean change at each site with its clustered 95% interval, in logits; positions as in `recovered`."""
        aligned = self.aligned() - self.metric.view(-1, *[1] * len(self.axes))
        return summary_by_column(aligned, self._present, self.clusters)

    @torch_defaults()
    def by_kind(self) -> KindChanges:
        """The change averaged over each prompt's tokens of each kind, and the share that it recovers.

        It is the mean effect of patching one such token, and beside it that of the strongest of them. Sums over
        positions are not assumed: tokens patched together may do more or less than each alone.

        Raises:
            InputError: no position is a site, or the kinds of tokens are not known.
        """
        if not self.by_position:
            raise InputError(f"kinds of token are of positions, this result has the axes {', '.join(self.axes)}")
        if self.token_kinds is None:
            raise InputError("the kinds of tokens of these prompts are not known")
        change, present = mean_by_kind(self.change, self.token_kinds, len(self.kinds))
        strongest = strongest_by_kind(self.change, self.token_kinds, len(self.kinds))
        of_mean, of_strongest = self._of_kinds(change, present), self._of_kinds(strongest, present)
        return KindChanges(self.kinds, change, *of_mean, strongest, *of_strongest)

    def _of_kinds(
        self, change: Float[Tensor, " prompt *site"], present: Bool[Tensor, "prompt kind"]
    ) -> tuple[Summary, Recovered]:
        values = change + self.metric.double().view(-1, *[1] * len(self.axes))
        share = self._recovered(values, present, (*self.axes[:-1], "kind"), self.kinds)
        return summary_by_column(change, present, self.clusters), share

    @torch_defaults()
    def top(self, k: int = 5) -> list[RankedPart]:
        """The `k` sites with the largest mean change by size, strongest first.

        Each is estimated on mazes that did not choose it, where there are at least 8 of them and every prompt has every
        site. Positions, which are offsets from the read position, are chosen and measured on the same prompts.

        Raises:
            InputError: k is no whole number, or below 0.
        """
        held = None
        if not self.by_position:
            held = sums_of_buckets(self.change, self.buckets, int(self.clusters.max()) + 1)
        return ranked(self.change_summary, self.site_names, k, held)

    @property
    def site_axes(self) -> tuple[str, ...]:
        """The axes of what is averaged over prompts: `axes`, with offsets from the read position for positions."""
        return (*self.axes[:-1], "offset") if self.by_position else self.axes

    @property
    def site_names(self) -> tuple[str, ...]:
        """The names of all sites of `recovered` in row-major order, as "L5H3", "layer 3 at offset -2" or "L2N17"."""
        if self.neurons:
            return self.neurons
        shape = self.values.shape[1:]
        return tuple(self._name_of(place(i, shape)) for i in range(self.values[0].numel()))

    def per_prompt(self) -> dict[str, Float[Tensor, "prompt ..."]]:
        """The numbers of each prompt whose shape does not depend on how long prompts are."""
        found = {**super().per_prompt(), "clean": self.clean, "corrupted": self.corrupted}
        return found if self.by_position else {**found, "values": self.values, "change": self.change}

    @torch_defaults()
    def to_frame(self) -> pd.DataFrame:
        """One row for each prompt and site, in logits; positions beyond a prompt's end are left out.

        Columns: prompt; each of `axes` (a neuron by its name); for positions also offset (from the read position) and
        token; value and change.
        """
        import pandas as pd

        held = ~self.values.isnan()
        at = held.nonzero()
        table = pd.DataFrame({name: at[:, i].numpy() for i, name in enumerate(("prompt", *self.axes))})
        if self.neurons:
            table["neuron"] = [self.neurons[i] for i in at[:, -1].tolist()]
        if self.by_position:
            table["offset"] = (at[:, -1] - self.lengths[at[:, 0]] + 1).numpy()
            table["token"] = [self.prompt_tokens[i][p] for i, p in at[:, [0, -1]].tolist()]
        return table.assign(value=self.values[held].numpy(), change=self.change[held].numpy())

    def _name_of(self, index: tuple[int, ...]) -> str:
        at = dict(zip(self.axes, index, strict=True))
        name = f"L{at['layer']}H{at['head']}" if "head" in at else f"layer {at['layer']}" if "layer" in at else ""
        offset = f"offset {at['position'] - self.values.shape[-1] + 1}" if "position" in at else ""
        return " at ".join(filter(None, (name, offset)))

    @property
    def _present(self) -> Bool[Tensor, "prompt column"]:
        """Which prompts have each entry of the last axis."""
        shape = (len(self), self.values.shape[-1])
        return reaches(shape[1], self.lengths) if self.by_position else torch.ones(shape, dtype=torch.bool)

    @property
    def _columns(self) -> tuple[str, ...]:
        """The names of the last axis."""
        return self.neurons or tuple(map(str, self.offsets or range(self.values.shape[-1])))

    def _recovered(
        self,
        values: Float[Tensor, " prompt *site"],
        present: Bool[Tensor, "prompt column"],
        axes: tuple[str, ...],
        columns: tuple[str, ...],
    ) -> Recovered:
        return recovered_share(values, self.clean, self.corrupted, present, self.clusters, axes, columns)

    def _summary_rows(self) -> list[tuple[str, str]]:
        rows = [(name, str(self.info.get(name, "?"))) for name in ("model", "task", "metric")]
        if "change" in self.info:
            rows.append(("change", str(self.info["change"])))
        rows.append(("pairs", str(len(self)) + self.about))
        for name, run in (("clean", self.clean), ("corrupted", self.corrupted)):
            rows.append((f"{name} run", f"{format_mean(self.summarized(run))} logits"))
        rows.append(("accuracy", shown_accuracy(self.accuracy)))
        how = DIRECTIONS.get(self.direction, self.direction)
        words = f"{self.site} by {' and '.join(self.axes)}{self.where}, {how}"
        rows.append(("patched", words))
        if self.estimated:
            rows.append(("estimate", shown_agreement(self.agreement, self.sampled)))
        return [*rows, ("strongest sites", "; ".join(map(repr, self.top(3))))]


def shown_agreement(agreement: float | None, sampled: int) -> str:
    """How far a gradient estimate is to be trusted, in words."""
    if agreement is None:
        return "from gradients, compared with no exact value"
    return f"from gradients, correlation {agreement:.2f} with exact values at {sampled} sites"
