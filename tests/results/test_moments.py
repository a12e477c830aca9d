"""Means, variances, clustered errors and sums by bucket of prompts that come in pieces, against the whole."""

from __future__ import annotations

import pytest
import torch

from maze_dla.results.buckets import N_BUCKETS, Clusters, bucket_sums, buckets_of, error_by_bucket, halves
from maze_dla.results.moments import BatchMoments, PromptMoments
from maze_dla.results.statistics import summarize

CLUSTERS = torch.tensor([0, 1, 0, 2, 1, 0, 3, 4, 4, 5])
BUCKETS = CLUSTERS * 7 % 5


def values(offset: float = 50.0) -> torch.Tensor:
    return offset + torch.randn(10, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def moments(pieces: list[list[int]]) -> PromptMoments:
    made = PromptMoments(CLUSTERS, BUCKETS)
    for rows in pieces:
        made.add(values()[rows], torch.tensor(rows))
    return made


@pytest.mark.parametrize(
    "pieces", [[list(range(10))], [[i] for i in range(10)], [[9, 0, 3], [1, 2, 8, 7], [4, 5, 6]]], ids=str
)
def test_clusters_in_several_pieces_are_counted_whole(pieces: list[list[int]]) -> None:
    made, expected = moments(pieces), summarize(values(), CLUSTERS)
    torch.testing.assert_close(made.mean, expected.mean)
    torch.testing.assert_close(made.error, expected.standard_error)
    torch.testing.assert_close(made.variance, values().var(0))
    torch.testing.assert_close(made.sums, bucket_sums(values(), BUCKETS))
    assert not torch.allclose(expected.standard_error, summarize(values()).standard_error, rtol=1e-2)


def test_a_cluster_that_is_not_complete_has_no_error() -> None:
    with pytest.raises(RuntimeError, match="1 clusters are not complete"):
        _ = moments([[0, 1, 2, 3, 4, 6]]).error


def test_one_prompt_a_cluster_is_the_plain_error() -> None:
    made = PromptMoments(torch.arange(10), BUCKETS)
    made.add(values(), torch.arange(10))
    torch.testing.assert_close(made.error, summarize(values()).standard_error)
    assert float(made.crossed.abs().max()) == 0  # pyright: ignore


def neurons_of(rows: list[int]) -> tuple[object, Clusters]:
    """A result that keeps means of neurons alone."""
    numbers = CLUSTERS[rows].unique(return_inverse=True)[1]
    made = PromptMoments(numbers, BUCKETS[rows])
    made.add(values()[rows], torch.arange(len(rows)))
    names = {"neuron_mean": made.mean, "neuron_variance": made.variance, "neuron_error": made.error}
    names |= {"neuron_crossed": made.crossed, "neuron_sums": made.sums}
    return type("Kept", (), names), Clusters(numbers, numbers.bincount(), BUCKETS[rows])


@pytest.mark.parametrize("batches", [[[0, 2, 5], [1, 4, 3, 6], [7, 8, 9]], [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9]]], ids=str)
def test_batches_join_to_the_whole(batches: list[list[int]]) -> None:
    """Clusters of other sizes in other batches, also where a batch knows means alone."""
    expected = summarize(values(), CLUSTERS)
    every, means = BatchMoments(), BatchMoments()
    for rows in batches:
        kept, clusters = neurons_of(rows)
        every.add(values()[rows], clusters)
        means.add_neurons(kept, clusters)
    for made in (every, means):
        torch.testing.assert_close(made.mean, expected.mean)
        torch.testing.assert_close(made.error, expected.standard_error)
        torch.testing.assert_close(made.sums, bucket_sums(values(), BUCKETS))


def test_buckets_are_those_of_names_whatever_their_order() -> None:
    names = tuple(f"maze {i}" for i in range(2000))
    buckets = buckets_of(names)
    assert torch.equal(buckets.flip(0), buckets_of(names[::-1]))
    assert torch.equal(buckets[:5], torch.tensor([int(b) for b in buckets_of(names[:5])]))
    counts = buckets.bincount(minlength=N_BUCKETS)
    assert counts.min() > 10
    assert torch.equal(buckets_of(torch.tensor([3, 4, 3]))[[0]], buckets_of(("3",)))


def test_halves_are_balanced_and_disjoint() -> None:
    split = halves().double()
    assert torch.equal(split.sum(1), torch.full((64,), 32.0, dtype=torch.float64))
    assert torch.equal(split[:32] + split[32:], torch.ones(32, 64, dtype=torch.float64))
    together = split[:32] @ split[:32].T
    assert torch.equal(together, 16 + 16 * torch.eye(32, dtype=torch.float64))


def test_buckets_as_clusters() -> None:
    expected = summarize(values(), BUCKETS.unique(return_inverse=True)[1]).standard_error
    seen = error_by_bucket(bucket_sums(values(), BUCKETS), BUCKETS.bincount(minlength=N_BUCKETS))
    torch.testing.assert_close(seen, expected)
    one = error_by_bucket(bucket_sums(values(), BUCKETS * 0), (BUCKETS * 0).bincount(minlength=N_BUCKETS))
    assert one.isnan().all()
