"""Saved data sets of mazes, checked against themselves before anything is made of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from maze_dla.adapters.mazes.lattice import walk_fault
from maze_dla.adapters.mazes.library import load_mazes
from maze_dla.errors import DatasetError, shortened, shown_number
from maze_dla.files.boundary import reading
from maze_dla.files.limits import megabytes, size_on_disk
from maze_dla.files.zanj_file import NEW_KEY, read_container
from maze_dla.geometry import Passage

CONNECTIONS, LENGTHS = "maze_connection_lists", "maze_solution_lengths"
MAZES_FLOOR, BYTES_OF_A_MAZE = 10_000, 4  # how many mazes are read: always, and for each so many bytes of the file
LONGEST_WALK = 4  # times the cells of the lattice
MAZE_ARRAYS = ("connection_list", "solution", "start_pos", "end_pos")
SOLUTIONS, JOINED, ENDS = "maze_solutions", "maze_solutions_concat", "maze_endpoints"


def read_dataset(path: str | Path) -> list[Any]:
    """The mazes of a saved `.zanj` data set, written by any version of maze-dataset.

    Raises:
        DatasetError: not a data set of mazes, one that maze-dataset refuses, one that does not hold as many mazes as
            it says, or whose parts contradict each other; the file and both are named.
    """
    with reading(path, DatasetError):  # whatever else a damaged file leads to
        return _mazes(read_container(path, DatasetError), path)


def _mazes(content: Mapping[str, Any], path: str | Path) -> list[Any]:
    config = content.get("cfg")
    if not isinstance(config, dict) or not ({"mazes", CONNECTIONS} & set(content)):
        raise DatasetError(f"{path}: no saved data set of mazes, it holds {shortened(', '.join(content))}")
    for size in ("n_mazes", "grid_n"):
        if type(config.get(size)) is not int:
            raise DatasetError(f"{path}: cfg.{size} is {config.get(size)!r:.60}, expected a whole number")
    name = CONNECTIONS if CONNECTIONS in content else "mazes"
    _check_mazes(name, content[name], path)
    if CONNECTIONS in content:
        _check_arrays(content, path)
    _check_number(len(content[name]), config["n_mazes"], path)
    with reading(path, DatasetError, "maze-dataset cannot load it"):  # which raises whatever a damaged field leads to
        mazes = load_mazes({**content, "mazes": [_arrays_of(maze) for maze in content.get("mazes", ())]})
    _check_number(len(mazes), config["n_mazes"], path)
    for i, maze in enumerate(mazes):
        if (fault := maze_fault(maze, config["grid_n"])) is not None:
            raise DatasetError(f"{path}: maze {i}, {fault}")
    return mazes


def _check_mazes(name: str, held: Any, path: str | Path) -> None:
    """Refuse something else than mazes, or more of them than are read of a file of this size.

    Raises:
        DatasetError: naming the part of the file or the maze, and the limit.
    """
    kind = "array" if name == CONNECTIONS else "list"
    if not isinstance(held, np.ndarray if kind == "array" else list) or getattr(held, "ndim", 1) == 0:
        raise DatasetError(f"{path}: {name} is no {kind}")
    if (n := len(held)) > MAZES_FLOOR and n > (most := max(MAZES_FLOOR, size_on_disk(path) // BYTES_OF_A_MAZE)):
        size = megabytes(size_on_disk(path))
        raise DatasetError(f"{path}: {n} mazes in a file of {size}, at most {most} are read of one")
    for i, maze in enumerate(held if kind == "list" else ()):
        written_as = str(maze.get(NEW_KEY)) if isinstance(maze, dict) else repr(maze)
        if not written_as.startswith("SolvedMaze("):  # others would be made too, with what their loaders do
            raise DatasetError(f"{path}: maze {i} is {written_as:.60}, expected a SolvedMaze")


def _arrays_of(maze: Mapping[str, Any]) -> dict[str, Any]:
    """A saved maze without what was noted of its generation."""
    held = {name: maze[name] for name in MAZE_ARRAYS if maze.get(name) is not None}
    for name, values in held.items():
        if isinstance(values, list) and not all(type(x) in (int, float, bool) for x in _leaves(values)):
            raise ValueError(f"the {name} of a maze is no array of numbers")  # of texts each would be as long as one
    arrays = {name: np.asarray(values) for name, values in held.items()}
    if strange := [name for name, array in arrays.items() if array.dtype.kind not in "biuf"]:
        raise ValueError(f"the {strange[0]} of a maze is no array of numbers")
    return {NEW_KEY: maze[NEW_KEY], **arrays, "generation_meta": None}


def _leaves(values: list[Any]) -> Iterator[Any]:
    """All that lists within lists hold."""
    left = [values]
    while left:
        for x in left.pop():
            if isinstance(x, list):
                left.append(x)
            else:
                yield x


def _check_number(held: int, n_mazes: int, path: str | Path) -> None:
    if held != n_mazes:
        raise DatasetError(f"{path}: it holds {held} mazes, cfg.n_mazes says {shown_number(n_mazes)}")


def _check_arrays(content: Mapping[str, Any], path: str | Path) -> None:
    """Refuse arrays of all mazes that do not belong together; maze-dataset would read as many as the shortest has.

    Raises:
        DatasetError: naming the file, the arrays and their sizes.
    """
    arrays = {name: content[name] for name in (CONNECTIONS, LENGTHS, SOLUTIONS, JOINED, ENDS) if name in content}
    if wrong := [name for name, array in arrays.items() if not isinstance(array, np.ndarray) or not array.ndim]:
        raise DatasetError(f"{path}: {wrong[0]} is no array")
    counts = {name: len(array) for name, array in arrays.items() if name != JOINED}
    lengths = arrays.get(LENGTHS)
    if lengths is None or not ({SOLUTIONS, JOINED} & set(arrays)):
        return  # maze-dataset names what is missing
    if lengths.ndim != 1 or lengths.dtype.kind not in "iu" or (lengths < 1).any():
        raise DatasetError(f"{path}: {LENGTHS} holds something else than lengths of 1 and more")
    if len(set(counts.values())) > 1:
        shown = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise DatasetError(f"{path}: the arrays hold different numbers of mazes: {shown}")
    if JOINED in arrays and int(lengths.sum()) != len(arrays[JOINED]):
        raise DatasetError(
            f"{path}: {LENGTHS} add up to {int(lengths.sum())}, {JOINED} has {len(arrays[JOINED])} cells"
        )
    if SOLUTIONS in arrays and (arrays[SOLUTIONS].ndim < 2 or int(lengths.max(initial=0)) > arrays[SOLUTIONS].shape[1]):
        raise DatasetError(
            f"{path}: {LENGTHS} go up to {lengths.max()}, {SOLUTIONS} has shape {arrays[SOLUTIONS].shape}"
        )
    if JOINED in arrays and ENDS in arrays:
        last = np.cumsum(lengths) - 1
        ends = np.stack([arrays[JOINED][last - lengths + 1], arrays[JOINED][last]], 1)
        if ends.shape != arrays[ENDS].shape or (ends != arrays[ENDS]).any():
            raise DatasetError(f"{path}: {ENDS} are not the first and last cells of {JOINED}")


def maze_fault(maze: Any, grid_n: int | None = None) -> str | None:
    """The first fault in the arrays of a solved maze of maze-dataset, on a lattice of `grid_n` where that is said."""
    try:
        connections, path = np.asarray(maze.connection_list), np.asarray(maze.solution)
    except Exception as problem:  # whatever an object that is no such maze leads to
        return f"which is no solved maze ({type(maze).__name__}: {shortened(problem)})"
    if connections.ndim != 3 or connections.shape != (2, size := grid_n or connections.shape[2], size):
        size = "n" if grid_n is None else shown_number(grid_n)
        return f"its connection_list has shape {connections.shape}, expected (2, {size}, {size})"
    if connections.dtype.kind != "b":
        return f"its connection_list is of {connections.dtype}, expected true and false"
    if path.ndim != 2 or path.shape[1] != 2 or not len(path) or path.dtype.kind not in "iu":
        return f"its path is of shape {path.shape} and {path.dtype}, expected whole numbers, (cells, 2)"
    if len(path) > LONGEST_WALK * size**2:
        return f"its path has {len(path)} cells, the lattice has {size**2}"
    if connections[0, -1].any() or connections[1, :, -1].any():
        return "its connection_list has a passage that leads out of the lattice"
    cells = [(r, c) for r, c in path.tolist()]
    if (outside := ((path < 0) | (path >= size)).any(1)).any():
        step = int(outside.argmax())
        return f"step {step}: the path is at {cells[step]}, outside a lattice of {connections.shape[1:]}"
    return walk_fault(cells, _passages_between(path.astype(np.int64), connections))


def _passages_between(path: np.ndarray, connections: np.ndarray) -> set[Passage]:
    """The open passages between neighbouring cells of a path that follow each other."""
    first, second = np.minimum(path[:-1], path[1:]), np.maximum(path[:-1], path[1:])
    near = np.abs(path[1:] - path[:-1]).sum(1) == 1
    first, second = first[near], second[near]
    is_open = connections[(first[:, 1] != second[:, 1]).astype(np.int64), first[:, 0], first[:, 1]]
    both = np.concatenate([first, second], 1)[is_open].tolist()
    return {((r, c), (to_r, to_c)) for r, c, to_r, to_c in both}
