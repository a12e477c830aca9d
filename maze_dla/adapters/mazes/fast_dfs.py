"""Depth-first mazes and their text, drawn and written as maze-dataset does it, about thirty times as fast.

maze-dataset keeps cells as numpy arrays of two numbers. Here they are plain tuples; the same draws from generators of
the same seed give the same mazes and the same tokens. Nothing relies on that unseen: `datasets` compares the first
mazes of every run with maze-dataset's own, and takes those where any differs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from itertools import takewhile
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from maze_dla.adapters.mazes.lattice import (
    ADJLIST_END,
    ADJLIST_START,
    CONNECTOR,
    ORIGIN_END,
    ORIGIN_START,
    PATH_END,
    PATH_START,
    SEPARATOR,
    TARGET_END,
    TARGET_START,
    cell_token,
)
from maze_dla.adapters.mazes.randomness import Generators, own_generator
from maze_dla.geometry import Cell

Wall = tuple[int, int, int]  # an entry of maze-dataset's connection list: 0 (down) or 1 (right), row, column
Ways = dict[Cell, list[tuple[Cell, Wall]]]
Order = list[tuple[int, bool]]  # passages by number, and whether the lower or right cell comes first
ONE_TOKEN_A_CELL = ("AOTP_UT_rasterized", "AOTP_UT_uniform")


class TupleMaze(NamedTuple):
    """A solved maze: the open entries of its connection list in order, and the cells of its path."""

    passages: list[Wall]
    path: list[Cell]

    @classmethod
    def of(cls, maze: Any) -> TupleMaze:
        """From a maze of maze-dataset."""
        passages = [(d, r, c) for d, r, c in np.argwhere(maze.connection_list).tolist()]
        return cls(passages, [(r, c) for r, c in np.asarray(maze.solution).tolist()])

    def arrays(self, grid_n: int) -> tuple[Bool[np.ndarray, "2 row column"], Int[np.ndarray, "step 2"]]:
        """The connection list and the solution as maze-dataset keeps them."""
        connected = np.zeros((2, grid_n, grid_n), dtype=np.bool_)
        connected[tuple(zip(*self.passages, strict=True))] = True
        return connected, np.array(self.path)


class DepthFirst(NamedTuple):
    """A config of depth-first mazes: their size, and whether they have forks."""

    grid_n: int
    forks: bool


def as_depth_first(config: Mapping[str, Any]) -> DepthFirst | None:
    """The config of plain depth-first mazes, with or without forks; None for any other."""
    constructor, size = config.get("maze_ctor"), config.get("grid_n")
    how = config.get("maze_ctor_kwargs") or {}
    name = constructor.get("__name__") if isinstance(constructor, Mapping) else None
    if name != "gen_dfs" or not isinstance(how, Mapping) or set(how) - {"do_forks"} or config.get("endpoint_kwargs"):
        return None
    forks = how.get("do_forks", True)
    return DepthFirst(size, forks) if isinstance(forks, bool) and isinstance(size, int) and size > 1 else None


def draw(kind: DepthFirst, generators: Generators) -> TupleMaze:
    """One maze."""
    ways = _ways(kind.grid_n)
    row, column = generators.numpy.randint(0, np.full(2, kind.grid_n - 1), size=2).tolist()
    start = (row, column)
    came_from: dict[Cell, Cell] = {}
    passages, visited, stack = [], {start}, [start]
    while stack and len(visited) < len(ways):
        cell = stack.pop()
        free = [way for way in ways[cell] if way[0] not in visited]
        if not free:
            continue
        if kind.forks and len(free) > 1:
            stack.append(cell)
        following, passage = generators.python.choice(free)
        came_from[following] = cell
        passages.append(passage)
        visited.add(following)
        stack.append(following)
    # maze-dataset takes the cells of an unfinished maze in the order of such a set of them
    cells = list(ways) if len(visited) == len(ways) else list({cell for cell in visited})  # noqa: C416
    first, last = generators.numpy.choice(len(cells), size=2, replace=False).tolist()
    return TupleMaze(sorted(passages), _between(cells[first], cells[last], came_from))


@lru_cache(8)
def _ways(grid_n: int) -> Ways:
    """From each cell the cells beside it: right, left, below, above."""
    inside = range(grid_n)
    ways: Ways = {}
    for r in inside:
        for c in inside:
            beside = [((r, c + 1), (1, r, c)), ((r, c - 1), (1, r, c - 1))]
            beside += [((r + 1, c), (0, r, c)), ((r - 1, c), (0, r - 1, c))]
            ways[r, c] = [way for way in beside if way[0][0] in inside and way[0][1] in inside]
    return ways


def _between(origin: Cell, target: Cell, came_from: Mapping[Cell, Cell]) -> list[Cell]:
    """The only path between two cells of a tree: up from each to where the two ways meet."""
    up = _way_up(origin, came_from)
    on_the_way = {cell: i for i, cell in enumerate(up)}
    climbed = _way_up(target, came_from)
    down = list(takewhile(lambda cell: cell not in on_the_way, climbed))
    return up[: on_the_way[climbed[len(down)]] + 1] + down[::-1]


def _way_up(cell: Cell, came_from: Mapping[Cell, Cell]) -> list[Cell]:
    way = [cell]
    while way[-1] in came_from:
        way.append(came_from[way[-1]])
    return way


def order_like(tokenizer: Any) -> Callable[[TupleMaze, Generators], Order] | None:
    """The function that draws the order of passages as a tokenizer of maze-dataset does.

    None for a tokenizer that does not write passages and the path cell by cell, one token each.
    """
    if getattr(getattr(tokenizer, "tokenization_mode", None), "name", None) in ONE_TOKEN_A_CELL:
        return _by_numpys_generator
    is_modular = type(tokenizer).__name__ == "MazeTokenizerModular"
    if is_modular and own_generator() is not None and tokenizer.name == type(tokenizer)().name:
        return _by_its_own_generator
    return None


def walks_cell_by_cell(tokenizer: Any) -> bool:
    """Whether a tokenizer of maze-dataset writes every cell of a path, each as one token or as several."""
    if type(tokenizer).__name__ == "MazeTokenizerModular":
        steps, _, tokens = tokenizer.name.partition("step_tokenizers=(")
        return steps.endswith("StepSequence(Singles(), ") and "Coord()" in tokens
    return hasattr(tokenizer, "tokenization_mode")


def write(maze: TupleMaze, drawn: Order) -> list[str]:
    """A maze as tokens, its passages in an order and with directions that have been drawn."""
    tokens = [ADJLIST_START]
    for i, turned in drawn:
        direction, row, column = maze.passages[i]
        one = cell_token((row, column))
        other = cell_token((row, column + 1) if direction else (row + 1, column))
        tokens += [other, CONNECTOR, one, SEPARATOR] if turned else [one, CONNECTOR, other, SEPARATOR]
    path = [cell_token(cell) for cell in maze.path]
    tokens += [ADJLIST_END, ORIGIN_START, path[0], ORIGIN_END, TARGET_START, path[-1], TARGET_END]
    return [*tokens, PATH_START, *path, PATH_END]


def _by_numpys_generator(maze: TupleMaze, generators: Generators) -> Order:
    """As tokenizers without parts draw."""
    n = len(maze.passages)
    turned = generators.numpy.rand(n) > 0.5
    order = np.arange(n)
    generators.numpy.shuffle(order)
    return list(zip(order.tolist(), turned[order].tolist(), strict=True))


def _by_its_own_generator(maze: TupleMaze, generators: Generators) -> Order:
    """As tokenizers made of parts draw: rows and columns of the two cells are permuted apart, one of them in vain."""
    ends = np.tile(np.array([0, 1], dtype=np.int8)[:, None], (len(maze.passages), 1, 2))
    generators.own.permuted(ends, axis=1, out=ends)
    order = np.arange(len(maze.passages))
    generators.own.shuffle(order)
    first = ends[:, 0].tolist()
    return [(i, bool(first[i][maze.passages[i][0]])) for i in order.tolist()]
