"""Means with their uncertainty over prompts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Summary:
    """Mean over prompts with its standard error and 95% confidence interval, in the units of the values.

    `low` and `high` come from Student's t with one degree of freedom less than there are prompts; with a single
    prompt the error is unknown and they are NaN.
    """

    mean: Float[Tensor, "..."]
    standard_error: Float[Tensor, "..."]
    low: Float[Tensor, "..."]
    high: Float[Tensor, "..."]
    n: int


def summarize(values: Float[Tensor, "prompt ..."]) -> Summary:
    """Mean, standard error and interval of `values` over the first axis."""
    values = values.double()
    n = len(values)
    variance = values.var(0, correction=1) if n > 1 and values.numel() else torch.full_like(values[0], math.nan)
    return summary_from_moments(values.mean(0), variance, n)


def summary_from_moments(mean: Float[Tensor, "..."], variance: Float[Tensor, "..."], n: int) -> Summary:
    """The summary of `n` prompts whose mean and (unbiased) variance are known."""
    from scipy.stats import t as student_t

    error = (variance / n).sqrt()
    reach = float(student_t.ppf(0.975, n - 1)) * error if n > 1 else torch.full_like(error, math.nan)
    return Summary(mean, error, mean - reach, mean + reach, n)


@dataclass(frozen=True)
class Proportion:
    """A share of successes with its 95% interval (Wilson 1927, J. Am. Stat. Assoc. 22, p. 209)."""

    successes: int
    n: int

    @property
    def value(self) -> float:
        """The share itself."""
        return self.successes / self.n

    def __float__(self) -> float:
        """The share itself, so that float(result.accuracy) is a number."""
        return self.value

    @property
    def interval(self) -> tuple[float, float]:
        """Low and high end of the 95% interval."""
        z, n, p = 1.959964, self.n, self.value
        middle = p + z * z / (2 * n)
        reach = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return max(0.0, (middle - reach) / (1 + z * z / n)), min(1.0, (middle + reach) / (1 + z * z / n))

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.value:.3f} [{low:.3f}, {high:.3f}]"
