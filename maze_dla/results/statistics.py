"""Means with their uncertainty over prompts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from maze_dla.results.torch_defaults import torch_defaults

LEAST_DESIGN_EFFECT = 0.5


@dataclass(frozen=True, eq=False)
class Summary:
    """Mean over prompts with its standard error and 95% confidence interval, in the units of the values.

    Prompts about one thing, such as a maze, are one cluster; without any the prompts themselves are. `low` and `high`
    come from Student's t with one degree of freedom less than there are clusters (`n_clusters`); with a single cluster
    the error is unknown and they are NaN.
    """

    mean: Float[Tensor, "..."]
    standard_error: Float[Tensor, "..."]
    low: Float[Tensor, "..."]
    high: Float[Tensor, "..."]
    n: int
    n_clusters: int


@torch_defaults()
def summarize(values: Float[Tensor, "prompt ..."], clusters: Int[Tensor, " prompt"] | None = None) -> Summary:
    """Mean, standard error and interval of `values` over the first axis.

    The variance of the mean is G / (G - 1) * sum over clusters g of (sum over i in g of (y_i - mean))^2 / n^2 (Liang
    and Zeger 1986, Biometrika 73, p. 13): prompts of a cluster may depend on each other in any way.
    """
    values = values.double()
    n, mean = len(values), values.mean(0)
    deviations = values - mean
    if clusters is not None:
        n_clusters = int(clusters.max()) + 1
        deviations = values.new_zeros(n_clusters, *mean.shape).index_add_(0, clusters, deviations)
    n_clusters = len(deviations)
    error = deviations.square_().sum(0).mul_(n_clusters / max(n_clusters - 1, 1)).sqrt_() / n
    return interval_of(mean, error, n, n_clusters)


def interval_of(mean: Float[Tensor, "..."], error: Float[Tensor, "..."], n: int, n_clusters: int) -> Summary:
    """The summary of `n` prompts of so many clusters whose mean and standard error are known."""
    from scipy.stats import t as student_t

    if n_clusters < 2:
        error = torch.full_like(mean, math.nan)
    reach = float(student_t.ppf(0.975, n_clusters - 1)) * error if n_clusters > 1 else error
    return Summary(mean, error, mean - reach, mean + reach, n, n_clusters)


def summary_from_moments(mean: Float[Tensor, "..."], variance: Float[Tensor, "..."], n: int) -> Summary:
    """The summary of `n` independent prompts whose mean and (unbiased) variance are known."""
    return interval_of(mean, (variance / n).sqrt(), n, n)


@torch_defaults()
def proportion(held: Bool[Tensor, " prompt"], clusters: Int[Tensor, " prompt"]) -> Proportion:
    """The share of prompts for which something holds; its interval is clustered."""
    summary = summarize(held.double(), clusters)
    return proportion_of(int(held.sum()), summary.n, summary.n_clusters, float(summary.standard_error))


def proportion_of(successes: int, n: int, n_clusters: int, error: float) -> Proportion:
    """The share of `n` prompts of so many clusters, whose clustered standard error is known."""
    return Proportion(successes, n) if n_clusters == n else Proportion(successes, n, n_clusters, error)


@dataclass(frozen=True)
class Proportion:
    """A share of successes with its 95% interval (Wilson 1927, J. Am. Stat. Assoc. 22, p. 209).

    Where prompts come in `n_clusters` clusters, mazes for one, the interval is Wilson's at the `effective_n` that the
    clustered `error` of the share implies (Kish 1965, "Survey Sampling", section 8.2). Without clusters prompts are
    independent.
    """

    successes: int
    n: int
    n_clusters: int | None = None
    error: float | None = None

    @property
    def value(self) -> float:
        """The share itself."""
        return self.successes / self.n

    def __float__(self) -> float:
        """The share itself, so that float(result.accuracy) is a number."""
        return self.value

    @property
    def effective_n(self) -> float:
        """How many independent prompts would leave the share as uncertain: `n` over the design effect.

        The design effect is the clustered variance over that of independent prompts, p (1 - p) / (n - 1). Where all
        prompts or none are successes it is not known, and clusters count. At most 2 n: errors that fall evenly on few
        clusters do not imply certainty.
        """
        p = self.value
        if self.n_clusters is None:
            return float(self.n)
        if p in (0, 1) or self.n_clusters == 1:
            return float(self.n_clusters)
        assert self.error is not None
        return self.n / max(self.error**2 * (self.n - 1) / (p * (1 - p)), LEAST_DESIGN_EFFECT)

    @property
    def interval(self) -> tuple[float, float]:
        """Low and high end of the 95% interval."""
        z, n, p = 1.959964, self.effective_n, self.value
        middle = p + z * z / (2 * n)
        reach = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return max(0.0, (middle - reach) / (1 + z * z / n)), min(1.0, (middle + reach) / (1 + z * z / n))

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.value:.3f} [{low:.3f}, {high:.3f}]"
