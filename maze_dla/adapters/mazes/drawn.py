"""Mazes by hand: drawn as text, and with a passage opened or closed; the path is always solved anew."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool

from maze_dla.adapters.mazes.lattice import MazeText, cell_token
from maze_dla.adapters.mazes.library import solved_maze
from maze_dla.errors import DatasetError, InputError, whole_number
from maze_dla.geometry import Cell

WALL, ORIGIN, TARGET = "#", "S", "E"
DRAWN = frozenset("# SEX")  # walls, open, origin, target, and a path, which stands for open
Connections = Bool[np.ndarray, "2 row column"]


def is_drawn(given: Any) -> bool:
    """Whether this is a maze drawn as text."""
    return isinstance(given, str) and "\n" in given.strip() and WALL in given and "<" not in given


def drawn_maze(text: str) -> Any:
    """A `SolvedMaze` from a drawing as maze-dataset's `as_ascii` makes it, with its shortest path.

    A maze of n x n cells is drawn in 2n + 1 lines of 2n + 1 characters: cells stand at odd lines and columns, what is
    between two cells is "#" where there is a wall; S is the origin and E the target. "X", a path, is read as open.

    Raises:
        DatasetError: naming the line or the cell: a drawing of another shape or with other characters, a wall where a
            cell is, a border with a gap, not one S and one E, or no way from S to E.
    """
    grid = _characters(text)
    n = len(grid) // 2
    walls = grid == WALL
    if not all(side.all() for side in (walls[0], walls[-1], walls[:, 0], walls[:, -1])):
        raise DatasetError("a drawn maze has a border of '#' all around, this one has a gap")
    if (filled := walls[1::2, 1::2]).any():
        row, column = np.argwhere(filled)[0].tolist()
        raise DatasetError(f"a drawn maze: there is a wall where the cell {cell_token((row, column))} is")
    connections = np.zeros((2, n, n), dtype=np.bool_)
    connections[0, :-1] = ~walls[2:-1:2, 1::2]
    connections[1, :, :-1] = ~walls[1::2, 2:-1:2]
    return _solved(connections, _place(grid, ORIGIN), _place(grid, TARGET))


def with_passage(maze: Any, passage: Any, *, is_open: bool, grid_n: int) -> Any:
    """A `SolvedMaze` with one passage opened or closed, and its shortest path from the old origin to the old target.

    Args:
        maze: a `SolvedMaze`, a drawing, or a maze's tokens with its path.
        passage: two neighbouring cells, ((row, column), (row, column)).
        is_open: whether it will be open.
        grid_n: the least rows and columns of a maze given as tokens.

    Raises:
        InputError: no maze, no two neighbouring cells of it, or a passage that is as wanted already.
        DatasetError: no way is left from origin to target.
    """
    connections, origin, target = _read(maze, grid_n)
    a, b = sorted(_cells(passage, len(connections[0])))
    at = (int(a[0] == b[0]), *a)
    if bool(connections[at]) == is_open:
        state = "open" if is_open else "closed"
        raise InputError(f"the passage between {cell_token(a)} and {cell_token(b)} is {state} already")
    connections[at] = is_open
    return _solved(connections, origin, target)


def _characters(text: str) -> np.ndarray:
    """The drawing as an array of characters, [line, column]."""
    lines = [line.strip() for line in text.strip().split("\n")]
    n = len(lines)
    if n < 3 or n % 2 == 0 or any(len(line) != n for line in lines):
        widths = sorted({len(line) for line in lines})
        raise DatasetError(f"a drawn maze has 2n + 1 lines of 2n + 1 characters, got {n} of {widths} characters")
    if strange := set("".join(lines)) - DRAWN:
        line = next(i for i, row in enumerate(lines) if strange & set(row))
        raise DatasetError(
            f"a drawn maze, line {line}: it has {min(strange)!r}, expected one of '#', ' ', 'S', 'E', 'X'"
        )
    return np.array([list(line) for line in lines])


def _place(grid: np.ndarray, letter: str) -> Cell:
    """The cell of the origin or of the target."""
    found = np.argwhere(grid == letter).tolist()
    if len(found) != 1 or found[0][0] % 2 == 0 or found[0][1] % 2 == 0:
        raise DatasetError(f"a drawn maze has one {letter!r}, at the place of a cell, got it at {found}")
    return found[0][0] // 2, found[0][1] // 2


def _read(maze: Any, grid_n: int) -> tuple[Connections, Cell, Cell]:
    """The passages of a maze in any form, a copy of them, with its origin and target."""
    if is_drawn(maze):
        maze = drawn_maze(maze)
    if hasattr(maze, "connection_list") and getattr(maze, "solution", None) is not None:
        path = [(int(r), int(c)) for r, c in np.asarray(maze.solution)]
        return np.array(maze.connection_list, dtype=np.bool_), path[0], path[-1]
    tokens = maze.split() if isinstance(maze, str) else maze
    if not isinstance(tokens, Sequence) or not tokens or not all(isinstance(token, str) for token in tokens):
        raise InputError(f"maze is a SolvedMaze, a drawing or a maze's tokens with its path, got {maze!r:.60}")
    text = MazeText(tuple(tokens))
    if not text.path:
        raise InputError("these tokens have no path, so that origin and target are not known")
    size = max(grid_n, *(1 + max(cell) for edge in text.passages for cell in edge), *(1 + max(c) for c in text.path))
    connections = np.zeros((2, size, size), dtype=np.bool_)
    for a, b in text.passages:
        connections[(int(a[0] == b[0]), *a)] = True
    return connections, text.path[0], text.path[-1]


def _cells(passage: Any, size: int) -> tuple[Cell, Cell]:
    """Two neighbouring cells as a caller gives them."""
    takes = f"a passage is between two neighbouring cells of the {size}x{size} maze, such as ((0, 0), (0, 1))"
    try:
        (r, c), (to_r, to_c) = passage
    except (TypeError, ValueError):
        raise InputError(f"{takes}, got {passage!r:.60}") from None
    numbers = [whole_number(x) for x in (r, c, to_r, to_c)]
    if any(x is None or not 0 <= x < size for x in numbers):
        raise InputError(f"{takes}, got {passage!r:.60}")
    a, b, to_a, to_b = (int(x) for x in numbers if x is not None)
    if abs(a - to_a) + abs(b - to_b) != 1:
        raise InputError(f"{takes}, got {passage!r:.60}")
    return (a, b), (to_a, to_b)


def _solved(connections: Connections, origin: Cell, target: Cell) -> Any:
    """The maze with a shortest path; where there are several, always the same one.

    Raises:
        DatasetError: there is none.
    """
    before: dict[Cell, Cell] = {target: target}
    due = deque([target])
    while due and origin not in before:
        cell = due.popleft()
        for near in _neighbors(connections, cell):
            if near not in before:
                before[near] = cell
                due.append(near)
    if origin not in before:
        raise DatasetError(f"no way is left from {cell_token(origin)} to {cell_token(target)}")
    path = [origin]
    while path[-1] != target:
        path.append(before[path[-1]])
    return solved_maze(connections, np.array(path))


def _neighbors(connections: Connections, cell: Cell) -> list[Cell]:
    """The cells that a passage leads to."""
    row, column = cell
    found = []
    if row and connections[0, row - 1, column]:
        found.append((row - 1, column))
    if column and connections[1, row, column - 1]:
        found.append((row, column - 1))
    if connections[1, row, column]:
        found.append((row, column + 1))
    if connections[0, row, column]:
        found.append((row + 1, column))
    return found
