"""Prompts about the steps of walks: what is right is what the maze says where the walk stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from maze_dla.adapters.mazes.lattice import MazeText, cell_of, cell_token
from maze_dla.adapters.mazes.moves import allowed_moves, legal_moves
from maze_dla.adapters.mazes.prompts import PARTS, MazePromptBatch, kinds_of_tokens, padded_sequences
from maze_dla.adapters.mazes.strategies import STRATEGIES, chance_columns, forward_moves, majority_column
from maze_dla.adapters.mazes.vocabulary import MazeVocabulary
from maze_dla.adapters.mazes.walks import WalkedMaze
from maze_dla.engine.ids import NONE, filled_up
from maze_dla.errors import InputError, check_whole
from maze_dla.geometry import Cell, MazeGeometry
from maze_dla.results.columns import Columns, chosen_rows
from maze_dla.results.rollout import NEVER, RolloutResult
from maze_dla.results.skill import BASELINES, CHOSEN_AS
from maze_dla.results.torch_defaults import torch_defaults

FIRST, EVERY = "first_wrong_step", "every_step"
ASKED = f"a rollout is asked task={FIRST!r}, task={EVERY!r} or step=..., a step of each walk"


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class WalkPromptBatch(MazePromptBatch):
    """Prompts about steps of walks that a model took by itself, in the order of the walks.

    Right is what the maze says at the cell where the walk stands, also off the solution: all next cells on shortest
    paths from there, and `<PATH_END>` at the target. Columns, beside those of all prompts about mazes: `walk`, the
    number of the walk in its rollout, `sample`, `said`, the token that the model said there, `fault`, what was wrong
    with it, and `solution`. `distance` counts steps from where the walk stands. A further token set "said" holds that
    token, so that `correct_vs_other(batch, "said")` sets the right ones against it; at first wrong steps `logit_diff`
    does so too.
    """

    def solution(self, prompt: int) -> tuple[Cell, ...]:
        """The cells of the solution of a prompt's maze."""
        return tuple(cell for text in str(self.columns["solution"][prompt]).split() if (cell := cell_of(text)))

    def maze_text(self, prompt: int) -> MazeText:
        """A prompt's maze as text, without the walk, up to `<PATH_START>`."""
        n = int(self.lengths[prompt] - self.steps[prompt]) - self.n_extra(prompt)
        return MazeText(self.text(prompt).tokens[:n])

    def geometry(self, prompt: int) -> MazeGeometry:
        """A prompt's maze as a picture needs it, with its solution; cells outside the lattice are other tokens.

        Raises:
            InputError: no prompt of that number.
        """
        drawn = super().geometry(prompt)
        cells = tuple(cell if cell and max(cell) < self.grid_n else None for cell in drawn.token_cells)
        n = int(self.lengths[prompt] - self.steps[prompt])
        passages = tuple(passage if i < n else None for i, passage in enumerate(drawn.token_passages))
        of_text = self.maze_text(prompt).passages
        return replace(
            drawn,
            rows=self.grid_n,
            columns=self.grid_n,
            connections=of_text,
            path=self.solution(prompt),
            token_cells=cells,
            token_passages=passages,
            current=drawn.current if drawn.current and max(drawn.current) < self.grid_n else None,
        )


@dataclass(frozen=True)
class _Asked:
    """A step of a walk: the tokens that are right there, and what the model said."""

    walk: int
    step: int
    right: tuple[str, ...]
    said: str
    fault: str


@torch_defaults()
def walk_prompts(
    rollout: RolloutResult, vocabulary: MazeVocabulary, task: Any, step: int | None, grid_n: int
) -> WalkPromptBatch:
    """Prompts about steps of the walks of a rollout.

    Raises:
        InputError: no such task, a task beside a step, or steps that no walk has.
        PromptError: a token outside the vocabulary.
    """
    name, chosen = _chosen(rollout, task, step)
    mazes = [_maze_of(rollout, i) for i in range(len(rollout))]
    asked = [one for walk, at in chosen if (one := _asked(rollout, mazes[walk], walk, at)) is not None]
    if not asked:
        raise InputError(f"none of {len(rollout)} walks has a step to ask about: {_why(name)}")
    info: dict[str, Any] = {
        key: fact for key, fact in rollout.info.items() if key in ("mazes", "seed", "prepend_bos", "padding", "walk")
    }
    info |= {"task": name, BASELINES: list(STRATEGIES), "left_out": len(chosen) - len(asked)}
    if name == FIRST:
        info["walks without a wrong step"] = len(rollout) - len(chosen)
        info[CHOSEN_AS] = "steps that the model gets wrong"
    return _batch(rollout, vocabulary, mazes, asked, name, grid_n, info)


def refuse_beside_rollout(what: str = "a rollout", **given: Any) -> None:
    """Refuse arguments that nothing can be done with, since the mazes are there already.

    Raises:
        InputError: naming the first that is not None.
    """
    for name, value in given.items():
        if value is not None:
            raise InputError(f"{name}={value!r:.60} does not go with {what}, whose mazes are there already")


def _chosen(rollout: RolloutResult, task: Any, step: int | None) -> tuple[str, list[tuple[int, int]]]:
    """The name of what is asked, and walks with their steps."""
    starts, ends = rollout.given.tolist(), [len(walk) for walk in rollout.walks]
    if step is not None:
        if task is not None:
            raise InputError(f"{ASKED}, got task={task!r:.60} and step={step!r:.60}")
        step = check_whole("step", step, 0)
        return f"step {step}", [(i, step) for i in range(len(ends)) if starts[i] <= step < ends[i]]
    if task == FIRST:
        return FIRST, [(i, k) for i, k in enumerate(rollout.first_wrong.tolist()) if k != NEVER]
    if task == EVERY:
        return EVERY, [(i, k) for i in range(len(ends)) for k in range(starts[i], ends[i])]
    raise InputError(f"{ASKED}, got task={task!r:.60}")


def _why(name: str) -> str:
    return "all are right from start to end" if name == FIRST else "they are shorter, or no way leads on from there"


def _maze_of(rollout: RolloutResult, walk: int) -> WalkedMaze:
    cells = tuple(cell for token in rollout.solutions[walk] if (cell := cell_of(token)) is not None)
    return WalkedMaze.of(MazeText(_text(rollout, walk)), cells, f"walk {walk}")


def _text(rollout: RolloutResult, walk: int) -> tuple[str, ...]:
    """The text of a walk's maze as the model read it, up to `<PATH_START>`."""
    tokens = rollout.prompt_tokens[walk]
    return tokens[: len(tokens) - int(rollout.given[walk])]


def _asked(rollout: RolloutResult, maze: WalkedMaze, walk: int, step: int) -> _Asked | None:
    """A step of a walk; None where nothing is right, since no way leads to the target from there."""
    tokens = rollout.walks[walk]
    if not (right := maze.right_after(tokens[:step])):
        return None
    solution = rollout.solutions[walk]
    first = [tokens[step], *solution[step : step + 1]]  # the model's own and the solution's, where they are right
    ordered = sorted(right, key=lambda token: (first.index(token) if token in first else len(first), token))
    return _Asked(walk, step, tuple(ordered), tokens[step], maze.fault(tokens[:step], tokens[step]))


def _batch(
    rollout: RolloutResult,
    vocabulary: MazeVocabulary,
    mazes: Sequence[WalkedMaze],
    asked: Sequence[_Asked],
    name: str,
    grid_n: int,
    info: dict[str, Any],
) -> WalkPromptBatch:
    walks = sorted({one.walk for one in asked})
    texts = {i: _text(rollout, i) for i in walks}
    labels = [(*texts[i], *rollout.walks[i]) for i in walks]
    sequences, lengths = padded_sequences(
        [vocabulary.encode(row, "walk") for row in labels], [0] * len(walks), vocabulary
    )
    sequence_of = torch.tensor([walks.index(one.walk) for one in asked])
    before = torch.tensor([len(texts[i]) for i in walks])  # tokens up to <PATH_START>
    steps = torch.tensor([one.step for one in asked])
    reads = before[sequence_of] + steps - 1
    n = len(vocabulary.tokens)
    moves = allowed_moves(sequences, before, vocabulary)
    legal = legal_moves(moves, torch.where(steps > 0, sequence_of * n + sequences[sequence_of, reads], -1), n)
    answers = filled_up([vocabulary.encode(one.right, "walk") for one in asked])
    said = torch.tensor([vocabulary.ids[one.said] for one in asked])
    in_front = torch.arange(sequences.shape[1]) < before[:, None]
    in_texts = sequences[in_front]
    size = max(grid_n, int(vocabulary.lattice_sizes[in_texts.unique()].max()))
    columns = _columns(rollout, mazes, asked, name)
    kinds = kinds_of_tokens(sequences, vocabulary)
    return WalkPromptBatch(
        sequences=sequences,
        sequence_lengths=lengths,
        sequence_of=sequence_of,
        read_positions=reads,
        targets=answers[:, 0],
        answers=answers,
        incorrect=said if name == FIRST else None,
        d_vocab=n,
        d_vocab_in=n,
        sequence_labels=tuple(labels),
        vocabulary=vocabulary.tokens,
        token_sets={
            "cells": vocabulary.cell_mask(size),
            "neighbors": legal,
            "forward": forward_moves(legal, sequences[sequence_of, reads - 1]),
            "said": said[:, None],
        },
        info=info,
        grid_n=size,
        tasks=(name,),
        task_of=torch.zeros(len(asked), dtype=torch.long),
        steps=steps,
        columns={
            **columns,
            "legal_moves": (legal != NONE).sum(1),
            **chance_columns(sequences, sequence_of, reads, steps, answers, legal, moves, vocabulary),
            **majority_column(answers, torch.zeros(len(asked), dtype=torch.long), tuple(map(str, columns["maze"]))),
        },
        kinds=tuple(PARTS),
        sequence_kinds=torch.where(in_front, kinds, len(PARTS) - 1),
    )


def _columns(rollout: RolloutResult, mazes: Sequence[WalkedMaze], asked: Sequence[_Asked], name: str) -> Columns:
    """The columns of each prompt: its maze, its walk and step, and where that stands."""
    of = torch.tensor([one.walk for one in asked])
    heres = [_here(rollout, mazes[one.walk], one) for one in asked]
    lengths = [len(mazes[one.walk].solution) - 1 for one in asked]
    own = {key: held for key, held in rollout.columns.items() if key not in ("stopped", "path_length")}
    targets = [mazes[one.walk].target for one in asked]
    apart = [abs(here[0] - goal[0]) + abs(here[1] - goal[1]) for here, goal in zip(heres, targets, strict=True)]
    return {
        **chosen_rows(own, of),
        "task": (name,) * len(asked),
        "step": torch.tensor([one.step for one in asked]),
        "walk": of,
        "path_length": torch.tensor(lengths),
        "distance": torch.tensor([mazes[one.walk].steps_left[here] for one, here in zip(asked, heres, strict=True)]),
        "manhattan": torch.tensor(apart),
        "said": tuple(one.said for one in asked),
        "fault": tuple(one.fault for one in asked),
        "solution": tuple(" ".join(map(cell_token, mazes[one.walk].solution)) for one in asked),
    }


def _here(rollout: RolloutResult, maze: WalkedMaze, one: _Asked) -> Cell:
    """The cell where a walk stands, the origin in front of its first."""
    here = cell_of(rollout.walks[one.walk][one.step - 1]) if one.step else None
    return maze.origin if here is None else here
