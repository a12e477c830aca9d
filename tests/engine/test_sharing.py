"""Prefixes that prompts share are computed once, and only those."""

from __future__ import annotations

import random

import pytest
import torch

from maze_dla.engine.forward.prefixes import MAX_UNIQUE_SHARE, shared_prefixes, slots_of

CPU = torch.device("cpu")


def distinct_prefixes(tokens: torch.Tensor, rows: torch.Tensor, positions: torch.Tensor) -> int:
    """Counted in the plainest way."""
    ends = {}
    for row, position in zip(rows.tolist(), positions.tolist(), strict=True):
        ends[row] = max(ends.get(row, 0), position + 1)
    return len({tuple(tokens[row, : t + 1].tolist()) for row, end in ends.items() for t in range(end)})


@pytest.mark.parametrize("seed", range(12))
def test_each_prefix_is_there_once_and_knows_its_places(seed: int) -> None:
    rng = random.Random(seed)
    n, width = rng.randint(1, 7), rng.randint(1, 12)
    tokens = torch.randint(2 + seed % 3, (n, width), generator=torch.Generator().manual_seed(seed))
    rows = torch.tensor([rng.randrange(n) for _ in range(9)] + list(range(n)))
    positions = torch.tensor([rng.randrange(width) for _ in rows])
    once = shared_prefixes(tokens, rows, positions, CPU)
    n_prefixes = distinct_prefixes(tokens, rows, positions)
    assert len(once.ids) == (n_prefixes if n_prefixes <= MAX_UNIQUE_SHARE * n * width else n * width)
    assert once.ids[once.reads].tolist() == tokens[rows, positions].tolist()
    assert once.positions[once.reads].tolist() == positions.tolist()
    spread = once.spread(torch.stack([once.ids, once.positions], 1).float())
    for row, position in zip(rows.tolist(), positions.tolist(), strict=True):
        assert spread[row, : position + 1, 0].tolist() == tokens[row, : position + 1].tolist()
        assert spread[row, : position + 1, 1].tolist() == list(range(position + 1))
    assert once.gather(spread).tolist() == torch.stack([once.ids, once.positions], 1).tolist()


def test_what_only_padding_reads_is_not_there() -> None:
    tokens = torch.tensor([[1, 2, 3, 0, 0, 0], [4, 5, 6, 7, 8, 9]])
    once = shared_prefixes(tokens, torch.tensor([0, 1]), torch.tensor([2, 5]), CPU)
    assert sorted(once.ids.tolist()) == [1, 2, 3, 4, 5, 6, 7, 8, 9]


def test_sequences_that_share_nothing_are_left_in_place() -> None:
    once = shared_prefixes(torch.arange(12).view(2, 6), torch.tensor([0, 1]), torch.tensor([5, 5]), CPU)
    assert once.token_at is None
    assert once.first_index is None


def test_slots_hold_the_prompts_of_each_sequence() -> None:
    rows, positions = torch.tensor([2, 0, 2, 2, 0]), torch.tensor([5, 1, 3, 4, 2])
    slots = slots_of(rows, positions, 4, CPU)
    assert slots.positions.tolist() == [[1, 2, 0], [0, 0, 0], [5, 3, 4], [0, 0, 0]]
    values = torch.arange(1, 6).float()
    assert slots.fill(values).tolist() == [[2, 5, 0], [0, 0, 0], [1, 3, 4], [0, 0, 0]]
    assert slots.take(slots.fill(values)).tolist() == values.tolist()
