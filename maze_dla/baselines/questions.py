"""Questions to a model: prompts of a task, and a metric, made again the same way whenever they are needed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from maze_dla.adapters.gpt2.load import load_gpt2
from maze_dla.adapters.mazes.datasets import N_GENERATED
from maze_dla.adapters.mazes.load import load_maze_model
from maze_dla.adapters.mazes.model import DEFAULT_TASK, MazeModel
from maze_dla.adapters.text.ioi import ioi_prompts
from maze_dla.analysis.metrics import metric_by_name
from maze_dla.engine.metrics import LinearMetric
from maze_dla.engine.prompts import PromptBatch
from maze_dla.errors import InputError, check_kind, check_path

IOI = "ioi"  # the one task that is not a maze's
BUNDLED = "bundled"


@dataclass(frozen=True)
class Question:
    """A task with its options, as `maze.prompts` (or `ioi_prompts`, for the task "ioi") and the metrics take them.

    Where `metric` is None it is "neighbors" if a step is asked for, "logit_diff" for IOI, and else "all";
    `n_mazes` counts prompts where the task is "ioi"; `prepend_bos` None leaves it to the model. A question that was
    asked has all three as they were.
    """

    task: str = DEFAULT_TASK
    metric: str | None = None
    reduce: str = "mean"
    n_mazes: int | None = None
    seed: int = 0
    prepend_bos: bool | None = None
    padding: int | str | None = None
    dataset: str | None = None

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Question:
        """A question from its options by name.

        Raises:
            InputError: options that no question has, or a task that is no name.
        """
        known = [f.name for f in fields(cls)]
        if unknown := [name for name in options if name not in known]:
            raise InputError(f"a baseline has no option {unknown[0]!r:.60}, expected {', '.join(known)}")
        question = cls(**options)
        if not isinstance(question.task, str):
            raise InputError(f"a baseline's task is a name, since it is asked again later, got {question.task!r:.60}")
        for name, given in (("metric", question.metric or ""), ("reduce", question.reduce)):
            check_kind(given, str, f"a baseline's {name} is a name")
        if question.dataset is not None:
            check_path(question.dataset, "a baseline's data set")
        if question.dataset is not None:
            question = replace(question, dataset=os.fspath(question.dataset))
        return question

    def as_dict(self) -> dict[str, Any]:
        """The options by name."""
        return asdict(self)

    def differences(self, other: Question) -> list[str]:
        """The options that differ, each with both values, as far as this question leaves them open."""
        mine, theirs = self.as_dict(), other.as_dict()
        open_ones = [name for name in ("metric", "n_mazes", "prepend_bos") if mine[name] is None]
        return [
            f"{name} was {theirs[name]!r}, now it is {mine[name]!r}"
            for name in mine
            if name not in open_ones and mine[name] != theirs[name]
        ]


@dataclass(frozen=True)
class Asked:
    """A question with what became of it: the prompts that have the metric, and the metric."""

    question: Question
    batch: PromptBatch
    metric: LinearMetric


def check_placed(source: Any, dtype: Any, device: Any) -> None:
    """Refuse a precision or a device for a model that is in memory already.

    Raises:
        InputError: as said.
    """
    given = list(source) if isinstance(source, list | tuple) else [source]
    in_memory = any(one is not None and not isinstance(one, str | os.PathLike) for one in given)
    if in_memory and (dtype is not None or device is not None):
        raise InputError("dtype and device are of a model's file; a model in memory has its own")


def load_model(source: Any, task: str, *, dtype: torch.dtype | None = None, device: Any = None) -> Any:
    """The model that a task is asked of: GPT-2 for IOI, else a maze model; a model in memory is taken as it is.

    Raises:
        CheckpointError: a file that is no such model.
        InputError: neither a path nor a model.
    """
    if source is not None and not isinstance(source, str | os.PathLike):
        return source
    bundled = source is None or os.fspath(source) == BUNDLED
    if task == IOI:
        return load_gpt2(BUNDLED if bundled else Path(str(source)), device, dtype)
    return load_maze_model(None if bundled else source, device=device, dtype=dtype)


def ask(model: Any, question: Question, folder: Path) -> Asked:
    """The prompts and the metric of a question.

    Args:
        model: of `load_model`.
        question: its data set's path, where it has one, is relative to the folder.
        folder: that of the baseline's file.

    Raises:
        InputError: options that this task or model does not have.
        DatasetError, PromptError: as `maze.prompts`.
    """
    batch = _ioi(model, question) if question.task == IOI else _of_mazes(model, question, folder)
    name = question.metric or _default_metric(batch)
    kept, metric = metric_by_name(batch, name, question.reduce)
    generated = N_GENERATED if question.dataset is None else None
    n = len(batch) if question.task == IOI else question.n_mazes or generated
    bos = bool(batch.info["prepend_bos"])
    return Asked(replace(question, metric=name, n_mazes=n, prepend_bos=bos), kept, metric)


def place_seen_from(folder: Path, place: str) -> Path:
    """Where a file is that is named as it is seen from a folder; a way up starts where the folder really is."""
    if not place.startswith(".."):
        return folder / place
    return Path(os.path.normpath(folder.resolve() / place))  # the folder itself may not be there yet


def _default_metric(batch: PromptBatch) -> str:
    if batch.foils is not None:
        return "logit_diff"
    return "neighbors" if getattr(batch, "asks_for_steps", False) else "all"


def _ioi(model: Any, question: Question) -> PromptBatch:
    if question.padding is not None or question.dataset is not None:
        raise InputError("padding and dataset are of mazes, the task 'ioi' has none")
    bos, n = question.prepend_bos, question.n_mazes
    standard = n in (None, len(ioi_prompts(model)))  # as many as the standard prompts are these
    return ioi_prompts(model, None if standard else n, seed=question.seed, prepend_bos=bos)


def _of_mazes(model: Any, question: Question, folder: Path) -> PromptBatch:
    if not isinstance(model, MazeModel):
        raise InputError(f"the task {question.task!r} is asked of a maze model, got {type(model).__name__}")
    mazes = None if question.dataset is None else str(place_seen_from(folder, question.dataset))
    return model.prompts(
        mazes,
        task=question.task,
        n_mazes=question.n_mazes,
        seed=question.seed,
        prepend_bos=question.prepend_bos,
        padding=question.padding,  # pyright: ignore[reportArgumentType]  (prompts refuses other words)
    )
