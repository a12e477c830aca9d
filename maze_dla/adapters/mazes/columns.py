"""Facts of each prompt about a maze, for the table of its results."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from maze_dla.adapters.mazes.lattice import ORIGIN_START, PADDING, PATH_START, TARGET_START
from maze_dla.adapters.mazes.vocabulary import MazeVocabulary
from maze_dla.engine.ids import NONE
from maze_dla.results.columns import Columns, name_of


def maze_columns(
    sequences: Int[Tensor, "sequence position"],
    lengths: Int[Tensor, " sequence"],
    sequence_of: Int[Tensor, " prompt"],
    steps: Int[Tensor, " prompt"],
    vocabulary: MazeVocabulary,
) -> Columns:
    """The columns origin_cell, target_cell, path_length, distance and manhattan; a cell that is not there is empty.

    `path_length` is the number of steps of the whole path, `distance` how many of them are left from the cell at the
    read position, or from the origin where that is no cell of the path; `manhattan` the rows and columns from there to
    the target, -1 where the text names none.
    """
    path, on_path = _paths(sequences, lengths, vocabulary)
    n_steps = (on_path.sum(1) - 1).clamp_min(0)[sequence_of]
    gone = (steps - 1).clamp_min(0).minimum(n_steps)
    origin, goal = (vocabulary.cells_after(sequences, special) for special in (ORIGIN_START, TARGET_START))
    first_cell = torch.where(on_path.any(1), sequences.gather(1, path[:, :1])[:, 0], NONE)
    origin = torch.where(origin == NONE, first_cell, origin)[sequence_of]
    goal = goal[sequence_of]
    here = sequences[sequence_of, path[sequence_of, gone]]
    cells = vocabulary.coordinates
    apart = (cells[here] - cells[goal.clamp_min(0)]).abs().sum(1)
    return {
        "origin_cell": _named(origin, vocabulary),
        "target_cell": _named(goal, vocabulary),
        "path_length": n_steps,
        "distance": n_steps - gone,
        "manhattan": torch.where((goal == NONE) | (cells[here] < 0).any(1), NONE, apart),
    }


def maze_name(tokens: Sequence[str]) -> str:
    """The name of the maze that a text is about, without its path: the same with any BOS or padding in front."""
    text = [token for token in tokens if token != PADDING]
    if PATH_START in text:
        text = text[: text.index(PATH_START)]
    while text[:2] == text[:1] * 2:  # the extra BOS repeats the first token
        text = text[1:]
    return name_of(text)


def _paths(
    sequences: Int[Tensor, "sequence position"], lengths: Int[Tensor, " sequence"], vocabulary: MazeVocabulary
) -> tuple[Int[Tensor, "sequence cell"], Tensor]:
    """The positions of the cells of each maze's path, in order and then 0, and where there is one."""
    positions = torch.arange(sequences.shape[1])
    starts = sequences == vocabulary.ids.get(PATH_START, NONE)
    after = starts.cumsum(1) > 0
    is_cell = after & (vocabulary.lattice_sizes[sequences] > 0) & (positions < lengths[:, None])
    width = max(int(is_cell.sum(1).max()), 1)
    ordered = torch.where(is_cell, positions, sequences.shape[1]).sort(1).values[:, :width]
    there = ordered < sequences.shape[1]
    return torch.where(there, ordered, 0), there


def _named(ids: Int[Tensor, " prompt"], vocabulary: MazeVocabulary) -> tuple[str, ...]:
    return tuple("" if i == NONE else vocabulary.tokens[i] for i in ids.tolist())
