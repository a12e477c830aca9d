"""Attention by distance: heads made by hand, and a slow count of the same."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import Any

import pytest
import torch
from scipy.stats import spearmanr

import maze_dla as dla
from maze_dla.adapters.mazes.distances import steps_from
from maze_dla.adapters.mazes.lattice import cell_of
from maze_dla.adapters.mazes.model import MazeModel
from maze_dla.errors import InputError, PromptError


@pytest.fixture(scope="module")
def batch(small_model: MazeModel) -> Any:
    return small_model.prompts(n_mazes=10)


@pytest.fixture(scope="module")
def attention(small_model: MazeModel, batch: Any) -> dla.AttentionResult:
    return dla.attention(small_model, batch)


def test_steps_are_those_of_a_shortest_walk() -> None:
    ring = frozenset({((0, 0), (0, 1)), ((0, 1), (1, 1)), ((1, 0), (1, 1)), ((0, 0), (1, 0)), ((4, 4), (4, 5))})
    assert steps_from((0, 0), ring) == {(0, 0): 0, (0, 1): 1, (1, 0): 1, (1, 1): 2}
    assert steps_from((3, 3), ring) == {(3, 3): 0}


def test_correlations_are_those_of_a_slow_count(
    small_model: MazeModel, batch: Any, attention: dla.AttentionResult
) -> None:
    found = small_model.attention_by_distance(attention, batch)
    for i, tokens in enumerate(batch.labels):
        q, named = len(tokens) - 1, defaultdict(list)
        for k, token in enumerate(tokens[:-1]):
            if (cell := cell_of(token)) is not None:
                named[cell].append(k)
        steps = steps_from(cell_of(tokens[q]) or (0, 0), batch.text(i).passages)
        for head in range(2):
            paid = {c: float(attention.patterns[i, head, q, at].mean()) for c, at in named.items()}
            others = [c for c in paid if steps[c] > 0]
            expected = spearmanr([steps[c] for c in others], [round(paid[c], 6) for c in others])[0]
            assert float(found.correlation[i, head]) == pytest.approx(expected, abs=1e-6)
            for d in range(found.attention.shape[-1]):
                near = [paid[c] for c in paid if steps[c] == d]
                expected = sum(near) / len(near) if near else float("nan")
                assert float(found.attention[i, head, d]) == pytest.approx(expected, abs=1e-6, nan_ok=True)


def test_planted_heads(small_model: MazeModel, batch: Any, attention: dla.AttentionResult) -> None:
    """A head that looks near, an even one, and one that looks at random."""
    patterns = torch.zeros(len(batch), 3, *attention.patterns.shape[2:])
    generator = torch.Generator().manual_seed(0)
    for i, tokens in enumerate(batch.labels):
        q = len(tokens) - 1
        steps = steps_from(cell_of(tokens[q]) or (0, 0), batch.text(i).passages)
        near = [1 / (1 + steps[c]) if (c := cell_of(t)) is not None else 0.0 for t in tokens]
        patterns[i, 0, q, : q + 1] = torch.tensor(near) / sum(near)
        patterns[i, 1, q, : q + 1] = 1 / (q + 1)
        patterns[i, 2, q, : q + 1] = torch.rand(q + 1, generator=generator).log_().mul_(3).softmax(-1)
    made = replace(attention, patterns=patterns, head_labels=("L0H0", "L0H1", "L1H0"))
    found = small_model.attention_by_distance(made, batch)
    assert found.correlation[:, 0].tolist() == pytest.approx([-1.0] * 10)
    assert found.correlation[:, 1].isnan().all()  # even attention has no correlation, however often cells are named
    summary = found.correlation_summary()
    assert float(summary.low[2]) < 0 < float(summary.high[2])
    assert float(summary.high[0]) < -0.99


def test_other_queries_and_the_lattice(small_model: MazeModel, batch: Any, attention: dla.AttentionResult) -> None:
    of_target = small_model.attention_by_distance(attention, batch, "target")
    assert not torch.equal(of_target.correlation, small_model.attention_by_distance(attention, batch).correlation)
    lattice = small_model.attention_by_distance(attention, batch, distance="lattice")
    assert lattice.attention.shape[-1] <= 5  # rows and columns of 3x3
    assert lattice.info["distance"] == "lattice"
    assert "rows and columns\n" in repr(lattice)
    assert "steps in the maze" not in repr(lattice)


def test_what_has_no_distance_is_refused(small_model: MazeModel, batch: Any, attention: dla.AttentionResult) -> None:
    start = small_model.prompts(n_mazes=2, task="origin_after_path_start")
    paid = dla.attention(small_model, start)
    with pytest.raises(PromptError, match="prompt 0: its query '<PATH_START>' is no cell, so no cell has a distance"):
        small_model.attention_by_distance(paid, start)
    assert len(small_model.attention_by_distance(paid, start, "origin")) == 2
    with pytest.raises(InputError, match="the batch has other prompts than the result: 2 and 10"):
        small_model.attention_by_distance(attention, start)
