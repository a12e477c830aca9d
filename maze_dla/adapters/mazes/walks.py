"""Walks through a maze: which steps are right, what is wrong with the others, and how good a walk is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from maze_dla.adapters.mazes.graph import MazeGraph
from maze_dla.adapters.mazes.lattice import PATH_END, TARGET_START, MazeText, cell_of, cell_token, walk_fault
from maze_dla.errors import PromptError
from maze_dla.geometry import Cell, Passage
from maze_dla.results.rollout import Score

NAN = float("nan")


@dataclass(frozen=True, eq=False)
class WalkedMaze:
    """A maze in which walks are judged, by its open passages and its solution."""

    passages: frozenset[Passage]
    solution: tuple[Cell, ...]

    @classmethod
    def of(cls, text: MazeText, solution: tuple[Cell, ...], what: str) -> WalkedMaze:
        """The maze of a text; a solution that does not come to the target of the text goes on by a shortest path.

        Raises:
            PromptError: a text from which no maze with a solution can be read, with `what` it belongs to.
        """
        passages = text.passages
        if solution and (target := text.cell_after(TARGET_START)) not in (None, solution[-1]):
            rest = _shortest(MazeGraph(passages), solution[-1], target)
            solution = solution[:-1] + rest if rest else ()
        if not solution or not passages or walk_fault(solution, passages) is not None:
            raise PromptError(
                f"{what}: no solution that leads through the passages of its adjacency list, so that no walk can be "
                "judged; expected a text with one token for each cell"
            )
        return cls(passages, solution)

    @property
    def origin(self) -> Cell:
        """The first cell of the solution."""
        return self.solution[0]

    @property
    def target(self) -> Cell:
        """The last cell of the solution."""
        return self.solution[-1]

    @cached_property
    def graph(self) -> MazeGraph:
        """Its cells and the ways between them."""
        return MazeGraph(self.passages)

    @cached_property
    def steps_left(self) -> dict[Cell, int]:
        """The number of steps to the target from each cell that a way leads from."""
        return self.graph.steps_from(self.target)

    def right_after(self, walk: Sequence[str]) -> set[str]:
        """The right tokens after those of a walk: next cells on shortest paths from where it stands.

        `<PATH_END>` at the target. A walk that has followed the solution so far may go on with it, should that not be
        the shortest path. None after a token that is no cell, or from a cell that no way leads to the target from.
        """
        if not walk:
            return {cell_token(self.origin)}
        here = cell_of(walk[-1])
        if here is None or here not in self.steps_left:
            return set()
        right = (
            {PATH_END} if here == self.target else set(map(cell_token, self.graph.next_cells(here, self.steps_left)))
        )
        so_far = len(walk)
        if so_far < len(self.solution) and list(walk) == list(map(cell_token, self.solution[:so_far])):
            right = right | {cell_token(self.solution[so_far])}
        return right

    def fault(self, walk: Sequence[str], token: str) -> str:
        """The fault of a token after those of a walk, one of `FAULTS`; empty where it is right."""
        if token in self.right_after(walk):
            return ""
        if token == PATH_END:
            return "ended early"
        if (cell := cell_of(token)) is None:
            return "not a cell"
        if not walk:
            return "not the origin"
        if (here := cell_of(walk[-1])) is None:
            return "after no cell"
        return self._fault_of_step(here, cell, cell_of(walk[-2]) if len(walk) > 1 else None)

    def _fault_of_step(self, here: Cell, cell: Cell, before: Cell | None) -> str:
        """The fault of a step that is not right."""
        if here == self.target:
            return "past the target"
        if cell == here:
            return "stayed"
        if not adjacent(here, cell):
            return "jumped"
        if cell not in self.graph.beside.get(here, ()):
            return "through a wall"
        if cell == before:
            return "turned back"
        return "away from the target" if here in self.steps_left else "cut off from the target"

    def score(self, cells: Sequence[Cell], *, finished: bool, n_other: int = 0) -> dict[Score, float]:
        """How good a walk is, by the cells that it names; `n_other` other tokens stand among them."""
        steps = list(pairwise(cells))
        n_connected = sum(b in self.graph.beside.get(a, ()) for a, b in steps)
        is_exact = tuple(cells) == self.solution
        is_valid = bool(cells) and cells[0] == self.origin and n_connected == len(steps)
        is_reached = bool(cells) and cells[-1] == self.target
        is_shortest = is_valid and is_reached and len(steps) == self.steps_left[self.origin]
        shared = set(cells) & set(self.solution)
        return {
            "solved": finished and not n_other and (is_exact or is_shortest),
            "exact": is_exact,
            "shortest": is_shortest,
            "valid": is_valid,
            "reached": is_reached,
            "finished": finished,
            "adjacent": sum(adjacent(a, b) for a, b in steps) / len(steps) if steps else NAN,
            "connected": n_connected / len(steps) if steps else NAN,
            "overlap": len(shared) / len(set(self.solution)),
            "end_distance": self.steps_left.get(cells[-1], NAN) if cells else NAN,
            "n_steps": len(steps),
            "other_tokens": n_other,
        }


def _shortest(graph: MazeGraph, start: Cell, target: Cell | None) -> tuple[Cell, ...]:
    """The first of the shortest paths between two cells, both in it; nothing where none leads there."""
    if target is None or start not in (left := graph.steps_from(target)):
        return ()
    path = [start]
    while path[-1] != target:
        path.append(min(graph.next_cells(path[-1], left)))
    return tuple(path)


def adjacent(a: Cell, b: Cell) -> bool:
    """Whether two cells are neighbours on the lattice."""
    return abs(a[0] - b[0]) + abs(a[1] - b[1]) == 1
