"""Intervals hold the truth about as often as they say, on simulated mazes: a small run of `simulate_intervals`."""

from __future__ import annotations

import pytest
import torch

from maze_dla.results.statistics import summarize
from tests.results.simulate_intervals import compared, coverage, draws
from tests.results.test_comparison import heads_of, named


def several_about_one_maze(n_mazes: int, n_each: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Prompts of a maze that share half of their variance: their numbers, which are right, and the mazes."""
    g = torch.Generator().manual_seed(0)
    shared = torch.randn(n_mazes, 1, 3, dtype=torch.float64, generator=g)
    own = torch.randn(n_mazes, n_each, 3, dtype=torch.float64, generator=g)
    values = (shared + own).flatten(0, 1)
    return values, values[:, 0] > -1, torch.arange(n_mazes).repeat_interleave(n_each)


@pytest.mark.parametrize(("n_mazes", "n_each"), [(50, 1), (50, 5), (100, 3)])
def test_clustered_intervals_hold(n_mazes: int, n_each: int) -> None:
    values, right, clusters = several_about_one_maze(2000, n_each)
    held, accuracy = coverage(values, right, clusters, n_mazes, 400)
    assert float(held.min()) > 0.92
    assert float(held.max()) < 0.98
    assert 0.92 < accuracy < 0.98


def test_counting_prompts_would_not_hold() -> None:
    """The control: the same draws, with each prompt as if it were about a maze of its own."""
    values, _, clusters = several_about_one_maze(2000, 5)
    plain, truth = [summarize(values[rows]) for rows in draws(clusters, 50, 200, 0)], values.mean(0)
    inside = torch.stack([(s.low <= truth) & (truth <= s.high) for s in plain]).double().mean(0)
    assert float(inside.max()) < 0.85


@pytest.mark.parametrize("n_idle", [4, 60])
def test_measures_hold_with_few_and_many_idle_heads(n_idle: int) -> None:
    means = torch.cat([torch.tensor([2.0, 1.0, -0.8, 0.5]), torch.zeros(n_idle)])
    whole = named(heads_of(means, 1500, spread=0.6), range(1500))
    for name, row in compared(whole, 100, 40).items():
        if name in ("accuracy", "chance") or "embed" in name or "MLP" in name or "rest" in name:
            continue
        assert abs(row["bias"]) < 0.2, name  # 0.1 in the full run; 40 draws know it to 0.04
        assert row["held"] > 0.85, name
