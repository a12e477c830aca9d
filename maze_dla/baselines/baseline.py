"""A baseline: what was recorded of one model and question."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from maze_dla.baselines.numbers import Measured
from maze_dla.baselines.questions import Question

IN_MEMORY = "in memory"


@dataclass(frozen=True)
class Baseline:
    """Everything that a file holds under one name.

    `checkpoint` is the model's place as seen from the file's folder, "bundled" or "in memory"; `model`, `prompts` and
    `run` are as `models`, `prompts` and `record` describe them.
    """

    checkpoint: str
    model: dict[str, Any]
    question: Question
    prompts: dict[str, Any]
    run: dict[str, Any]
    measured: Measured

    @property
    def name(self) -> str:
        """Its name in the file: the checkpoint, the task and the metric."""
        return baseline_name(self.checkpoint, str(self.model["name"]), self.question)


def baseline_name(checkpoint: str, model: str, question: Question) -> str:
    """The name of a baseline of this model and question."""
    place = f"{model} {IN_MEMORY}" if checkpoint == IN_MEMORY else checkpoint
    return f"{place}: {question.task}, {question.metric}"
