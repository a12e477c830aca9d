"""One prompt of a report, looked at closely."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from maze_dla.analysis import attribute, token_lens
from maze_dla.engine.metrics import LinearMetric
from maze_dla.engine.prompts import PromptBatch
from maze_dla.errors import check_kind, check_path, check_whole
from maze_dla.geometry import MazeGeometry
from maze_dla.results.attribution import AttributionResult
from maze_dla.results.lens import TokenLensResult


@dataclass(frozen=True)
class CloseUp:
    """One prompt: its sources, its token lens and, where it is about a maze, that maze."""

    result: AttributionResult
    tokens: TokenLensResult
    maze: MazeGeometry | None
    number: int


def check_asked(batch: PromptBatch, prompt: int | None, out: object) -> None:
    """Refuse arguments that would be found wrong only after the whole batch was run.

    Raises:
        InputError: no batch of prompts, no prompt of that number, or no path for the folder.
    """
    check_path(out, "a report's folder")
    check_kind(batch, PromptBatch, "a report is about a batch of prompts")
    if prompt is not None:
        check_whole("prompt", prompt, 0, len(batch) - 1)


def look_closely(
    model: Any, batch: PromptBatch, metric: LinearMetric, result: AttributionResult, prompt: int | None = None
) -> CloseUp:
    """A close look at the prompt of that number, or else at one that the model gets right where there are any.

    Of mazes the one with the longest path, read about half-way where it is read at several steps; of other prompts the
    one whose metric is nearest to the mean.
    """
    number = _worth_a_look(batch, result) if prompt is None else int(prompt)
    alone = batch.select([number])
    closely = attribute(model, alone, metric.select([number]), sources=True)
    return CloseUp(closely, token_lens(model, alone, k=5), alone.geometry(0), number)


def _worth_a_look(batch: PromptBatch, result: AttributionResult) -> int:
    worth = batch.example_scores()
    if worth is None:
        worth = -(result.metric - result.metric.mean()).abs().double()
    answered = torch.ones(len(result), dtype=torch.bool) if result.answered is None else result.answered
    return int(torch.where(answered, worth, worth - worth.max() + worth.min() - 1).argmax())
