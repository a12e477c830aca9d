"""From mazes to prompts: one sequence a maze, read where its task says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor
from typing_extensions import Self

from maze_dla.adapters.mazes.lattice import (
    ADJLIST_START,
    ORIGIN_START,
    PADDING,
    PATH_START,
    TARGET_START,
    MazeText,
    cell_of,
    cell_token,
)
from maze_dla.adapters.mazes.tasks import Task
from maze_dla.adapters.mazes.vocabulary import MazeVocabulary
from maze_dla.engine.prompts import PromptBatch
from maze_dla.errors import InputError, PromptError
from maze_dla.results.geometry import MazeGeometry

Padding = int | Literal["longest"] | None
PARTS = {"adjacency list": ADJLIST_START, "origin": ORIGIN_START, "target": TARGET_START, "path": PATH_START}


@dataclass(frozen=True, eq=False, repr=False)
class MazePromptBatch(PromptBatch):
    """Prompts about mazes.

    Token sets: "cells", the cells of the lattice (that of training, or of larger mazes); "neighbors", the legal moves
    from the current cell. The target never counts as one of the others, so that "neighbors" leaves the legal wrong
    moves. Where the read position's token is no cell of the path there is no current cell, and "neighbors" is empty.
    Kinds of tokens: the parts of a maze's text, its own start and end tokens with each; BOS goes with the first.
    """

    grid_n: int = 0

    def n_extra(self, prompt: int) -> int:
        """How many tokens stand in front of a prompt's maze: padding, and 1 with the extra BOS."""
        labels = self.sequence_labels[int(self.sequence_of[prompt])]
        padding = next((i for i, label in enumerate(labels) if label != PADDING), 0)
        return padding + bool(self.info.get("prepend_bos"))

    def text(self, prompt: int) -> MazeText:
        """The whole text of a prompt's maze, its path included."""
        return MazeText(self.sequence_labels[int(self.sequence_of[prompt])][self.n_extra(prompt) :])

    def geometry(self, prompt: int) -> MazeGeometry:
        """A prompt's maze as a picture needs it.

        Raises:
            InputError: no prompt of that number.
        """
        if not 0 <= prompt < len(self):
            raise InputError(f"prompt is a number from 0 to {len(self) - 1}, got {prompt}")
        return self.text(prompt).geometry(int(self.lengths[prompt]), self.grid_n, self.n_extra(prompt))

    @classmethod
    def build(
        cls,
        mazes: list[list[str]],
        vocabulary: MazeVocabulary,
        task: Task,
        *,
        grid_n: int,
        prepend_bos: bool,
        padding: Padding,
        seed: int,
        info: Mapping[str, Any],
    ) -> Self:
        """One prompt for each maze.

        Raises:
            PromptError: a maze without `<PATH_START>`, a token outside the vocabulary, a task that points outside.
        """
        rng = np.random.default_rng(seed)
        bos = [ADJLIST_START] if prepend_bos else []
        sequences, reads, targets, currents = [], [], [], []
        for i, tokens in enumerate(mazes):
            if bos and tokens[:2] == 2 * bos and tokens.count(ADJLIST_START) == 2:
                raise PromptError(
                    f"prompt {i} begins with the extra BOS already: leave it out, or pass prepend_bos=False"
                )
            position = _target_position(i, tokens, task, rng)
            sequences.append(vocabulary.encode([*bos, *tokens], f"prompt {i}"))
            reads.append(len(bos) + position - 1)
            targets.append(sequences[-1][len(bos) + position])
            currents.append(_legal_moves(i, tokens, position, vocabulary))
        in_front = _padding_in_front([read + 1 for read in reads], padding, vocabulary)
        reads = [read + n for read, n in zip(reads, in_front, strict=True)]
        sequences = [[vocabulary.ids.get(PADDING, 0)] * n + s for s, n in zip(sequences, in_front, strict=True)]
        lengths = torch.tensor([len(s) for s in sequences])
        size = max([grid_n, *(1 + max(c) for tokens in mazes for t in tokens if (c := cell_of(t)) is not None)])
        padded = torch.full((len(sequences), int(lengths.max())), vocabulary.ids.get(PADDING, 0))
        for row, ids in enumerate(sequences):
            padded[row, : len(ids)] = torch.tensor(ids)
        return cls(
            sequences=padded,
            sequence_lengths=lengths,
            sequence_of=torch.arange(len(sequences)),
            read_positions=torch.tensor(reads),
            targets=torch.tensor(targets),
            d_vocab=len(vocabulary.tokens),
            sequence_labels=tuple((*[PADDING] * n, *bos, *tokens) for n, tokens in zip(in_front, mazes, strict=True)),
            vocabulary=vocabulary.tokens,
            token_sets={"cells": vocabulary.cell_mask(size), "neighbors": _mask(currents, len(vocabulary.tokens))},
            info={**info, "prepend_bos": prepend_bos, **({} if padding is None else {"padding": f"left, {padding}"})},
            grid_n=size,
            kinds=tuple(PARTS),
            sequence_kinds=_kinds(padded, vocabulary),
        )


def _padding_in_front(lengths: list[int], padding: Padding, vocabulary: MazeVocabulary) -> list[int]:
    """How many `<PADDING>` each prompt of these lengths gets.

    Raises:
        InputError: neither None, "longest" nor a length that all prompts fit in, or a vocabulary without the token.
    """
    if padding is None:
        return [0] * len(lengths)
    if padding != "longest" and (isinstance(padding, bool) or not isinstance(padding, int)):
        raise InputError(f"padding is None, 'longest' or a number of tokens, got {padding!r}")
    if PADDING not in vocabulary.ids:
        raise InputError(f"the vocabulary has no {PADDING}, so no prompt can be padded with it")
    width = max(lengths) if isinstance(padding, str) else padding
    if width < max(lengths):
        raise InputError(f"padding to {width} tokens, but the longest prompt has {max(lengths)}")
    return [width - n for n in lengths]


def _kinds(sequences: Int[Tensor, "sequence position"], vocabulary: MazeVocabulary) -> Int[Tensor, "sequence position"]:
    """The part of the text that each token stands in: that of the last start token in front of it."""
    started = torch.full_like(sequences, -1)
    for number, token in enumerate(PARTS.values()):
        if token in vocabulary.ids:
            started[sequences == vocabulary.ids[token]] = number
    positions = torch.arange(sequences.shape[1]).expand_as(sequences)
    last_start = torch.where(started >= 0, positions, 0).cummax(1).values
    return started.gather(1, last_start).clamp_min(0)


def _target_position(prompt: int, tokens: list[str], task: Task, rng: np.random.Generator) -> int:
    try:
        position = task(list(tokens), rng)
    except PromptError as problem:
        raise PromptError(f"prompt {prompt}: {problem}") from problem
    except (ValueError, LookupError, TypeError) as problem:  # a task of the user's own
        raise PromptError(f"prompt {prompt}: the task failed ({type(problem).__name__}: {problem})") from problem
    if not isinstance(position, int | np.integer) or isinstance(position, bool):
        raise InputError(f"a task returns the position of the token to predict, got {position!r}")
    if not 1 <= position < len(tokens):
        raise PromptError(f"prompt {prompt}: the task asks for token {position}, the maze's text has {len(tokens)}")
    return int(position)


def _legal_moves(prompt: int, tokens: list[str], position: int, vocabulary: MazeVocabulary) -> list[int]:
    text = MazeText(tuple(tokens))
    try:
        current = text.current_cell(position - 1)
    except PromptError as problem:
        raise PromptError(f"prompt {prompt}: {problem}") from problem
    cells = text.neighbors(current) if current is not None else ()
    return vocabulary.encode([cell_token(c) for c in cells], f"prompt {prompt}")


def _mask(ids: list[list[int]], d_vocab: int) -> Bool[Tensor, "prompt vocab"]:
    mask = torch.zeros(len(ids), d_vocab, dtype=torch.bool)
    for row, tokens in enumerate(ids):
        mask[row, tokens] = True
    return mask
