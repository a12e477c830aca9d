"""Relations between the tokens of a maze's text: which keys a head may be made to look at, for each query."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from maze_dla.adapters.mazes.lattice import (
    ADJLIST_END,
    CONNECTOR,
    EDGE,
    ORIGIN_START,
    PADDING,
    SEPARATOR,
    TARGET_START,
    cell_of,
    passage_of_each,
)
from maze_dla.adapters.mazes.prompts import PARTS, MazePromptBatch
from maze_dla.engine.attention.relations import Relation, Relations, Tokens
from maze_dla.errors import check_kind
from maze_dla.geometry import Cell, Passage
from maze_dla.results.torch_defaults import torch_defaults

NEVER = 1 << 30  # a position that no text has
Mask = Bool[np.ndarray, "query key"]


@torch_defaults()
def maze_relations(batch: MazePromptBatch) -> Relations:
    """The relations of `RELATIONS` for every prompt, as `MazeModel.relations` gives them.

    Raises:
        InputError: something else than prompts about mazes.
    """
    check_kind(batch, MazePromptBatch, "batch is that of maze.prompts()")
    sections = {tokens: _sections(tokens) for tokens in dict.fromkeys(batch.sequence_labels)}
    named: dict[str, Relation] = {name: _relation(of_text) for name, of_text in RELATIONS.items()}
    return Relations.of(batch, named, sections)


def _relation(of_text: Callable[[_Text], Mask]) -> Relation:
    def relation(tokens: Tokens) -> Tensor:
        return torch.from_numpy(of_text(_text(tokens)))

    return relation


def _sections(tokens: Tokens) -> Int[Tensor, " position"]:
    """The part of a maze's text that each token stands in; padding in front is a part of its own."""
    starts = {token: i for i, token in enumerate(PARTS.values())}
    found, part = [], 0
    for token in tokens:
        part = starts.get(token, part)
        found.append(-1 if token == PADDING else part)
    return torch.tensor(found)


@dataclass(frozen=True, eq=False)
class _Text:
    """A maze's tokens as relations read them.

    `apart` are the rows and columns between the cells of two tokens, -1 where one of them names none. `known_from` is
    the position from which on the text says that a passage connects the two cells.
    """

    apart: Int[np.ndarray, "query key"]
    known_from: Int[np.ndarray, "query key"]
    own_edge: dict[str, Mask]
    """The `<-->` or `;` of a passage of the query's cell."""
    slots: dict[str, int]
    end_of_list: int

    @property
    def before(self) -> Mask:
        """Keys before their query."""
        return np.tri(len(self.apart), k=-1, dtype=bool)

    @property
    def after(self) -> Int[np.ndarray, "query 1"]:
        """The position of each query."""
        return np.arange(len(self.apart))[:, None]


@lru_cache(2)  # the relations of one text are asked for one after the other
def _text(tokens: Tokens) -> _Text:
    cells = [cell_of(token) for token in tokens]
    numbers = {cell: i for i, cell in enumerate(dict.fromkeys(cells))}  # what is no cell has one too
    number = np.array([numbers[cell] for cell in cells])
    apart, known = _between_cells([*numbers], passage_of_each(tokens), tokens, numbers)
    own_edge = {edge: _edges(tokens, passage_of_each(tokens), numbers, edge)[number] for edge in EDGE}
    slots = {token: tokens.index(token) + 1 if token in tokens else NEVER for token in (TARGET_START, ORIGIN_START)}
    end = tokens.index(ADJLIST_END) if ADJLIST_END in tokens else NEVER
    pairs = np.ix_(number, number)
    return _Text(apart[pairs], known[pairs], own_edge, slots, end)


def _between_cells(
    cells: list[Cell | None], passages: list[Passage | None], tokens: Tokens, numbers: dict[Cell | None, int]
) -> tuple[Int[np.ndarray, "cell cell"], Int[np.ndarray, "cell cell"]]:
    """How far any two cells are apart, and from which position on the text says that they are connected."""
    named, places = np.array([c is not None for c in cells]), np.array([c or (0, 0) for c in cells])
    apart = np.abs(places[:, None] - places[None]).sum(-1)
    apart[~(named[:, None] & named[None])] = -1
    known = np.full_like(apart, NEVER)
    for i, passage in enumerate(passages):
        if passage is not None and tokens[i] == CONNECTOR:
            a, b = numbers[passage[0]], numbers[passage[1]]
            known[a, b] = known[b, a] = min(known[a, b], i + 1)
    return apart, known


def _edges(
    tokens: Tokens, passages: list[Passage | None], numbers: dict[Cell | None, int], edge: str
) -> Bool[np.ndarray, "cell key"]:
    """Which of a kind of token belong to a passage of each cell."""
    found = np.zeros((len(numbers), len(tokens)), dtype=bool)
    for i, passage in enumerate(passages):
        if passage is not None and tokens[i] == edge:
            found[[numbers[passage[0]], numbers[passage[1]]], i] = True
    return found


def _first(text: _Text) -> Mask:
    found = np.zeros_like(text.before)
    found[1:, 0] = True
    return found


def _previous(text: _Text) -> Mask:
    return np.eye(len(text.apart), k=-1, dtype=bool)


def _same_cell(text: _Text) -> Mask:
    return (text.apart == 0) & text.before


def _neighbours(text: _Text) -> Mask:
    return (text.apart == 1) & text.before


def _connected(text: _Text) -> Mask:
    return (text.known_from <= text.after) & text.before


def _behind_walls(text: _Text) -> Mask:
    return _neighbours(text) & (text.known_from == NEVER) & (text.after > text.end_of_list)


def _slot(start: str) -> Callable[[_Text], Mask]:
    """The token that stands after a start token, for all queries after it."""

    def relation(text: _Text) -> Mask:
        return (np.arange(len(text.apart)) == text.slots[start]) & (text.after > text.slots[start])

    return relation


def _elsewhere(start: str) -> Callable[[_Text], Mask]:
    """The other tokens of the cell that stands after a start token, for all queries after it."""

    def relation(text: _Text) -> Mask:
        if (slot := text.slots[start]) >= len(text.apart):
            return np.zeros_like(text.before)
        of_cell = (text.apart[slot] == 0) & (np.arange(len(text.apart)) != slot)
        return of_cell & text.before & (text.after > slot)

    return relation


def _own_edge(edge: str) -> Callable[[_Text], Mask]:
    def relation(text: _Text) -> Mask:
        return text.own_edge[edge] & text.before

    return relation


RELATIONS: dict[str, Callable[[_Text], Mask]] = {
    "first token": _first,
    "previous token": _previous,
    "same cell": _same_cell,
    "neighbour cells": _neighbours,
    "connected cells": _connected,
    "neighbours behind walls": _behind_walls,
    "target": _slot(TARGET_START),
    "target's cell elsewhere": _elsewhere(TARGET_START),
    "origin": _slot(ORIGIN_START),
    "origin's cell elsewhere": _elsewhere(ORIGIN_START),
    "<--> of own passages": _own_edge(CONNECTOR),
    "; of own passages": _own_edge(SEPARATOR),
}
