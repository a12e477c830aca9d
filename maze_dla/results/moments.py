"""Means and variances over prompts that arrive in pieces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from maze_dla.results.buckets import N_BUCKETS, Clusters, bucket_sums

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


class ClusterSquares:
    """The clustered error of a mean, from the sums of clusters that come in any order, each once."""

    def __init__(self) -> None:
        self.n_clusters = 0
        self._centre: Tensor | None = None
        self._squares: Tensor | float = 0.0
        self._crossed: Tensor | float = 0.0
        self._sizes = 0.0

    def add(self, sums: Float[Tensor, "cluster ..."], sizes: Int[Tensor, " cluster"]) -> None:
        """The sums of some more clusters, and how many prompts each has."""
        if not len(sums):
            return
        sums, sizes = in_double(sums), in_double(to_device_of(sizes, sums))
        if self._centre is None:
            self._centre = sums.sum(0) / sizes.sum()
        for part, size in zip(sums.split(_batch_size(sums)), sizes.split(_batch_size(sums)), strict=True):
            along = size.view(-1, *[1] * (part.ndim - 1))
            off = part - along * self._centre
            self._crossed = self._crossed + (off * along).sum(0)
            self._squares = self._squares + off.square_().sum(0)
        self._sizes += float(sizes.square().sum())
        self.n_clusters += len(sums)

    def join(self, other: ClusterSquares) -> None:
        """The clusters of another one, none of which is here already."""
        if other._centre is None:
            return
        if self._centre is None:
            self._centre = other._centre
        squares, crossed = other.about(self._centre)
        self._squares, self._crossed = self._squares + squares, self._crossed + crossed
        self._sizes += other._sizes
        self.n_clusters += other.n_clusters

    @classmethod
    def known(cls, clusters: tuple[int, float], n: int, mean: Tensor, error: Tensor, crossed: Tensor) -> ClusterSquares:
        """Those of `n` prompts whose error and crossed sums about the mean are known.

        `clusters` are their number and the sum of their squared sizes.
        """
        made = cls()
        made.n_clusters, made._sizes = clusters
        unbiased = (made.n_clusters - 1) / made.n_clusters
        made._squares = (error * n).square() * unbiased if made.n_clusters > 1 else torch.zeros_like(mean)
        made._centre, made._crossed = mean, crossed
        return made

    def about(self, centre: Tensor) -> tuple[Tensor, Tensor]:
        """Over clusters the sums of squared deviations from their size times a centre, and of deviations times size."""
        assert self._centre is not None
        off = centre - self._centre.to(centre.device)
        squares, crossed = (torch.as_tensor(x).to(centre.device) for x in (self._squares, self._crossed))
        return squares - 2 * off * crossed + off.square() * self._sizes, crossed - off * self._sizes

    def error(self, mean: Float[Tensor, "..."], n: int) -> Tensor:
        """The standard error of the mean of all `n` prompts, as `summarize` has it; NaN for one cluster."""
        if self.n_clusters < 2:
            return torch.full_like(mean, torch.nan)
        squares = self.about(mean)[0].clamp_min(0)
        return (squares * (self.n_clusters / (self.n_clusters - 1))).sqrt() / n


class PromptMoments:
    """Mean and variance of numbers of the prompts of a batch that arrive in pieces, in any order, with their clusters.

    A cluster is counted when the last of its prompts is there. Beside them, the sums of each bucket of clusters.
    """

    def __init__(self, clusters: Int[Tensor, " prompt"], buckets: Int[Tensor, " prompt"]) -> None:
        self._all = Moments()
        self._clusters, self._buckets = clusters, buckets
        self._missing = clusters.bincount()
        self._sizes = self._missing.clone()
        self._squares = ClusterSquares() if int(self._sizes.max()) > 1 else None
        self._open: dict[int, Tensor] = {}
        self._sums: Tensor | None = None

    def add(self, values: Float[Tensor, "prompt ..."], prompts: Int[Tensor, " prompt"]) -> None:
        """The numbers of some of the prompts."""
        clusters, buckets = self._clusters[prompts], self._buckets[prompts]
        if self._squares is not None:
            self._close(values, clusters, self._squares)
        if self._sums is None:
            self._sums = in_double(values[:1]).new_zeros(N_BUCKETS, *values.shape[1:])
        for part, of in zip(values.split(_batch_size(values)), buckets.split(_batch_size(values)), strict=True):
            part = in_double(part)
            self._sums.index_add_(0, to_device_of(of, part), part)
        self._all.add(values)

    def _close(self, values: Tensor, clusters: Int[Tensor, " prompt"], squares: ClusterSquares) -> None:
        """Count the clusters that are whole now, and keep the sums of the others."""
        numbers, rows, counts = clusters.unique(return_inverse=True, return_counts=True)
        sums = in_double(values[:1]).new_zeros(len(numbers), *values.shape[1:])
        sums.index_add_(0, to_device_of(rows, sums), in_double(values))
        self._missing[numbers] -= counts
        whole = self._missing[numbers] == 0
        for row, number in enumerate(numbers.tolist()):
            if number in self._open:
                sums[row] += self._open.pop(number)
            if not whole[row]:
                self._open[number] = sums[row].clone()
        squares.add(sums[to_device_of(whole, sums)], self._sizes[numbers[whole]])

    @property
    def mean(self) -> Tensor | None:
        """Of all pieces, on the CPU; None before the first."""
        return self._all.mean

    @property
    def variance(self) -> Tensor | None:
        """Of all pieces, unbiased over prompts; NaN for a single prompt, None before the first."""
        return self._all.variance

    @property
    def error(self) -> Tensor | None:
        """The standard error of the mean, clustered; None before the first piece.

        Raises:
            RuntimeError: a cluster of which some prompts never came.
        """
        mean, variance = self._all.mean, self._all.variance
        if mean is None or variance is None:
            return None
        if self._squares is None:
            return (variance / self._all.n).sqrt()
        if self._open:
            raise RuntimeError(f"{len(self._open)} clusters are not complete")
        return self._squares.error(mean, self._all.n)

    @property
    def crossed(self) -> Tensor | None:
        """The sum over clusters of their size times their deviation from the mean, which joining batches takes."""
        mean = self._all.mean
        if mean is None or self._squares is None:
            return None if mean is None else torch.zeros_like(mean)
        return self._squares.about(mean)[1]

    @property
    def sums(self) -> Tensor | None:
        """The sums of each bucket, on the CPU; None before the first piece."""
        return None if self._sums is None else self._sums.cpu()


def neuron_fields(moments: PromptMoments, which: int | None = None) -> dict[str, Tensor | None]:
    """The fields of a result about neurons, or about one of several stacked after the prompts; None where none came."""
    held = {name: getattr(moments, name) for name in ("mean", "variance", "error", "crossed", "sums")}
    if which is None:
        return {f"neuron_{name}": values for name, values in held.items()}
    axis = {name: 1 if name == "sums" else 0 for name in held}
    return {f"neuron_{name}": None if x is None else x.select(axis[name], which) for name, x in held.items()}


class BatchMoments:
    """Mean, variance, clustered error and sums by bucket of one number over the batches of a stream."""

    def __init__(self) -> None:
        self._all, self._squares = Moments(), ClusterSquares()
        self._sums: Tensor | None = None
        self._whole = True  # whether all batches knew their sums by bucket

    def add(self, values: Float[Tensor, "prompt ..."], clusters: Clusters) -> None:
        """The prompts of one more batch."""
        values = values.double()
        self._all.add(values)
        sums = values.new_zeros(len(clusters.sizes), *values.shape[1:]).index_add_(0, clusters.numbers, values)
        self._squares.add(sums, clusters.sizes)
        self._add_sums(bucket_sums(values, clusters.buckets))

    def add_neurons(self, result: Any, clusters: Clusters) -> None:
        """The neurons of one more batch, of which means alone are kept."""
        n, mean, variance = len(clusters.numbers), result.neuron_mean.double(), result.neuron_variance.double()
        self._all.add_moments(n, mean, variance)
        error, crossed = result.neuron_error, result.neuron_crossed
        n_clusters, sizes = len(clusters.sizes), float(clusters.sizes.double().square().sum())
        if error is None or crossed is None:  # of an earlier version: prompts as if they were independent
            error, crossed, n_clusters, sizes = (variance / n).sqrt(), torch.zeros_like(mean), n, float(n)
        self._squares.join(ClusterSquares.known((n_clusters, sizes), n, mean, error.double(), crossed.double()))
        self._add_sums(result.neuron_sums)

    def _add_sums(self, sums: Tensor | None) -> None:
        self._whole = self._whole and sums is not None
        if sums is not None:
            self._sums = sums.double() if self._sums is None else self._sums + sums

    @property
    def mean(self) -> Tensor:
        """Over all prompts."""
        assert self._all.mean is not None
        return self._all.mean

    @property
    def variance(self) -> Tensor:
        """Over all prompts, unbiased; NaN for a single one."""
        assert self._all.variance is not None
        return self._all.variance

    @property
    def error(self) -> Tensor:
        """The standard error of the mean, with clusters that are each in one batch."""
        return self._squares.error(self.mean, self._all.n)

    @property
    def sums(self) -> Tensor | None:
        """The sums of each bucket; None where some batch did not know them."""
        return self._sums if self._whole else None


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


def to_device_of(numbers: Tensor, values: Tensor) -> Tensor:
    """Numbers on the device of the values."""
    return numbers.to(values.device, non_blocking=True)


def _batch_size(values: Float[Tensor, "prompt ..."]) -> int:
    return max(PART // max(values[0].numel(), 1), 1)
