"""Prompts about more mazes than are made at once."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from maze_dla.adapters.mazes.prompts import MazePromptBatch


@dataclass(frozen=True)
class PromptBatches:
    """Batches of prompts, each made when it is due and anew each time; their number is known before."""

    make: Callable[[int, int], MazePromptBatch]
    n_mazes: int
    batch_size: int
    seed: int

    def __len__(self) -> int:
        return -(-self.n_mazes // self.batch_size)

    def __iter__(self) -> Iterator[MazePromptBatch]:
        for first, batch_seed in zip(range(0, self.n_mazes, self.batch_size), _seeds(self.seed), strict=False):
            yield self.make(first, batch_seed)


def _seeds(seed: int) -> Iterator[int]:
    """The seed itself, and then one for each further batch."""
    yield seed
    for number in itertools.count(1):
        yield int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
