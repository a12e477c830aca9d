"""The result of `attention_by_distance`: attention to cells by their distance in the maze."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor

from maze_dla.errors import InputError
from maze_dla.results.aligned import summary_by_column
from maze_dla.results.base import PromptResult, format_signed
from maze_dla.results.parts import Head, place_of_head
from maze_dla.results.statistics import Summary
from maze_dla.results.torch_defaults import torch_defaults

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class DistanceResult(PromptResult):
    """Attention of one query to the tokens of cells, by the distance of their cell from the query's.

    The attention to a cell is the mean over the tokens before the query that name it, so that a cell named more often
    has no more of it: even attention gives every cell the same. The query's own token is left out.
    """

    correlation: Float[Tensor, "prompt head"]
    """Spearman's rank correlation of attention and distance, over the cells of a prompt other than the query's own;
    NaN with fewer than three such cells, or where all have the same."""
    attention: Float[Tensor, "prompt head distance"]
    """The mean attention to the cells at each distance, 0 being the query's own; NaN where a prompt has none."""
    head_labels: tuple[str, ...]

    @property
    def unit_of_distance(self) -> str:
        """The unit that distances are counted in."""
        return "rows and columns" if self.info.get("distance") == "lattice" else "steps through the maze"

    @torch_defaults()
    def correlation_summary(self) -> Summary:
        """Mean correlation of each head over prompts, [head], with its clustered 95% interval.

        Correlations are averaged as Fisher's z, by maze, and the mean and its interval are turned back.
        """
        z = self.correlation.double().clamp(-0.999, 0.999).atanh()
        found = summary_by_column(z, ~z.isnan(), self.clusters)
        ends = (found.mean, found.standard_error, found.low, found.high)
        mean, error, low, high = (values.tanh() if i != 1 else values for i, values in enumerate(ends))
        return Summary(mean, error * (1 - mean**2), low, high, found.n, found.n_clusters)

    @torch_defaults()
    def attention_summary(self) -> Summary:
        """Mean attention of each head at each distance, [head, distance], over the prompts that have such cells."""
        present = ~self.attention.isnan().any(1)
        return summary_by_column(self.attention, present, self.clusters)

    def index_of(self, head: Head) -> int:
        """Where a head stands on the axis of heads.

        Raises:
            InputError: no head, or one that was not chosen.
        """
        layer, number = place_of_head(head, 10**6, 10**6)
        if (name := f"L{layer}H{number}") not in self.head_labels:
            raise InputError(f"{name} is not among the heads of this result: {', '.join(self.head_labels[:8])}")
        return self.head_labels.index(name)

    def shown_correlation(self, head: Head) -> str:
        """The mean correlation of a head with its interval, as "-0.31 [-0.40, -0.22]"."""
        i, found = self.index_of(head), self.correlation_summary()
        mean, low, high = (getattr(found, name)[i] for name in ("mean", "low", "high"))
        return format_signed(Summary(mean, found.standard_error[i], low, high, found.n, found.n_clusters))

    @torch_defaults()
    def to_frame(self) -> pd.DataFrame:
        """One row for each head.

        Columns: head, correlation, low and high (its clustered 95% interval), prompts, how many have a correlation.
        """
        import pandas as pd

        found = self.correlation_summary()
        numbers = {"correlation": found.mean, "low": found.low, "high": found.high}
        table = pd.DataFrame({"head": list(self.head_labels), **{n: v.numpy() for n, v in numbers.items()}})
        return table.assign(prompts=(~self.correlation.isnan()).sum(0).numpy())

    def _summary_rows(self) -> list[tuple[str, str]]:
        rows, found = super()._summary_rows()[:-1], self.correlation_summary()
        order = found.mean.abs().nan_to_num(-1.0).argsort(descending=True)[:3].tolist()
        shown = "; ".join(f"{self.head_labels[i]} {self.shown_correlation(self.head_labels[i])}" for i in order)
        rows.append(("distances", f"0 to {self.attention.shape[-1] - 1} {self.unit_of_distance}"))
        return [*rows, ("largest rank correlations", shown)]
