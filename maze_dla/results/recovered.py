"""The share of the difference between two runs that an edit brings back, with a clustered bootstrap."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from maze_dla.results.aligned import summary_by_column
from maze_dla.results.torch_defaults import torch_defaults

if TYPE_CHECKING:
    import pandas as pd

N_RESAMPLES = 2000
FEWEST = 5  # clusters that an interval needs: all resamples of fewer hold too few different ones
SITES_AT_ONCE = 2048
NOTHING = "-"
SHOWN_COLUMNS = 12


@dataclass(frozen=True, eq=False, repr=False)
class Recovered:
    """The share recovered at each site: 0 where the metric is that of the corrupted prompts, 1 that of the clean ones.

    (E[values] - E[corrupted]) / (E[clean] - E[corrupted]), means over prompts, with the 95% percentile interval of 2000
    resamples of clusters, expanded for few of them (Hesterberg 2015, The American Statistician 69, p. 371). Of fewer
    than 5 clusters there is no interval, `low` and `high` are NaN. All are NaN, printed as "-", where the 95% interval
    of E[clean] - E[corrupted] includes zero, or where all prompts are about one thing. A share is no probability: it
    may be negative or above 1.
    """

    mean: Float[Tensor, " *site"]
    low: Float[Tensor, " *site"]
    high: Float[Tensor, " *site"]
    n: Int[Tensor, " column"]
    """The number of prompts behind each column of the last axis."""
    axes: tuple[str, ...]
    columns: tuple[str, ...]
    """The names of the last axis."""

    @property
    def known(self) -> Bool[Tensor, " *site"]:
        """Where there is a share."""
        return ~self.mean.isnan()

    def shown(self, *index: int) -> str:
        """One share with its interval, as "0.53 [0.41, 0.66]" or "0.53 (no interval)", or "-"."""
        mean, low, high = (float(values[index]) for values in (self.mean, self.low, self.high))
        if math.isnan(mean):
            return NOTHING
        return f"{mean:.2f} (no interval)" if math.isnan(low) else f"{mean:.2f} [{low:.2f}, {high:.2f}]"

    @property
    @torch_defaults()
    def table(self) -> pd.DataFrame:
        """The shares as text, "-" where there is none; rows are the leading axes, columns the last one."""
        import pandas as pd

        shape = self.mean.shape
        cells = [NOTHING if math.isnan(v) else f"{v:.2f}" for v in self.mean.flatten().tolist()]
        leading = [range(size) for size in shape[:-1]]
        index = pd.MultiIndex.from_product(leading, names=self.axes[:-1]) if leading else pd.Index(["recovered"])
        width = shape[-1]
        rows = [cells[i : i + width] for i in range(0, len(cells), width)]
        return pd.DataFrame(rows, index=index, columns=pd.Index(self.columns, name=self.axes[-1]))

    def __repr__(self) -> str:
        table, n = self.table, self.n.tolist()
        cut = table.iloc[:, -SHOWN_COLUMNS:]
        counts = f"{n[0]} prompts" if len(set(n)) == 1 else f"{min(n)} to {max(n)} prompts a column"
        left_out = f", the last {SHOWN_COLUMNS} of {table.shape[1]} columns" if cut.shape[1] < table.shape[1] else ""
        title = f"{type(self).__name__} (0 corrupted, 1 clean) by {' and '.join(self.axes)}, {counts}{left_out}"
        return "\n".join([title, cut.to_string()])


@torch_defaults()
def recovered_share(
    values: Float[Tensor, "prompt *row column"],
    clean: Float[Tensor, " prompt"],
    corrupted: Float[Tensor, " prompt"],
    present: Bool[Tensor, "prompt column"],
    clusters: Int[Tensor, " prompt"],
    axes: tuple[str, ...],
    columns: tuple[str, ...],
) -> Recovered:
    """The share recovered at each site, over the prompts that each column has."""
    n_columns = values.shape[-1]
    apart = torch.where(present, (clean.double() - corrupted.double())[:, None], 0.0)
    apart_of = apart[:, :1] if bool(present.all()) else apart  # one column serves all where no prompt is missing
    weights, whole = _weights(clusters), _by_cluster(apart_of, clusters)
    resampled = weights @ whole
    flat, shares, ends = values.flatten(1), [], []
    levels = _levels(present, clusters)
    for start in range(0, flat.shape[1], SITES_AT_ONCE):
        column = torch.arange(start, min(start + SITES_AT_ONCE, flat.shape[1])) % n_columns
        here = flat[:, start : start + SITES_AT_ONCE].double() - corrupted.double()[:, None]
        gained = _by_cluster(torch.where(present[:, column], here, 0.0), clusters)
        of = column if whole.shape[1] > 1 else torch.zeros_like(column)
        shares.append(gained.sum(0) / whole.sum(0)[of])
        replicates = (gained.T @ weights.T) / resampled.T[of]
        ends.append(_ends(replicates, levels[column]))
    unknown = _unknown(apart, present, clusters)
    mean, low, high = (
        torch.cat(parts, -1).reshape(values.shape[1:]).masked_fill(unknown, torch.nan)
        for parts in (shares, [e[0] for e in ends], [e[1] for e in ends])
    )
    return Recovered(mean, low, high, present.sum(0), axes, columns)


def _levels(present: Bool[Tensor, "prompt column"], clusters: Int[Tensor, " prompt"]) -> Float[Tensor, " column"]:
    """The lower quantile of each column's interval, by its number of clusters n; NaN of too few.

    In place of 0.025 it is Phi(-sqrt(n / (n - 1)) t), t the 0.975 quantile of Student's distribution.
    """
    from scipy.stats import norm, t

    n = (_by_cluster(present.double(), clusters) > 0).sum(0).double()
    known = n.clamp_min(FEWEST).numpy()
    levels = torch.as_tensor(norm.cdf(-((known / (known - 1)) ** 0.5) * t.ppf(0.975, known - 1)))
    return levels.masked_fill(n < FEWEST, torch.nan)


def _ends(replicates: Float[Tensor, "site resample"], levels: Float[Tensor, " site"]) -> Float[Tensor, "2 site"]:
    """The two ends of each site's interval; NaN where there is none."""
    ends = replicates.new_full((2, len(replicates)), torch.nan)
    for level in levels[~levels.isnan()].unique().tolist():
        at = levels == level
        ends[:, at] = replicates[at].nanquantile(replicates.new_tensor([level, 1 - level]), dim=1)
    return ends


def _weights(clusters: Int[Tensor, " prompt"]) -> Float[Tensor, "resample cluster"]:
    """How often each cluster is drawn in each of the fixed resamples."""
    n = int(clusters.max()) + 1
    drawn = torch.randint(n, (N_RESAMPLES, n), generator=torch.Generator().manual_seed(0))
    zeros = torch.zeros(N_RESAMPLES, n, dtype=torch.float64)
    return zeros.scatter_add_(1, drawn, torch.ones(1, 1, dtype=torch.float64).expand(N_RESAMPLES, n))


def _by_cluster(
    values: Float[Tensor, "prompt column"], clusters: Int[Tensor, " prompt"]
) -> Float[Tensor, "cluster column"]:
    zeros = torch.zeros(int(clusters.max()) + 1, values.shape[1], dtype=torch.float64)
    return zeros.index_add_(0, clusters, values.double())


def _unknown(
    apart: Float[Tensor, "prompt column"], present: Bool[Tensor, "prompt column"], clusters: Int[Tensor, " prompt"]
) -> Bool[Tensor, " column"]:
    """Where the two runs cannot be told apart: the interval of their mean difference includes zero, or is unknown."""
    summary = summary_by_column(apart, present, clusters)
    return ~((summary.low > 0) | (summary.high < 0))
