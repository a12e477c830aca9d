"""Single prompts of a report, looked at closely, and by which rule they were chosen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from maze_dla.analysis import attribute, token_lens
from maze_dla.engine.metrics import LinearMetric
from maze_dla.engine.prompts import PromptBatch
from maze_dla.errors import check_kind, check_path, check_whole
from maze_dla.geometry import MazeGeometry
from maze_dla.results.attribution import AttributionResult
from maze_dla.results.lens import TokenLensResult

RULES = {
    "chosen": "the one that was asked for",
    "typical": "a typical one of those that the model gets right",
    "longest": "the longest path of those that the model gets right",
    "wrong": "one that the model gets wrong",
}


@dataclass(frozen=True)
class CloseUp:
    """One prompt: its sources, its token lens and, where it is about a maze, that maze.

    `rule` is one of RULES; `why` says how the prompt was chosen, and where it stands among all.
    """

    result: AttributionResult
    tokens: TokenLensResult
    maze: MazeGeometry | None
    number: int
    rule: str
    why: str


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
) -> list[CloseUp]:
    """A close look at the prompt of that number, or else at up to three: a typical one, the longest path that the
    model gets right (of mazes), and one that it gets wrong.
    """  # fmt: skip
    chosen = _choices(result) if prompt is None else {"chosen": (int(prompt), RULES["chosen"])}
    looks = []
    for rule, (number, how) in chosen.items():
        alone = batch.select([number])
        closely = attribute(model, alone, metric.select([number]), sources=True)
        why = f"{how}. {_place(result, number)}"
        looks.append(CloseUp(closely, token_lens(model, alone, k=5), alone.geometry(0), number, rule, why))
    return looks


def _choices(result: AttributionResult) -> dict[str, tuple[int, str]]:
    """The number of the prompt that each rule chooses, and the rule in words; a prompt is chosen once."""
    right = torch.ones(len(result), dtype=torch.bool) if result.answered is None else result.answered
    lengths, found = result.columns.get("path_length"), {}
    if right.any():
        found["typical"] = _typical(result, right, RULES["typical"])
        if isinstance(lengths, Tensor):
            found["longest"] = (_longest(result, right, lengths), f"{RULES['longest']}, read half-way where it can be")
    if not right.all():
        found["wrong"] = _typical(result, ~right, RULES["wrong"])
    first = {number: rule for rule, (number, _) in reversed(found.items())}
    return {rule: chosen for rule, chosen in found.items() if first[chosen[0]] == rule}


def _typical(result: AttributionResult, among: Bool[Tensor, " prompt"], words: str) -> tuple[int, str]:
    """Of some prompts, those whose path is nearest to the median length, the one whose metric is nearest to theirs."""
    lengths = result.columns.get("path_length")
    if isinstance(lengths, Tensor):
        off = (lengths - lengths.median()).abs().double()
        among = among & (off == off[among].min())
        words = f"{words}, with a path of about the median length"
    off = (result.metric.double() - result.metric[among].double().median()).abs()
    return int(
        torch.where(among, off, torch.inf).argmin()
    ), f"{words}, its metric nearest to the median of such prompts"


def _longest(result: AttributionResult, right: Bool[Tensor, " prompt"], lengths: Float[Tensor, " prompt"]) -> int:
    among = right & (lengths == lengths[right].max())
    off_middle = (torch.as_tensor(result.columns["step"]) - (lengths + 1) / 2).abs()
    return int(torch.where(among, off_middle, torch.inf).argmin())


def _place(result: AttributionResult, number: int) -> str:
    """Where a prompt stands among all."""
    metric, lengths = result.metric, result.columns.get("path_length")
    below = float((metric < metric[number]).double().mean())
    words = f"Its metric is {float(metric[number]):.2f} logits, more than that of {below:.0%} of the prompts"
    if not isinstance(lengths, Tensor):
        return f"{words}."
    steps, median, most = (int(x) for x in (lengths[number], lengths.median(), lengths.max()))
    return f"{words}; its path has {steps} steps, where the median is {median} and the longest {most}."
