"""Cells, passages and paths read from tokens."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise

from maze_dla.errors import PromptError
from maze_dla.geometry import CONNECTOR, SEPARATOR, Cell, MazeGeometry, Passage, cell_of, passage_of_each

ADJLIST_START, ADJLIST_END = "<ADJLIST_START>", "<ADJLIST_END>"
ORIGIN_START, ORIGIN_END = "<ORIGIN_START>", "<ORIGIN_END>"
TARGET_START, TARGET_END = "<TARGET_START>", "<TARGET_END>"
PATH_START, PATH_END = "<PATH_START>", "<PATH_END>"
PADDING = "<PADDING>"
EDGE = (CONNECTOR, SEPARATOR)

_REMEMBERED = 2**14  # cells, more than any vocabulary has


@lru_cache(_REMEMBERED)
def cell_token(cell: Cell) -> str:
    """The token that names a cell."""
    return f"({cell[0]},{cell[1]})"


def walk_fault(path: Sequence[Cell], passages: Collection[Passage] | None) -> str | None:
    """The first step of a path that no walk through the maze can take; None where each leads through a passage.

    Without passages (None) only jumps are found.
    """
    for step, (a, b) in enumerate(pairwise(path), start=1):
        jumps = abs(a[0] - b[0]) + abs(a[1] - b[1]) != 1
        if jumps or (passages is not None and (a, b) not in passages and (b, a) not in passages):
            why = "which are no neighbours on the lattice" if jumps else "between which the maze has no passage"
            return f"step {step}: the path goes from {cell_token(a)} to {cell_token(b)}, {why}"
    return None


@dataclass(frozen=True)
class MazeText:
    """A maze with its path as maze-dataset writes it: adjacency list, origin, target, path, one token a cell."""

    tokens: tuple[str, ...]

    def position(self, special: str) -> int:
        """Where a special token stands.

        Raises:
            PromptError: it is missing.
        """
        try:
            return self.tokens.index(special)
        except ValueError:
            raise PromptError(f"no {special} among the {len(self.tokens)} tokens ({_shown(self.tokens)})") from None

    @cached_property
    def passages(self) -> frozenset[Passage]:
        """The open passages of the adjacency list, each once, the smaller cell first."""
        return frozenset(passage for passage in passage_of_each(self.tokens) if passage is not None)

    @property
    def path(self) -> tuple[Cell, ...]:
        """The cells of the path, origin first."""
        start = self.position(PATH_START) + 1
        end = self.tokens.index(PATH_END) if PATH_END in self.tokens else len(self.tokens)
        return tuple(c for t in self.tokens[start:end] if (c := cell_of(t)) is not None)

    def cell_after(self, special: str) -> Cell | None:
        """The cell after the first of a special token; None where there is none."""
        found = self.tokens.index(special) + 1 if special in self.tokens else len(self.tokens)
        return cell_of(self.tokens[found]) if found < len(self.tokens) else None

    def fault(self) -> str | None:
        """The first thing in which the path contradicts the maze's text, with its step; None where all agrees.

        Checked is what is there: a text may lack the adjacency list, the target, or the end of the path.
        """
        at = dict(zip(self.tokens, range(len(self.tokens)), strict=True))

        def section(start: str, end: str) -> tuple[str, ...]:
            return self.tokens[at[start] + 1 : at[end]] if start in at and end in at else ()

        if PATH_START not in at or not (path := _cells(self.tokens[at[PATH_START] + 1 : at.get(PATH_END)])):
            return None
        origin, target = _cells(section(ORIGIN_START, ORIGIN_END)), _cells(section(TARGET_START, TARGET_END))
        if origin and path[0] not in origin:
            return f"step 0: the path begins at {cell_token(path[0])}, the origin is {cell_token(origin[0])}"
        if fault := walk_fault(path, _listed(section(ADJLIST_START, ADJLIST_END)) if ADJLIST_END in at else None):
            return fault
        if target and PATH_END in at and path[-1] not in target:
            last = f"step {len(path) - 1}: the path ends at {cell_token(path[-1])}"
            return f"{last}, the target is {cell_token(target[0])}"
        return None

    def current_cell(self, position: int) -> Cell | None:
        """The cell that a path has reached at a position; None where the token there is no cell of the path."""
        return cell_of(self.tokens[position]) if position > self.position(PATH_START) else None

    def geometry(self, length: int, grid_n: int, before: Sequence[str] = ()) -> MazeGeometry:
        """The maze as a picture needs it, for the prompt of the first `length` tokens.

        The first tokens of the prompt are those `before` the maze's own: padding, and the extra BOS.
        """
        prompt = self.tokens[: length - len(before)]
        cells = (*[None] * len(before), *(cell_of(t) for t in prompt))
        passages = (*[None] * len(before), *passage_of_each(prompt))
        size = max([grid_n, *(1 + max(c) for edge in self.passages for c in edge)])
        current = self.current_cell(len(prompt) - 1)
        tokens = (*before, *prompt)
        return MazeGeometry(size, size, self.passages, self.path, tokens, cells, current, passages)


def _cells(tokens: Sequence[str]) -> list[Cell]:
    return [cell for cell in map(cell_of, tokens) if cell is not None]


def _listed(tokens: Sequence[str]) -> set[Passage] | None:
    """The passages of an adjacency list that is written as `cell <--> cell ;` each; None for one written otherwise."""
    first, second = list(map(cell_of, tokens[::4])), list(map(cell_of, tokens[2::4]))
    if len(tokens) % 4 or set(zip(tokens[1::4], tokens[3::4], strict=True)) - {EDGE}:
        return None
    return None if None in first or None in second else set(zip(first, second, strict=True))  # pyright: ignore


def _shown(tokens: Sequence[str]) -> str:
    return " ".join(tokens) if len(tokens) <= 8 else f"{' '.join(tokens[:4])} ... {' '.join(tokens[-4:])}"
