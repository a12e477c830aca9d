"""Means and variances over prompts that arrive in pieces."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

PART = 1 << 18  # numbers worked on at a time: their doubles stay in the caches of a CPU


@dataclass(frozen=True)
class _Moments:
    n: int
    mean: Float[Tensor, "..."]
    squares: Float[Tensor, "..."]  # sum of squared distances from the mean

    def joined(self, other: _Moments) -> _Moments:
        n, shift = self.n + other.n, other.mean - self.mean
        squares = self.squares + other.squares + shift.square() * (self.n * other.n / n)
        return _Moments(n, self.mean + shift * (other.n / n), squares)


class Moments:
    """Mean and unbiased variance over the first axis (Chan et al. 1983, Am. Stat. 37, p. 242).

    Kept where the values are: adding a piece never waits for a device.
    """

    def __init__(self) -> None:
        self._so_far: _Moments | None = None

    def add(self, values: Float[Tensor, "prompt ..."]) -> None:
        """Another piece, of at least one prompt; all of it or, where memory runs out, nothing."""
        so_far = self._so_far
        for part in values.split(_batch_size(values)):
            part = in_double(part, copy=True)
            mean = part.mean(0)
            here = _Moments(len(part), mean, part.sub_(mean).square_().sum(0))  # var_mean takes several times as long
            so_far = here if so_far is None else so_far.joined(here)
        self._so_far = so_far

    def add_moments(self, n: int, mean: Float[Tensor, "..."], variance: Float[Tensor, "..."]) -> None:
        """Another piece of `n` prompts, of which mean and unbiased variance are known (the latter NaN for one)."""
        mean, variance = in_double(mean), in_double(variance)
        here = _Moments(n, mean, variance * (n - 1) if n > 1 else torch.zeros_like(mean))
        self._so_far = here if self._so_far is None else self._so_far.joined(here)

    @property
    def n(self) -> int:
        """How many prompts there have been."""
        return 0 if self._so_far is None else self._so_far.n

    @property
    def mean(self) -> Tensor | None:
        """Of all pieces, on the CPU; None before the first."""
        return None if self._so_far is None else self._so_far.mean.cpu()

    @property
    def variance(self) -> Tensor | None:
        """Of all pieces, on the CPU; NaN for a single prompt, None before the first."""
        if self._so_far is None:
            return None
        return (self._so_far.squares / (self.n - 1 if self.n > 1 else float("nan"))).cpu()


def sum_in_double(values: Float[Tensor, "prompt *rest part"]) -> Float[Tensor, " prompt *rest"]:
    """The sum over the last axis in double precision, without a copy of all values in it."""
    values = values.cpu() if values.device.type == "mps" else values
    sums = values.new_empty(values.shape[:-1], dtype=torch.float64)
    for part, place in zip(values.split(_batch_size(values)), sums.split(_batch_size(values)), strict=True):
        torch.sum(part, -1, dtype=torch.float64, out=place)
    return sums


def in_double(values: Tensor, *, copy: bool = False) -> Tensor:
    """In double precision, on the CPU where the device has none."""
    return (values.cpu() if values.device.type == "mps" else values).to(torch.float64, copy=copy)


def _batch_size(values: Float[Tensor, "prompt ..."]) -> int:
    return max(PART // max(values[0].numel(), 1), 1)
