"""A maze as a picture needs it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, runtime_checkable

from maze_dla.errors import InputError

Cell = tuple[int, int]
Passage = tuple[Cell, Cell]
CONNECTOR, SEPARATOR = "<-->", ";"

_CELL = re.compile(r"\(([0-9]{1,3}),([0-9]{1,3})\)")  # no lattice has more rows: its arrays grow with their square
_REMEMBERED = 2**14  # tokens, more than any vocabulary has


@lru_cache(_REMEMBERED)
def cell_of(token: str) -> Cell | None:
    """The cell that a token like `(3,4)` names, (row, column); None for any other token."""
    found = _CELL.fullmatch(token)
    return (int(found[1]), int(found[2])) if found else None


def passage_of_each(tokens: Sequence[str]) -> list[Passage | None]:
    """For each `<-->` between two cells, and for the `;` after them, the passage that it belongs to."""
    found: list[Passage | None] = [None] * len(tokens)
    for i, token in enumerate(tokens[1:-1], start=1):
        if token != CONNECTOR:
            continue
        a, b = cell_of(tokens[i - 1]), cell_of(tokens[i + 1])
        if a is not None and b is not None:
            found[i] = (min(a, b), max(a, b))
            if tokens[i + 2 : i + 3] == (SEPARATOR,):
                found[i + 2] = found[i]
    return found


@dataclass(frozen=True)
class MazeGeometry:
    """One maze and its prompt on the lattice; a cell is (row, column), row 0 being at the top.

    `connections` are the open passages between neighbouring cells, `path` the whole solution from `origin` to
    `target`. `tokens` are those of the prompt, so that a picture can tell it from other prompts. `token_cells` has an
    entry for each of them: the cell that it names, or None.
    `current` is the cell at the read position, None where it is not a cell. `token_passages`, where it is known, has
    an entry for each token too: the passage that a connector or separator of the adjacency list belongs to, or None.
    """

    rows: int
    columns: int
    connections: frozenset[Passage]
    path: tuple[Cell, ...]
    tokens: tuple[str, ...]
    token_cells: tuple[Cell | None, ...]
    current: Cell | None
    token_passages: tuple[Passage | None, ...] = ()

    def __post_init__(self) -> None:
        for name, least in (("token_cells", 1), ("token_passages", 0)):
            given = getattr(self, name)
            if len(given) != len(self.tokens) and (given or least):
                raise InputError(f"{name} has {len(given)} entries, expected one for each of {len(self.tokens)} tokens")

    @property
    def origin(self) -> Cell:
        """Where the path begins."""
        return self.path[0]

    @property
    def target(self) -> Cell:
        """Where the path ends."""
        return self.path[-1]


@runtime_checkable
class Mazes(Protocol):
    """Prompts that know the mazes that they are about, such as the batch of `maze.prompts`."""

    @property
    def labels(self) -> tuple[tuple[str, ...], ...]:
        """The tokens of each prompt as strings."""
        ...

    def geometry(self, prompt: int) -> MazeGeometry | None:
        """A prompt's maze as a picture needs it; None where it is about none."""
        ...
