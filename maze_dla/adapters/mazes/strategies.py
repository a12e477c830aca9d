"""Chance and plain strategies: how often each prompt about a maze is answered rightly without any skill."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from maze_dla.adapters.mazes.lattice import PATH_END, TARGET_START
from maze_dla.adapters.mazes.moves import Moves
from maze_dla.adapters.mazes.vocabulary import MazeVocabulary
from maze_dla.engine.ids import NONE, in_sets
from maze_dla.results.columns import Columns, groups_of

STRATEGIES = ("random legal move", "not going back", "towards the goal", "majority token")


def forward_moves(legal: Int[Tensor, "prompt k"], came_from: Int[Tensor, " prompt"]) -> Int[Tensor, "prompt k"]:
    """The legal moves of each prompt but that to the cell it came from, filled up with -1."""
    return torch.where(legal == came_from[:, None], NONE, legal).sort(1, descending=True).values


def chance_columns(
    sequences: Int[Tensor, "sequence position"],
    sequence_of: Int[Tensor, " prompt"],
    reads: Int[Tensor, " prompt"],
    steps: Int[Tensor, " prompt"],
    answers: Int[Tensor, "prompt answer"],
    legal: Int[Tensor, "prompt k"],
    moves: Moves,
    vocabulary: MazeVocabulary,
) -> Columns:
    """The columns candidates and chance, and three strategies: the probability that each is right.

    A prompt's `candidates` (their number) are, for a step of the path, the cells that a passage connects with the
    current one, and at the end of the path also `<PATH_END>`; for the origin, the cells of the adjacency list. Other
    prompts have none, nor have steps in a text without an adjacency list. `chance` is |right answers that are
    candidates| / |candidates|, NaN where there are fewer than two candidates.

    Strategies are for steps, NaN elsewhere; with a single candidate they take that:
    - "random legal move": any candidate, each as likely;
    - "not going back": the same without the cell that one came from, unless nothing else is left;
    - "towards the goal": the candidate nearest to the target in rows and columns, any of them where there are several;
      at the target `<PATH_END>`. NaN where the text names no target.
    """
    candidates = _with_path_end(legal, answers, steps, vocabulary)
    held, right = candidates != NONE, in_sets(candidates, answers)
    here, before = (sequences[sequence_of, position] for position in (reads, reads - 1))
    onward = held & (candidates != before[:, None])
    goal = vocabulary.cells_after(sequences, TARGET_START)[sequence_of]
    nearest = _nearest(candidates, here, goal, vocabulary)
    anywhere = _probability(right, held)
    cells, is_listed = _listed_cells(moves, sequences, sequence_of, answers, vocabulary)
    n_candidates = torch.where(steps == 0, cells, held.sum(1))
    chance = torch.where(steps == 0, is_listed.double() / cells, anywhere)
    return {
        "candidates": n_candidates,
        "chance": torch.where(n_candidates > 1, chance, torch.nan),
        "random legal move": anywhere,
        "not going back": _probability(right, torch.where(onward.any(1, keepdim=True), onward, held)),
        "towards the goal": torch.where(goal == NONE, torch.nan, _probability(right, nearest)),
    }


def majority_column(
    answers: Int[Tensor, "prompt answer"], task_of: Int[Tensor, " prompt"], mazes: tuple[str, ...]
) -> Columns:
    """The column "majority token": whether the most common target of the same task in the other mazes is right.

    Of several that are as common each counts in part. NaN where there is no other maze.
    """
    found = torch.full((len(answers),), torch.nan, dtype=torch.float64)
    maze_of = groups_of(mazes)
    for task in task_of.unique():
        own = torch.nonzero(task_of == task).flatten()
        _, maze = maze_of[own].unique(return_inverse=True)
        tokens, target = answers[own, 0].unique(return_inverse=True)
        n_mazes = int(maze.max()) + 1
        if n_mazes < 2:
            continue
        counts = torch.zeros(n_mazes, len(tokens), dtype=torch.long)
        counts.index_put_((maze, target), torch.ones_like(maze), accumulate=True)
        elsewhere = counts.sum(0) - counts
        most = elsewhere == elsewhere.amax(1, keepdim=True)
        is_right = torch.stack([(answers[own] == token).any(1) for token in tokens], 1)
        found[own] = _probability(is_right, most[maze])
    return {"majority token": found}


def _with_path_end(
    legal: Int[Tensor, "prompt k"],
    answers: Int[Tensor, "prompt answer"],
    steps: Int[Tensor, " prompt"],
    vocabulary: MazeVocabulary,
) -> Int[Tensor, "prompt candidate"]:
    """The legal moves, and `<PATH_END>` where it follows and there are any."""
    end = vocabulary.ids.get(PATH_END, NONE)
    at_end = (answers[:, 0] == end) & (steps > 0) & (legal != NONE).any(1)
    return torch.cat([legal, torch.where(at_end, end, NONE)[:, None]], 1)


def _probability(right: Bool[Tensor, "prompt k"], taken: Bool[Tensor, "prompt k"]) -> Float[Tensor, " prompt"]:
    """Of right being hit by any of what is taken, each as likely; NaN where nothing is."""
    return (right & taken).sum(1).double() / taken.sum(1)


def _nearest(
    candidates: Int[Tensor, "prompt candidate"],
    here: Int[Tensor, " prompt"],
    goal: Int[Tensor, " prompt"],
    vocabulary: MazeVocabulary,
) -> Bool[Tensor, "prompt candidate"]:
    """The candidates that are nearest to the goal by rows and columns; `<PATH_END>` stays where one is."""
    at, none = vocabulary.coordinates, candidates == NONE
    ends = torch.where(candidates == vocabulary.ids.get(PATH_END, NONE), here[:, None], candidates)
    apart = (at[ends.clamp_min(0)] - at[goal.clamp_min(0)][:, None]).abs().sum(2)
    apart = apart.masked_fill(none, torch.iinfo(apart.dtype).max)
    return ~none & (apart == apart.amin(1, keepdim=True))


def _listed_cells(
    moves: Moves,
    sequences: Int[Tensor, "sequence position"],
    sequence_of: Int[Tensor, " prompt"],
    answers: Int[Tensor, "prompt answer"],
    vocabulary: MazeVocabulary,
) -> tuple[Int[Tensor, " prompt"], Bool[Tensor, " prompt"]]:
    """How many cells each prompt's adjacency list has, and whether its target is one of them."""
    n = len(vocabulary.tokens)
    cells = moves[:, 0].unique()
    counts = torch.bincount(cells // n, minlength=len(sequences))
    return counts[sequence_of], torch.isin(sequence_of * n + answers[:, 0], cells)
