"""The walks of a maze model by itself, judged in their mazes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from maze_dla.adapters.mazes.lattice import PATH_END, cell_of, cell_token
from maze_dla.adapters.mazes.prompts import MazePromptBatch
from maze_dla.adapters.mazes.walkers import WALKERS, scores_of_walkers
from maze_dla.adapters.mazes.walks import WalkedMaze
from maze_dla.engine.generation import Generated, generate
from maze_dla.engine.ids import NONE
from maze_dla.engine.model import ResidualModel
from maze_dla.errors import InputError, check_kind
from maze_dla.results.columns import Columns, chosen_rows
from maze_dla.results.rollout import SCORES, UNFINISHED, RolloutResult

KEPT = ("maze", "origin_cell", "target_cell")  # of a batch's columns, beside the caller's own
PATH, CONTEXT, STEPS = "path end", f"{UNFINISHED}context full", f"{UNFINISHED}max_steps"


@dataclass(frozen=True)
class How:
    """How a model walks: arguments of `MazeModel.rollout`."""

    n_samples: int
    temperature: float | None
    max_steps: int | None
    seed: int
    sequences_at_once: int | None

    @property
    def words(self) -> str:
        """As results say it."""
        if self.temperature is None:
            return "greedy"
        return f"sampled at temperature {self.temperature:g}, {self.n_samples} for each prompt, seed {self.seed}"


@dataclass(frozen=True, eq=False)
class Starts:
    """Where walks start: for each prompt its maze and the tokens after `<PATH_START>` that are given."""

    batch: MazePromptBatch
    mazes: Sequence[WalkedMaze]
    given: Sequence[tuple[str, ...]]

    @classmethod
    def of(cls, batch: Any) -> Starts:
        """The starts of a batch's prompts.

        Raises:
            InputError: no batch of prompts about mazes, or a prompt that ends in front of `<PATH_START>`.
            PromptError: a maze in which no walk can be judged.
        """
        check_kind(batch, MazePromptBatch, "a rollout goes on from prompts of maze.prompts()")
        steps = batch.steps.tolist()
        if early := [i for i, step in enumerate(steps) if step < 0]:
            raise InputError(
                f"prompt {early[0]} ends in front of <PATH_START>, walks begin there: give prompts of another task, "
                "such as 'first_path_choice'"
            )
        known: dict[tuple[int, tuple[Any, ...]], WalkedMaze] = {}
        mazes = []
        for i, row in enumerate(batch.sequence_of.tolist()):
            place = (row, solution := batch.solution(i))
            if place not in known:
                known[place] = WalkedMaze.of(batch.maze_text(i), solution, f"prompt {i}")
            mazes.append(known[place])
        given = [labels[len(labels) - step :] for labels, step in zip(batch.labels, steps, strict=True)]
        return cls(batch, mazes, given)


def roll_out(model: ResidualModel, batch: MazePromptBatch, how: How) -> RolloutResult:
    """The walks of a model from the end of each prompt, judged, with random walkers beside them.

    Raises:
        InputError: as `MazeModel.rollout`.
        PromptError: a maze in which no walk can be judged.
        ModelError: logits that are no numbers.
    """
    starts = Starts.of(batch)
    stop = [i for i, token in enumerate(batch.vocabulary or ()) if token == PATH_END]
    if not stop:
        raise InputError(f"the vocabulary has no {PATH_END}, so that no walk would end")
    found = generate(
        model,
        batch,
        stop=stop,
        max_steps=how.max_steps,
        temperature=how.temperature,
        n_samples=how.n_samples,
        seed=how.seed,
        sequences_at_once=how.sequences_at_once,
    )
    limits = (model.weights.shape.n_ctx - batch.lengths).clamp_max(how.max_steps or model.weights.shape.n_ctx)
    info = {
        **{name: fact for name, fact in batch.info.items() if name in ("mazes", "prepend_bos", "padding")},
        **model.info,
        **{"task": "rollout", "metric": "log-likelihood of the walk (nats)", "unit": batch.unit, "seed": how.seed},
        **{"walk": how.words, "max_steps": how.max_steps, "temperature": how.temperature},
        "grid_n": batch.grid_n,
        "precision": str(model.weights.precision).removeprefix("torch."),
    }
    return _result(starts, found, limits.tolist(), how.seed, info)


def _result(starts: Starts, found: Generated, limits: list[int], seed: int, info: Mapping[str, Any]) -> RolloutResult:
    batch, of = starts.batch, found.prompts.tolist()
    said = [tuple(batch.token_name(t) for t in row if t != NONE) for row in found.tokens.tolist()]
    mazes, walks = [starts.mazes[i] for i in of], [(*starts.given[i], *own) for i, own in zip(of, said, strict=True)]
    scores = torch.tensor([_scores(maze, walk) for maze, walk in zip(mazes, walks, strict=True)], dtype=torch.float64)
    return RolloutResult(
        metric=found.log_probs.nansum(1),
        correct=scores[:, SCORES.index("solved")] > 0,
        prompt_tokens=tuple(batch.labels[i] for i in of),
        targets=tuple(" ".join([*map(cell_token, maze.solution), PATH_END]) for maze in mazes),
        predicted=tuple(map(" ".join, walks)),
        info=info,
        columns=_columns(starts, found, mazes),
        scores=scores,
        log_probs=found.log_probs,
        given=torch.tensor([len(starts.given[i]) for i in of]),
        faults=tuple(
            tuple(maze.fault(walk[:k], walk[k]) for k in range(len(walk) - len(own), len(walk)))
            for maze, walk, own in zip(mazes, walks, said, strict=True)
        ),
        walkers=_walkers(starts, limits, seed)[found.prompts],
        walker_names=WALKERS,
    )


def _scores(maze: WalkedMaze, walk: Sequence[str]) -> list[float]:
    """The scores of a walk by its tokens after `<PATH_START>`, in the order of `SCORES`."""
    finished = walk[-1:] == (PATH_END,)
    tokens = walk[:-1] if finished else walk
    cells = [cell for token in tokens if (cell := cell_of(token)) is not None]
    scores = maze.score(cells, finished=finished, n_other=len(tokens) - len(cells))
    return [float(scores[name]) for name in SCORES]


def _columns(starts: Starts, found: Generated, mazes: Sequence[WalkedMaze]) -> Columns:
    """The columns of each walk: its maze, the number of the sample, and what ended it."""
    batch = starts.batch
    kept = {name: held for name, held in batch.columns.items() if name in (*KEPT, *batch.own_columns)}
    ends = zip(found.stopped.tolist(), found.at_the_end.tolist(), strict=True)
    first = torch.searchsorted(found.prompts, found.prompts)  # of the prompt's walks
    return {
        **chosen_rows(kept, found.prompts),
        "sample": torch.arange(len(mazes)) - first,
        "path_length": torch.tensor([len(maze.solution) - 1 for maze in mazes]),
        "stopped": tuple(PATH if stopped else CONTEXT if full else STEPS for stopped, full in ends),
    }


def _walkers(starts: Starts, limits: Sequence[int], seed: int) -> torch.Tensor:
    """The scores of random walkers from each prompt, [prompt, walker, score]."""
    names, found = starts.batch.columns["maze"], []
    for i, (maze, given) in enumerate(zip(starts.mazes, starts.given, strict=True)):
        cells = tuple(cell for token in given if (cell := cell_of(token)) is not None)
        found.append(scores_of_walkers(maze, cells, limits[i], seed, str(names[i])))
    return torch.from_numpy(np.array(found))
