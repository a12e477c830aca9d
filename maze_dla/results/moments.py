"""Means and variances over prompts that arrive in pieces."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


class Moments:
    """Mean and unbiased variance over the first axis (Chan et al. 1983, Am. Stat. 37, p. 242).

    Kept where the values are: adding a piece never waits for a device.
    """

    def __init__(self) -> None:
        self.n = 0
        self._mean: Tensor | None = None
        self._squares: Tensor | None = None

    def add(self, values: Float[Tensor, "prompt ..."]) -> None:
        """Another piece, of at least one prompt."""
        variance, mean = torch.var_mean(in_double(values), 0, correction=0)
        self._join(len(values), mean, variance * len(values))

    def add_moments(self, n: int, mean: Float[Tensor, "..."], variance: Float[Tensor, "..."]) -> None:
        """Another piece of `n` prompts, of which mean and unbiased variance are known (the latter NaN for one)."""
        mean, variance = in_double(mean), in_double(variance)
        self._join(n, mean, variance * (n - 1) if n > 1 else torch.zeros_like(mean))

    def _join(self, n: int, mean: Tensor, squares: Tensor) -> None:
        if self._mean is None or self._squares is None:
            self.n, self._mean, self._squares = n, mean, squares
            return
        total, shift = self.n + n, mean - self._mean
        squares = self._squares + squares + shift.pow(2) * (self.n * n / total)
        self.n, self._mean, self._squares = total, self._mean + shift * (n / total), squares  # all of it or nothing

    @property
    def mean(self) -> Tensor | None:
        """Of all pieces, on the CPU; None before the first."""
        return None if self._mean is None else self._mean.cpu()

    @property
    def variance(self) -> Tensor | None:
        """Of all pieces, on the CPU; NaN for a single prompt, None before the first."""
        return None if self._squares is None else (self._squares / (self.n - 1 if self.n > 1 else float("nan"))).cpu()


def sum_in_double(values: Float[Tensor, "*rest part"]) -> Float[Tensor, "*rest"]:
    """The sum over the last axis in double precision, without a copy in between where the device has it."""
    return (values.cpu() if values.device.type == "mps" else values).sum(-1, dtype=torch.float64)


def in_double(values: Tensor) -> Tensor:
    """In double precision, on the CPU where the device has none."""
    return (values.cpu() if values.device.type == "mps" else values).double()
