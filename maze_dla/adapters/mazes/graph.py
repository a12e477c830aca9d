"""A maze as a graph: its cells, the ways between them, and the shortest paths through it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

import numpy as np

from maze_dla.geometry import Cell, Passage


class MazeGraph:
    """The cells that passages connect, each with the cells beside it, in order."""

    def __init__(self, passages: Iterable[Passage]) -> None:
        self.passages = frozenset((min(passage), max(passage)) for passage in passages)
        self.beside: dict[Cell, list[Cell]] = {}
        for a, b in sorted(self.passages):
            self.beside.setdefault(a, []).append(b)
            self.beside.setdefault(b, []).append(a)

    def steps_from(self, start: Cell) -> dict[Cell, int]:
        """The number of steps from a cell to each one that can be reached, itself included."""
        steps, reached = {start: 0}, [start]
        for cell in reached:
            for following in self.beside.get(cell, ()):
                if following not in steps:
                    steps[following] = steps[cell] + 1
                    reached.append(following)
        return steps

    def next_cells(self, cell: Cell, steps: dict[Cell, int]) -> set[Cell]:
        """The cells beside one from which it is one step less, by the number of steps from each cell."""
        return {n for n in self.beside.get(cell, ()) if cell in steps and steps.get(n) == steps[cell] - 1}

    def shortest_path(self, start: Cell, target: Cell, rng: np.random.Generator) -> list[Cell]:
        """A shortest path, drawn step by step where there are several; both ends are in it."""
        steps, path = self.steps_from(target), [start]
        while path[-1] != target:
            ways = sorted(self.next_cells(path[-1], steps))
            path.append(ways[int(rng.integers(len(ways)))])
        return path

    @cached_property
    def part_of(self) -> dict[Cell, int]:
        """The number of the connected part that each cell belongs to."""
        parts: dict[Cell, int] = {}
        for number, cell in enumerate(self.beside):
            if cell not in parts:
                parts |= dict.fromkeys(self.steps_from(cell), number)
        return parts

    @cached_property
    def is_forest(self) -> bool:
        """Whether there is one path at most between any two cells."""
        return len(self.passages) == len(self.beside) - len(set(self.part_of.values()))

    @cached_property
    def has_forks(self) -> bool:
        """Whether any cell has more than two ways out."""
        return any(len(ways) > 2 for ways in self.beside.values())

    def walls(self) -> list[Passage]:
        """Pairs of cells of one part that are neighbours on the lattice and have no passage between them, in order."""
        found = []
        for r, c in sorted(self.beside):
            for other in ((r, c + 1), (r + 1, c)):
                known = other in self.beside and self.part_of[other] == self.part_of[r, c]
                if known and ((r, c), other) not in self.passages:
                    found.append(((r, c), other))
        return found

    def moved(self, removed: Passage, added: Passage) -> MazeGraph:
        """The graph with another passage in place of one of its own."""
        return MazeGraph((self.passages - {removed}) | {added})

    def connects_as(self, other: MazeGraph) -> bool:
        """Whether the same cells are connected with each other, and no forks are new where the other has none."""
        if self.has_forks and not other.has_forks:
            return False
        return self.beside.keys() == other.beside.keys() and _groups(self) == _groups(other)


def _groups(graph: MazeGraph) -> set[frozenset[Cell]]:
    groups: dict[int, set[Cell]] = {}
    for cell, number in graph.part_of.items():
        groups.setdefault(number, set()).add(cell)
    return set(map(frozenset, groups.values()))
