"""Intervals of ratios and of their differences, from jackknife replicates."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from maze_dla.results.measures import Ratio, Replicates

CERTAIN = 4.0  # standard errors that a sum of squares must be from zero for a share of it to be told
Interval = tuple[float, float, float]  # value, low and high
UNKNOWN: Interval = (math.nan, math.nan, math.nan)


def measured(ratio: Ratio, least: float = 0.0) -> Interval:
    """The value of a ratio with its 95% interval (Fieller 1954, J. R. Stat. Soc. B 16, p. 175).

    Unknown where its bottom, or what it names as `certain`, is fewer than `least` standard errors above zero, or where
    the interval has no ends.
    """
    if not is_certain(ratio, least):
        return UNKNOWN
    value = float(ratio.top[0] / ratio.bottom[0])
    if ratio.inverted:
        low, high = (float(end) for end in _fieller(ratio.bottom, ratio.top))
        ends = (1 / high, 1 / low) if low > 0 else (math.nan, math.nan)
    elif ratio.each is not None:
        lows, highs = _fieller(ratio.each, ratio.bottom)
        ends = (min(value, float(lows.max())), max(value, float(highs.max())))
    else:
        low, high = _fieller(ratio.top, ratio.bottom)
        ends = (float(low), float(high))
    return UNKNOWN if math.isnan(sum(ends)) else (value, *ends)


def is_certain(ratio: Ratio, least: float = CERTAIN) -> bool:
    """Whether the bottom, or what the ratio names as `certain`, is so many standard errors above zero."""
    certain = ratio.bottom if ratio.certain is None else ratio.certain
    return bool(ratio.bottom[0] > 0 and certain[0] > least * _covariance(certain, certain).sqrt())


def of_two(one: Interval, two: Interval) -> Interval:
    """The second share minus the first, from the interval of each (Newcombe 1998, Stat. Med. 17, p. 873, method 10)."""
    below = math.hypot(two[0] - two[1], one[2] - one[0])
    above = math.hypot(two[2] - two[0], one[0] - one[1])
    apart = two[0] - one[0]
    return apart, apart - below, apart + above


def difference(one: Replicates, two: Replicates) -> Interval:
    """The second minus the first, with the interval of the jackknife over what they have in common."""
    apart = two - one
    reach = float(_t(len(apart)) * _covariance(apart, apart).sqrt())
    return float(apart[0]), float(apart[0]) - reach, float(apart[0]) + reach


def _t(n_replicates: int) -> float:
    from scipy.stats import t as student_t

    return float(student_t.ppf(0.975, n_replicates - 2))


def _covariance(one: Float[Tensor, "replicate ..."], two: Float[Tensor, "replicate ..."]) -> Float[Tensor, "..."]:
    """Of two estimates, by the jackknife."""
    n = len(one) - 1
    return ((one[1:] - one[1:].mean(0)) * (two[1:] - two[1:].mean(0))).sum(0) * ((n - 1) / n)


def _fieller(top: Float[Tensor, "replicate ..."], bottom: Replicates) -> tuple[Tensor, Tensor]:
    """All ratios r for which top - r * bottom may be zero; NaN where these have no ends."""
    wide = bottom.view(-1, *[1] * (top.ndim - 1)).expand_as(top)
    t2 = _t(len(bottom)) ** 2
    a = wide[0].square() - t2 * _covariance(wide, wide)
    b = top[0] * wide[0] - t2 * _covariance(top, wide)
    c = top[0].square() - t2 * _covariance(top, top)
    reach = (b.square() - a * c).clamp_min(0).sqrt()
    a = torch.where(a > 0, a, torch.nan)
    return (b - reach) / a, (b + reach) / a
