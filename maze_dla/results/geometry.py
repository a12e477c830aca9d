"""A maze as a picture needs it."""

from __future__ import annotations

from dataclasses import dataclass

Cell = tuple[int, int]
Passage = tuple[Cell, Cell]


@dataclass(frozen=True)
class MazeGeometry:
    """One maze and its prompt on the lattice; a cell is (row, column), row 0 being at the top.

    `connections` are the open passages between neighbouring cells, `path` the whole solution from `origin` to
    `target`. `token_cells` has an entry for each token of the prompt: the cell that it names, or None.
    `current` is the cell at the read position, None where it is not a cell. `token_passages`, where it is known, has
    an entry for each token too: the passage that a connector or separator of the adjacency list belongs to, or None.
    """

    rows: int
    columns: int
    connections: frozenset[Passage]
    path: tuple[Cell, ...]
    token_cells: tuple[Cell | None, ...]
    current: Cell | None
    token_passages: tuple[Passage | None, ...] = ()

    @property
    def origin(self) -> Cell:
        """Where the path begins."""
        return self.path[0]

    @property
    def target(self) -> Cell:
        """Where the path ends."""
        return self.path[-1]
