"""From mazes to prompts: one sequence a maze, read wherever its tasks say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from typing_extensions import Self

from maze_dla.adapters.mazes.columns import maze_columns, maze_name
from maze_dla.adapters.mazes.lattice import (
    ADJLIST_START,
    ORIGIN_START,
    PADDING,
    PATH_START,
    TARGET_START,
    MazeText,
)
from maze_dla.adapters.mazes.moves import allowed_moves, legal_moves, right_moves, targets_of
from maze_dla.adapters.mazes.strategies import STRATEGIES, chance_columns, forward_moves, majority_column
from maze_dla.adapters.mazes.target_positions import TargetPositions, find_targets
from maze_dla.adapters.mazes.tasks import Task
from maze_dla.adapters.mazes.vocabulary import MazeVocabulary
from maze_dla.engine.ids import NONE
from maze_dla.engine.prompts import PromptBatch, chosen_prompts
from maze_dla.errors import InputError, check_whole, whole_number
from maze_dla.geometry import Cell, MazeGeometry
from maze_dla.results.skill import BASELINES
from maze_dla.results.torch_defaults import torch_defaults

Padding = int | Literal["longest"] | None
PARTS = {"adjacency list": ADJLIST_START, "origin": ORIGIN_START, "target": TARGET_START, "path": PATH_START}


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class MazePromptBatch(PromptBatch):
    """Prompts about mazes, in the order of the mazes; those of one maze in the order of the tasks.

    Prompts that read the same maze share its sequence, unless they were padded in front. `tasks` names what was asked
    for, and `task_of` says which of them each prompt belongs to. `steps` is the number of path cells in front of the
    predicted token: 0 where that is the origin, the length of the path where it is `<PATH_END>`, and negative in front
    of the path (-1 for `<PATH_START>`).

    Token sets: "cells", the cells of the lattice (that of training, or of larger mazes); "neighbors", the legal moves
    from the current cell. Where the read position's token is no cell of the path there is no current cell, and
    "neighbors" is empty. It includes stepping back, which in a corridor is often the only wrong move; "forward" is the
    same without the cell one came from (at the first step all legal moves). Where a maze has loops, every next cell on
    a shortest path to the target is right, if that of the path is. Right answers never count as others, so that
    "neighbors" leaves the legal wrong moves.
    Kinds of tokens: the parts of a maze's text, its own start and end tokens with each; BOS goes with the first.
    Prompts about one maze, by whatever task, with any padding and BOS, have one name in the column `maze`; the other
    columns are those of `PromptResult.table`.
    """

    grid_n: int
    tasks: tuple[str, ...]
    task_of: Int[Tensor, " prompt"]
    steps: Int[Tensor, " prompt"] = field()
    unit: str = "maze"

    def n_extra(self, prompt: int) -> int:
        """How many tokens stand in front of a prompt's maze: padding, and 1 with the extra BOS."""
        labels = self.sequence_labels[int(self.sequence_of[prompt])]
        padding = next((i for i, label in enumerate(labels) if label != PADDING), 0)
        return padding + bool(self.info.get("prepend_bos"))

    def text(self, prompt: int) -> MazeText:
        """The whole text of a prompt's maze, its path included."""
        return MazeText(self.sequence_labels[int(self.sequence_of[prompt])][self.n_extra(prompt) :])

    def maze_text(self, prompt: int) -> MazeText:
        """The text from which a prompt's passages are read."""
        return self.text(prompt)

    def solution(self, prompt: int) -> tuple[Cell, ...]:
        """The cells of the solution of a prompt's maze."""
        return self.text(prompt).path

    def geometry(self, prompt: int) -> MazeGeometry:
        """A prompt's maze as a picture needs it.

        Raises:
            InputError: no prompt of that number.
        """
        prompt = check_whole("prompt", prompt, 0, len(self) - 1)
        before = self.labels[prompt][: self.n_extra(prompt)]
        return self.text(prompt).geometry(int(self.lengths[prompt]), self.grid_n, before)

    @property
    def asks_for_steps(self) -> bool:
        """Whether any prompt's answer is a legal move from its cell, so that the other moves can be set against it."""
        return bool((self.set_rows("neighbors").at(self.targets[:, None]) > 0).any())

    @torch_defaults()
    def select(self, prompts: Any) -> Self:
        """The batch with just these prompts, in this order, or those where a mask holds."""
        chosen = chosen_prompts(prompts, len(self))
        return replace(super().select(chosen), task_of=self.task_of[chosen])

    def _joined_with(self, other: Any) -> dict[str, Any]:
        """The fields of the prompts of both, with the tasks of both."""
        tasks = tuple(dict.fromkeys((*self.tasks, *other.tasks)))
        theirs = torch.tensor([tasks.index(name) for name in other.tasks])[other.task_of]
        fields = super()._joined_with(other)
        return {
            **fields,
            "grid_n": max(self.grid_n, other.grid_n),
            "tasks": tasks,
            "task_of": torch.cat([self.task_of, theirs]),
            "info": {**fields["info"], "task": ", ".join(tasks)},
        }

    @torch_defaults()
    def of_task(self, task: str) -> Self:
        """The prompts of one of the tasks, as if it had been asked alone.

        Raises:
            InputError: a task that was not asked, or of which no prompt is left.
        """
        if task not in self.tasks:
            raise InputError(f"no task {task!r} was asked, this batch has {', '.join(self.tasks)}")
        own = self.select(self.task_of == self.tasks.index(task))
        return replace(own, tasks=(task,), task_of=torch.zeros_like(own.task_of), info={**own.info, "task": task})

    @classmethod
    @torch_defaults()
    def build(
        cls,
        mazes: Sequence[list[str]],
        vocabulary: MazeVocabulary,
        tasks: Mapping[str, Task],
        *,
        grid_n: int,
        prepend_bos: bool,
        padding: Padding,
        seed: int,
        info: Mapping[str, Any],
    ) -> Self:
        """The prompts of the tasks on each maze.

        Raises:
            InputError: a task that returns no position, a padding that does not fit, or nothing asked at all.
            PromptError: a maze without `<PATH_START>`, a token outside the vocabulary, a task that points outside.
        """
        found = find_targets(mazes, vocabulary, tasks, prepend_bos=prepend_bos, seed=seed)
        if not found.positions:
            raise InputError(f"{', '.join(tasks)} asks for no token in any of the {len(mazes)} mazes")
        rows, sequence_of, in_front = _layout(found, padding, vocabulary)
        sequences, lengths = padded_sequences([found.ids[row] for row in rows], in_front, vocabulary)
        reads = torch.tensor(found.positions) - 1 + torch.tensor(in_front)[sequence_of]
        steps = torch.tensor(found.steps)
        n = len(vocabulary.tokens)
        current = torch.where(steps > 0, sequence_of * n + sequences[sequence_of, reads], -1)
        moves, path_tokens = allowed_moves(sequences, lengths, vocabulary), sequences[sequence_of, reads + 1]
        legal = legal_moves(moves, current, n)
        answers = right_moves(legal, current, path_tokens, moves, targets_of(sequences, vocabulary), n)
        names, task_of = tuple(tasks), torch.tensor(found.task_of)
        maze_names = tuple(maze_name(found.labels[row]) for row in found.maze_of)
        padded = {} if padding is None else {"padding": f"left, {padding}"}
        size = max(grid_n, int(vocabulary.lattice_sizes[sequences.unique()].max()))
        return cls(
            sequences=sequences,
            sequence_lengths=lengths,
            sequence_of=sequence_of,
            read_positions=reads,
            targets=path_tokens,
            answers=answers,
            d_vocab=n,
            d_vocab_in=n,
            sequence_labels=tuple((PADDING,) * n + found.labels[row] for n, row in zip(in_front, rows, strict=True)),
            vocabulary=vocabulary.tokens,
            token_sets={
                "cells": vocabulary.cell_mask(size),
                "neighbors": legal,
                "forward": forward_moves(legal, sequences[sequence_of, reads - 1]),
            },
            info={**info, "prepend_bos": prepend_bos, **padded, BASELINES: list(STRATEGIES)},
            grid_n=size,
            tasks=names,
            task_of=task_of,
            steps=steps,
            columns={
                "maze": maze_names,
                "task": tuple(names[i] for i in found.task_of),
                "step": steps,
                **maze_columns(sequences, lengths, sequence_of, steps, vocabulary),
                "legal_moves": (legal != NONE).sum(1),
                **chance_columns(sequences, sequence_of, reads, steps, answers, legal, moves, vocabulary),
                **majority_column(answers, task_of, maze_names),
            },
            kinds=tuple(PARTS),
            sequence_kinds=kinds_of_tokens(sequences, vocabulary),
        )


def _layout(
    found: TargetPositions, padding: Padding, vocabulary: MazeVocabulary
) -> tuple[list[int], Int[Tensor, " prompt"], list[int]]:
    """Of which maze each sequence is, which sequence each prompt reads, and the padding in front of each sequence.

    Padding moves the positions of each prompt on by another number, so that no two prompts can then share a sequence.
    """
    if padding is None:
        return list(range(len(found.ids))), torch.tensor(found.maze_of), [0] * len(found.ids)
    return found.maze_of, torch.arange(len(found.maze_of)), _padding_in_front(found.positions, padding, vocabulary)


def _padding_in_front(lengths: list[int], padding: int | str, vocabulary: MazeVocabulary) -> list[int]:
    """How many `<PADDING>` each prompt of these lengths gets.

    Raises:
        InputError: neither "longest" nor a length that all prompts fit in, or a vocabulary without the token.
    """
    if padding != "longest" and whole_number(padding) is None:
        raise InputError(f"padding is None, 'longest' or a number of tokens, got {padding!r}")
    if PADDING not in vocabulary.ids:
        raise InputError(f"the vocabulary has no {PADDING}, so no prompt can be padded with it")
    width = max(lengths) if isinstance(padding, str) else padding
    if width < max(lengths):
        raise InputError(f"padding to {width} tokens, but the longest prompt has {max(lengths)}")
    return [width - n for n in lengths]


def padded_sequences(
    sequences: list[list[int]], in_front: list[int], vocabulary: MazeVocabulary
) -> tuple[Int[Tensor, "sequence position"], Int[Tensor, " sequence"]]:
    """Token ids as an array, with what stands in front of each and filled up after it, and the lengths."""
    lengths = torch.tensor([len(s) + n for s, n in zip(sequences, in_front, strict=True)])
    positions = torch.arange(int(lengths.max()))
    inside = (positions >= torch.tensor(in_front)[:, None]) & (positions < lengths[:, None])
    padded = torch.full(inside.shape, vocabulary.ids.get(PADDING, 0))
    padded[inside] = torch.from_numpy(np.fromiter(chain.from_iterable(sequences), np.int64))
    return padded, lengths


def kinds_of_tokens(
    sequences: Int[Tensor, "sequence position"], vocabulary: MazeVocabulary
) -> Int[Tensor, "sequence position"]:
    """The part of the text that each token stands in: that of the last start token in front of it."""
    started = torch.full_like(sequences, -1)
    for number, token in enumerate(PARTS.values()):
        if token in vocabulary.ids:
            started[sequences == vocabulary.ids[token]] = number
    positions = torch.arange(sequences.shape[1]).expand_as(sequences)
    last_start = torch.where(started >= 0, positions, 0).cummax(1).values
    return started.gather(1, last_start).clamp_min(0)
