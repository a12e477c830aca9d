"""Random walkers: what a walk through a maze is worth without any skill."""

from __future__ import annotations

import hashlib

import numpy as np

from maze_dla.adapters.mazes.walks import WalkedMaze
from maze_dla.geometry import Cell
from maze_dla.results.rollout import SCORES

WALKERS = ("random walker", "random walker, not turning back")
N_WALKS = 10  # of each walker in each maze


def scores_of_walkers(maze: WalkedMaze, given: tuple[Cell, ...], most: int, seed: int, name: str) -> np.ndarray:
    """The mean scores of the random walkers, [walker, score]; NaN where no walk has one.

    Both take a legal move each time, every one as likely, know the target when they stand on it, and end there. The
    first may go back; the second never visits a cell twice and ends in a dead end too, as maze-transformer's
    `RandomBaseline` does. They go on from the same cells as the model, with as many tokens at most.

    Args:
        maze: the maze.
        given: the cells from which the walk goes on; none for a walk from the origin.
        most: the most tokens that a walk adds, the one that ends it among them.
        seed: with the maze's `name`, of what is drawn.
    """
    found = []
    for number in range(len(WALKERS)):
        key = hashlib.blake2b(f"{seed},{number},{name},{given}".encode(), digest_size=16).digest()
        rng = np.random.default_rng(int.from_bytes(key, "little"))
        walks = [_walk(maze, given, rng.random(most).tolist(), turns_back=number == 0) for _ in range(N_WALKS)]
        scores = [maze.score(cells, finished=finished) for cells, finished in walks]
        found.append([_mean([float(score[name]) for score in scores]) for name in SCORES])
    return np.array(found)


def _walk(
    maze: WalkedMaze, given: tuple[Cell, ...], draws: list[float], *, turns_back: bool
) -> tuple[list[Cell], bool]:
    """The cells of one walk, and whether it ended before its draws did."""
    cells, beside = list(given), maze.graph.beside
    for draw in draws:
        if not cells:
            cells.append(maze.origin)
            continue
        ways = beside.get(cells[-1], [])
        if not turns_back:
            ways = [cell for cell in ways if cell not in cells]
        if cells[-1] == maze.target or not ways:
            return cells, True
        cells.append(ways[int(draw * len(ways))])
    return cells, False


def _mean(values: list[float]) -> float:
    known = [value for value in values if value == value]
    return sum(known) / len(known) if known else float("nan")
