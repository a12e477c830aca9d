"""Saved data sets of mazes, checked against themselves before anything is made of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from maze_dla.adapters.mazes.lattice import walk_fault
from maze_dla.adapters.mazes.library import load_mazes
from maze_dla.errors import DatasetError
from maze_dla.files.zanj_file import read_container
from maze_dla.geometry import Passage

CONNECTIONS, LENGTHS = "maze_connection_lists", "maze_solution_lengths"
SOLUTIONS, JOINED, ENDS = "maze_solutions", "maze_solutions_concat", "maze_endpoints"


def read_dataset(path: str | Path) -> list[Any]:
    """The mazes of a saved `.zanj` data set, written by any version of maze-dataset.

    Raises:
        DatasetError: not a data set of mazes, one that maze-dataset refuses, one that does not hold as many mazes as
            it says, or whose parts contradict each other; the file and both are named.
    """
    content = read_container(path, DatasetError)
    config = content.get("cfg")
    if not isinstance(config, dict) or not ({"mazes", CONNECTIONS} & set(content)):
        raise DatasetError(f"{path}: no saved data set of mazes, it holds {', '.join(content)}")
    for size in ("n_mazes", "grid_n"):
        if type(config.get(size)) is not int:
            raise DatasetError(f"{path}: cfg.{size} is {config.get(size)!r}, expected a whole number")
    if CONNECTIONS in content:
        _check_arrays(content, path)
    try:
        mazes = load_mazes(content)
    except Exception as problem:  # maze-dataset raises whatever a damaged field leads to
        raise DatasetError(f"{path}: maze-dataset cannot load it ({type(problem).__name__}: {problem})") from problem
    if len(mazes) != config["n_mazes"]:
        raise DatasetError(f"{path}: it holds {len(mazes)} mazes, cfg.n_mazes says {config['n_mazes']}")
    for i, maze in enumerate(mazes):
        if (fault := maze_fault(maze, config["grid_n"])) is not None:
            raise DatasetError(f"{path}: maze {i}, {fault}")
    return mazes


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
    connections, path = np.asarray(maze.connection_list), np.asarray(maze.solution)
    size = connections.shape[-1] if grid_n is None else grid_n
    if connections.shape != (2, size, size) and (grid_n is not None or connections.ndim != 3 or len(connections) != 2):
        return f"its connection_list has shape {connections.shape}, expected (2, {size}, {size})"
    if connections.dtype.kind != "b":
        return f"its connection_list is of {connections.dtype}, expected true and false"
    if path.ndim != 2 or path.shape[1] != 2 or not len(path) or path.dtype.kind not in "iu":
        return f"its path is of shape {path.shape} and {path.dtype}, expected whole numbers, (cells, 2)"
    if connections[0, -1].any() or connections[1, :, -1].any():
        return "its connection_list has a passage that leads out of the lattice"
    cells = [(r, c) for r, c in path.tolist()]
    if (outside := ((path < 0) | (path >= connections.shape[1:])).any(1)).any():
        step = int(outside.argmax())
        return f"step {step}: the path is at {cells[step]}, outside a lattice of {connections.shape[1:]}"
    return walk_fault(cells, _passages(connections))


def _passages(connections: np.ndarray) -> set[Passage]:
    found = np.argwhere(connections).tolist()
    return {((r, c), (r, c + 1) if d else (r + 1, c)) for d, r, c in found}
