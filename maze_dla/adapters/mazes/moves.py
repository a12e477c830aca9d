"""The moves that a maze's passages allow, and which of them lead to the target on a shortest path."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from maze_dla.adapters.mazes.lattice import CONNECTOR, TARGET_START
from maze_dla.adapters.mazes.vocabulary import MazeVocabulary
from maze_dla.engine.ids import NONE

Moves = Int[Tensor, "move 2"]


def allowed_moves(
    sequences: Int[Tensor, "sequence position"], lengths: Int[Tensor, " sequence"], vocabulary: MazeVocabulary
) -> Moves:
    """Every move that a passage allows, both ways and each once: from a cell of a maze to the next one.

    A cell of a maze is numbered by the sequence times the size of the vocabulary plus its token's id; moves are sorted.
    """
    n = len(vocabulary.tokens)
    connectors = sequences[:, 1:-1] == vocabulary.ids.get(CONNECTOR, -1)
    connectors &= torch.arange(2, sequences.shape[1]) < lengths[:, None]  # the cell after it is no padding
    row, left = torch.nonzero(connectors).T
    cells = torch.stack([sequences[row, left], sequences[row, left + 2]], 1)
    is_passage = (vocabulary.lattice_sizes[cells] > 0).all(1) & (cells[:, 0] != cells[:, 1])
    one_way = (row[:, None] * n + cells)[is_passage]
    both = torch.cat([one_way, one_way.flip(1)])
    once = torch.unique(both[:, 0] * n + both[:, 1] % n)
    start = once // n
    return torch.stack([start, start // n * n + once % n], 1)


def legal_moves(moves: Moves, current: Int[Tensor, " prompt"], n_tokens: int) -> Int[Tensor, "prompt k"]:
    """The ids of the cells that one step from each prompt's cell can reach, filled up with -1; none from -1."""
    starts = moves[:, 0].contiguous()
    first, end = torch.searchsorted(starts, current), torch.searchsorted(starts, current, right=True)
    found = end - first
    prompts = torch.repeat_interleave(torch.arange(len(current)), found)
    nth = torch.arange(len(prompts)) - (found.cumsum(0) - found)[prompts]
    legal = torch.full((len(current), int(found.max())), NONE)
    legal[prompts, nth] = moves[first[prompts] + nth, 1] % n_tokens
    return legal


def right_moves(
    legal: Int[Tensor, "prompt k"],
    current: Int[Tensor, " prompt"],
    path_tokens: Int[Tensor, " prompt"],
    moves: Moves,
    targets: Int[Tensor, " sequence"],
    n_tokens: int,
) -> Int[Tensor, "prompt answer"]:
    """The ids of the right next tokens of each prompt, the path's first, filled up with -1.

    These are all next cells that lie on a shortest path from the current cell to the target. Where the path's token is
    none of them, as at the end of a path, it is the only answer.
    """
    where_loops_are = _with_loops(moves)
    if len(where_loops_are) == 0:  # of a tree's cells one alone is nearer to the target
        return path_tokens[:, None]
    maze = (current // n_tokens * n_tokens)[:, None]
    numbered = torch.where(legal == NONE, NONE, maze + legal)
    steps = _steps_to(targets, where_loops_are, torch.cat([current[:, None], numbered], 1))
    nearer = steps[:, 1:] == steps[:, :1] - 1
    is_path = legal == path_tokens[:, None]
    more = torch.where(nearer & ~is_path & (nearer & is_path).any(1, keepdim=True), legal, NONE)
    more = more.sort(1, descending=True).values  # what fills up goes to the end
    return torch.cat([path_tokens[:, None], more[:, : int((more != NONE).sum(1).max())]], 1)


def targets_of(sequences: Int[Tensor, "sequence position"], vocabulary: MazeVocabulary) -> Int[Tensor, " sequence"]:
    """The cell after each maze's first `<TARGET_START>`, numbered as in moves; -1 where there is none."""
    found = vocabulary.cells_after(sequences, TARGET_START)
    return torch.where(found == NONE, NONE, torch.arange(len(sequences)) * len(vocabulary.tokens) + found)


def _with_loops(moves: Moves) -> Moves:
    """The moves in connected parts of a maze that have at least as many passages as cells: all others are trees."""
    from scipy.sparse.csgraph import connected_components

    if len(moves) == 0:
        return moves
    graph, _ = _graph(moves)
    n_parts, part_of = connected_components(graph, directed=False)
    n_cells, n_moves = np.bincount(part_of, minlength=n_parts), np.bincount(part_of[graph.row], minlength=n_parts)
    return moves[torch.from_numpy((n_moves // 2 >= n_cells)[part_of[graph.row]])]


def _steps_to(
    targets: Int[Tensor, " sequence"], moves: Moves, cells: Int[Tensor, "prompt k"]
) -> Float[Tensor, "prompt k"]:
    """The number of steps from each cell to its maze's target; NaN where no move leads there.

    Mazes are not connected with each other, so that the nearest of all targets is that of the cell's own maze.
    """
    from scipy.sparse.csgraph import dijkstra

    graph, known = _graph(moves)
    ends = np.flatnonzero(np.isin(known, targets.numpy()))
    steps = dijkstra(graph.tocsr(), indices=ends, unweighted=True, min_only=True) if len(ends) else known + np.inf
    place = np.searchsorted(known, cells.numpy()).clip(max=len(known) - 1)
    found = np.where((known[place] == cells.numpy()) & np.isfinite(steps[place]), steps[place], np.nan)
    return torch.from_numpy(found)


def _graph(moves: Moves):
    """The moves as scipy's sparse matrix, and the cells that its rows stand for, in order."""
    from scipy.sparse import coo_matrix

    cells, ends = np.unique(moves.numpy(), return_inverse=True)
    start, end = ends.reshape(-1, 2).T
    return coo_matrix((np.ones(len(start)), (start, end)), shape=(len(cells), len(cells))), cells
