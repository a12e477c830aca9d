"""Hallway mazes as arrays of cells: the training data of the bundled checkpoint.

A hallway (`gen_dfs` with `do_forks=False`) is one corridor, a path without branches. It is held here as the
list of its cells in order, a cell being `row * grid_n + column`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int
from tqdm.auto import tqdm

from maze_dla.adapters.mazes.randomness import Generators, Privately

Cells = Int[np.ndarray, "mazes cells"]


def generate_corridors(n_mazes: int, grid_n: int, *, seed: int) -> list[tuple[int, ...]]:
    """`n_mazes` corridors from maze-dataset's own generator, in the distribution of its hallway data sets."""
    from maze_dataset.generation import LatticeMazeGenerators

    generate = Privately(Generators.seeded(seed)).function(LatticeMazeGenerators.gen_dfs)
    return [
        corridor_cells(generate(np.array([grid_n, grid_n]), do_forks=False))
        for _ in tqdm(range(n_mazes), desc="mazes", unit="maze", disable=None)
    ]


def corridor_cells(maze) -> tuple[int, ...]:
    """The cells of a hallway maze from one end to the other, starting where the generator started."""
    grid_n = maze.connection_list.shape[1]
    neighbors: dict[int, list[int]] = {}
    for axis, row, column in np.argwhere(maze.connection_list):
        a = int(row * grid_n + column)
        b = a + (grid_n if axis == 0 else 1)
        neighbors.setdefault(a, []).append(b)
        neighbors.setdefault(b, []).append(a)
    row, column = maze.generation_meta["start_coord"]
    cells = [int(row * grid_n + column)]
    while following := [c for c in neighbors[cells[-1]] if c not in cells[-2:]]:
        cells.append(following[0])
    return tuple(cells)


def symmetries(grid_n: int) -> Int[np.ndarray, "8 cells"]:
    """The eight symmetries of the square as tables from cell to cell."""
    grid = np.arange(grid_n * grid_n).reshape(grid_n, grid_n)
    turned = [np.rot90(g, k) for g in (grid, grid.T) for k in range(4)]
    return np.stack([g.ravel() for g in turned])


def is_held_out(cells: tuple[int, ...], tables: Int[np.ndarray, "8 cells"]) -> bool:
    """Whether a corridor belongs to the tenth that training never sees, in any orientation or direction."""
    forms = [tuple(t[list(cells)]) for t in tables]
    canonical = min(forms + [f[::-1] for f in forms])
    digest = hashlib.sha256(repr([int(c) for c in canonical]).encode()).digest()
    return digest[0] % 10 == 0


@dataclass(frozen=True)
class CorridorPool:
    """Corridors grouped by length, so that a batch needs no padding."""

    by_length: dict[int, Cells]

    @classmethod
    def group(cls, corridors: list[tuple[int, ...]]) -> CorridorPool:
        """A pool of these corridors."""
        lengths = sorted({len(c) for c in corridors})
        return cls({n: np.array([c for c in corridors if len(c) == n]) for n in lengths})

    def sample(self, n: int, rng: np.random.Generator, tables: Int[np.ndarray, "8 cells"]) -> Cells:
        """`n` corridors of one length, each turned by a random symmetry and read in a random direction."""
        lengths = list(self.by_length)
        counts = np.array([len(self.by_length[k]) for k in lengths], dtype=float)
        pool = self.by_length[int(rng.choice(lengths, p=counts / counts.sum()))]
        cells = pool[rng.integers(len(pool), size=n)]
        turned = tables[rng.integers(8, size=n)[:, None], cells]
        backwards = rng.random(n) < 0.5
        return np.where(backwards[:, None], turned[:, ::-1], turned)
