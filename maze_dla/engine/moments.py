"""Means and variances over prompts that arrive in pieces."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from maze_dla.engine.devices import in_double


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
        values = in_double(values)
        n, mean = len(values), values.mean(0)
        squares = (values - mean).pow(2).sum(0)
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
