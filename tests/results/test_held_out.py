"""What is picked for being large is estimated on mazes that did not pick it."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch

from maze_dla.results.attribution import AttributionResult
from maze_dla.results.buckets import N_BUCKETS, bucket_sums, buckets_of, halves
from maze_dla.results.held_out import ByBucket, held_out
from maze_dla.results.ranking import RankedPart
from maze_dla.results.streaming import stream
from tests.results.test_comparison import attribution, noisy


def of(values: torch.Tensor, names: tuple[str, ...]) -> ByBucket:
    buckets = buckets_of(names)
    n = len(dict.fromkeys(names))
    return ByBucket(bucket_sums(values, buckets), buckets.bincount(minlength=N_BUCKETS), n)


def drawn(n: int, means: torch.Tensor, seed: int, first: int = 0) -> tuple[torch.Tensor, tuple[str, ...]]:
    noise = torch.randn(n, len(means), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return means + noise, tuple(map(str, range(first, first + n)))


def by_definition(held: ByBucket, k: int) -> tuple[dict[int, list[float]], float]:
    """The held-out means of each part, half by half, and the sum of the lists."""
    kept: dict[int, list[float]] = {}
    lists = []
    for half in halves():
        means = [held.sums[side].sum(0) / held.counts[side].sum() for side in (half, ~half)]
        largest = means[1].abs().argsort(descending=True)[:k].tolist()
        for part in largest:
            kept.setdefault(part, []).append(float(means[0][part]))
        lists.append(sum(float(means[0][part]) for part in largest))
    return kept, sum(lists) / len(lists)


def test_every_part_is_the_mean_of_the_halves_that_did_not_pick_it() -> None:
    held = of(*drawn(60, torch.linspace(-0.6, 0.4, 30, dtype=torch.float64), 0))
    found, (kept, together) = held_out(held, 5), by_definition(held, 5)
    assert float(found.together.mean) == pytest.approx(together)
    most = sorted(map(len, kept.values()), reverse=True)[:5]
    assert (64 * found.chosen).round().tolist() == most
    for part, mean in zip(found.parts.tolist(), found.means.mean.tolist(), strict=True):
        assert mean == pytest.approx(sum(kept[part]) / len(kept[part]))


def test_with_room_for_all_parts_it_is_the_mean_of_halves() -> None:
    held = of(*drawn(200, torch.linspace(-1, 1, 6, dtype=torch.float64), 1))
    found = held_out(held, 6)
    assert found.chosen.tolist() == [1] * 6
    plain = (held.sums.sum(0) / held.counts.sum())[found.parts]
    torch.testing.assert_close(found.means.mean, plain, atol=0.02, rtol=0)  # halves have not all the same size


def summed(k: int, seed: int) -> tuple[float, float, float]:
    """Of 10 parts of 400 that do something: the held-out sum, the truth of each half's list, and the sample's own."""
    means = torch.cat([torch.full((10,), 0.5), torch.zeros(390)]).double()
    values, names = drawn(60, means, seed, first=1000 * seed)
    held = of(values, names)
    lists = [(held.sums[half].sum(0) / held.counts[half].sum()).abs().topk(k).indices for half in halves()]
    truth = sum(float(means[chosen].sum()) for chosen in lists) / len(lists)
    sample = values.mean(0)
    return float(held_out(held, k).together.mean), truth, float(sample[sample.abs().topk(k).indices].abs().sum())


def test_the_sum_of_the_strongest_is_that_of_fresh_mazes() -> None:
    held, fresh, in_sample = torch.tensor([summed(20, seed) for seed in range(40)]).mean(0).tolist()
    assert held == pytest.approx(fresh, abs=0.25)
    assert in_sample > fresh + 2


def named(result: AttributionResult, names: tuple[str, ...]) -> AttributionResult:
    return replace(result, columns={"maze": names}, info={**result.info, "unit": "maze"})


def result() -> AttributionResult:
    return named(noisy(40), tuple(f"m{i // 2}" for i in range(40)))


def shuffled(one: AttributionResult, order: torch.Tensor) -> AttributionResult:
    mine = {f.name: v[order] for f in fields(one) if isinstance(v := getattr(one, f.name), torch.Tensor)}
    texts = {"prompt_tokens": (("a",),) * len(order), "targets": ("b",) * len(order)}
    columns = {"maze": tuple(one.columns["maze"][i] for i in order.tolist())}
    return replace(one, **mine, **texts, columns=columns)


def test_order_and_batches_change_nothing() -> None:
    one = result()
    turned = shuffled(one, torch.arange(40).flip(0))
    pieces = iter([shuffled(one, torch.arange(0, 14)), shuffled(one, torch.arange(14, 40))])
    for other in (turned, stream(lambda _: next(pieces), [0, 1])):
        for mine, theirs in zip(one.top_heads(3), other.top_heads(3), strict=True):
            assert mine[:2] == theirs[:2]
            assert mine[2:5] == pytest.approx(theirs[2:5])
            assert mine.chosen == theirs.chosen
        assert float(one.top_heads_together(2).mean) == pytest.approx(float(other.top_heads_together(2).mean))


def cut(one: AttributionResult, n: int) -> AttributionResult:
    return shuffled(one, torch.arange(n))


def test_few_mazes_pick_and_measure_alike_and_say_so() -> None:
    few, enough = cut(result(), 14), cut(result(), 16)
    assert [part.chosen for part in few.top_heads(2)] == [None, None]
    assert "of the prompts that chose it" in repr(few.top_heads(1))
    assert all(part.chosen is not None for part in enough.top_heads(2))
    assert "of the prompts that chose it" not in repr(enough.top_heads(1))
    assert few.top_heads_together(2).low.isnan()
    assert not enough.top_heads_together(2).low.isnan()


def test_parts_that_may_be_nothing_are_marked() -> None:
    assert repr(RankedPart("L5H3", (5, 3), 0.4, 0.1, 0.7, 1.0)) == "L5H3 +0.400 [+0.100, +0.700]"
    assert repr(RankedPart("L5H3", (5, 3), 0.4, -0.1, 0.9, 1.0)) == "L5H3 +0.400 [-0.100, +0.900], includes zero"
    heads = torch.zeros(40, 1, 2, dtype=torch.float64)
    heads[:, 0, 0] = 1 + torch.arange(40) % 3
    heads[:, 0, 1] = torch.arange(40) % 2 - 0.5
    made = attribution(result().layers, result().constant, heads)
    ranked = named(made, tuple(map(str, range(40)))).top_heads(2)
    assert [part.may_be_zero for part in ranked] == [False, True]
