"""Attention to the cells of a maze by their distance from the query's cell, in steps through its passages."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import fields
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from maze_dla.adapters.mazes.lattice import ORIGIN_START, TARGET_START, cell_of
from maze_dla.adapters.mazes.prompts import MazePromptBatch
from maze_dla.errors import InputError, PromptError, check_kind
from maze_dla.geometry import Cell, Passage
from maze_dla.results.attention import AttentionResult
from maze_dla.results.base import PromptResult
from maze_dla.results.distances import DistanceResult
from maze_dla.results.torch_defaults import torch_defaults

Query = Literal["read", "origin", "target"]
Measure = Literal["maze", "lattice"]
FEWEST = 3  # cells of a correlation
PLACES = 6  # decimals of attention, beyond which it is rounding


@torch_defaults()
def attention_by_distance(
    result: AttentionResult, batch: MazePromptBatch, query: Query = "read", distance: Measure = "maze"
) -> DistanceResult:
    """Attention against distance, as `MazeModel.attention_by_distance` gives it.

    Raises:
        InputError: something else than patterns and the prompts that they are of, or an unknown query.
        PromptError: a prompt whose query names no cell.
    """
    check_kind(result, AttentionResult, "result is that of attention")
    check_kind(batch, MazePromptBatch, "batch is that of maze.prompts()")
    if result.prompt_tokens != batch.labels:
        raise InputError(
            f"the batch has other prompts than the result: {len(batch)} and {len(result)}; give the one it was made of"
        )
    if query not in get_args(Query):
        raise InputError(f"query is one of {', '.join(map(repr, get_args(Query)))}, got {query!r:.60}")
    if distance not in get_args(Measure):
        raise InputError(f"distance is 'maze' or 'lattice', got {distance!r:.60}")
    rows = [_of_prompt(result, batch, i, query, distance) for i in range(len(result))]
    longest = max(len(by_distance) for _, by_distance in rows)
    attention = torch.full((len(rows), len(result.head_labels), longest), torch.nan, dtype=torch.float64)
    for i, (_, by_distance) in enumerate(rows):
        attention[i, :, : len(by_distance)] = by_distance.T
    own = {f.name: getattr(result, f.name) for f in fields(PromptResult)}
    own["info"] = {**result.info, "query": query, "distance": distance}
    correlation = torch.stack([correlation for correlation, _ in rows])
    return DistanceResult(**own, correlation=correlation, attention=attention, head_labels=result.head_labels)


def _of_prompt(
    result: AttentionResult, batch: MazePromptBatch, prompt: int, query: Query, measure: Measure
) -> tuple[Float[Tensor, " head"], Float[Tensor, "distance head"]]:
    """The correlation of each head, and the mean attention at each distance, NaN where there is no cell."""
    tokens = batch.labels[prompt]
    position = _position(tokens, prompt, query)
    start = cell_of(tokens[position])
    if start is None:
        raise PromptError(f"prompt {prompt}: its query {tokens[position]!r} is no cell, so no cell has a distance")
    named: dict[Cell, list[int]] = defaultdict(list)
    for i, token in enumerate(tokens[:position]):
        if (cell := cell_of(token)) is not None:
            named[cell].append(i)
    steps = steps_from(start, batch.text(prompt).passages)
    reached = [cell for cell in named if cell in steps]
    on_lattice = [abs(cell[0] - start[0]) + abs(cell[1] - start[1]) for cell in reached]
    in_maze = [steps[cell] for cell in reached]
    distance = torch.tensor(in_maze if measure == "maze" else on_lattice, dtype=torch.long)
    row = result.patterns[prompt, :, position].double()
    attention = (
        torch.stack([row[:, named[cell]].mean(1) for cell in reached]) if reached else row.new_zeros(0, len(row))
    )
    at = [distance == d for d in range(int(distance.max()) + 1 if reached else 1)]
    by_distance = torch.stack([attention[here].mean(0) for here in at])  # NaN of none
    others = distance > 0
    return _rank_correlation(distance[others], attention[others]), by_distance


def _position(tokens: tuple[str, ...], prompt: int, query: Query) -> int:
    if query == "read":
        return len(tokens) - 1
    start = {"origin": ORIGIN_START, "target": TARGET_START}[query]
    if start not in tokens[:-1]:
        raise PromptError(f"prompt {prompt} has no {start}, which the {query} follows")
    return tokens.index(start) + 1


def steps_from(start: Cell, passages: frozenset[Passage]) -> dict[Cell, int]:
    """The number of steps from a cell to every cell that passages lead to, itself included."""
    beside: dict[Cell, list[Cell]] = defaultdict(list)
    for a, b in passages:
        beside[a].append(b)
        beside[b].append(a)
    found, reached = {start: 0}, [start]
    for cell in reached:
        for following in beside[cell]:
            if following not in found:
                found[following] = found[cell] + 1
                reached.append(following)
    return found


def _rank_correlation(distance: Int[Tensor, " cell"], attention: Float[Tensor, "cell head"]) -> Float[Tensor, " head"]:
    """Spearman's correlation for each head; NaN with too few cells, or where all have the same."""
    from scipy.stats import rankdata

    if len(distance) < FEWEST:
        return attention.new_full((attention.shape[1],), torch.nan)
    ranks: Any = rankdata(np.round(attention.numpy(), PLACES), axis=0)
    of_attention, of_distance = torch.from_numpy(ranks), torch.from_numpy(rankdata(distance.numpy()))
    of_attention, of_distance = of_attention - of_attention.mean(0), of_distance - of_distance.mean()
    norms = of_attention.square().sum(0).sqrt() * of_distance.square().sum().sqrt()
    return (of_distance @ of_attention) / torch.where(norms > 0, norms, torch.nan)
