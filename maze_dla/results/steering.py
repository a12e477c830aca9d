"""The result of steering: the metric and the answers by strength, beside random directions of the same length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from maze_dla.results.base import PromptResult, format_mean
from maze_dla.results.statistics import Proportion, Summary, proportion
from maze_dla.results.torch_defaults import torch_defaults

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class SteerResult(PromptResult):
    """The metric of each prompt, in logits, with a vector added at each strength; `metric` is that of the plain run."""

    strengths: Float[Tensor, " strength"]
    """How many times the vector is added."""
    values: Float[Tensor, "prompt strength"]
    """The metric with the vector added."""
    control: Float[Tensor, "prompt direction strength"]
    """The metric with random directions of the vector's length added instead."""
    answers: tuple[tuple[str, ...], ...]
    """The most likely token of each prompt at each strength."""
    correct_after: Bool[Tensor, "prompt strength"] | None = None
    """Whether that is right; None where the metric has no notion of right."""

    @property
    @torch_defaults()
    def change(self) -> Float[Tensor, "prompt strength"]:
        """How far the vector moves the metric."""
        return self.values - self.metric[:, None]

    @property
    @torch_defaults()
    def control_change(self) -> Float[Tensor, "prompt strength"]:
        """How far a random direction moves it, mean over the directions."""
        return self.control.mean(1) - self.metric[:, None]

    @property
    def by_strength(self) -> Summary:
        """Mean metric at each strength with its clustered interval."""
        return self.summarized(self.values)

    @property
    def control_by_strength(self) -> Summary:
        """The same of the random directions, mean over them."""
        return self.summarized(self.control.mean(1))

    @property
    @torch_defaults()
    def beyond_control(self) -> Summary:
        """Mean of the vector's metric minus the random directions', prompt by prompt: what this direction does."""
        return self.summarized(self.values - self.control.mean(1))

    @property
    @torch_defaults()
    def accuracy_after(self) -> tuple[Proportion, ...] | None:
        """The share of prompts answered correctly at each strength; None where it is not known."""
        if self.correct_after is None:
            return None
        return tuple(proportion(right, self.clusters) for right in self.correct_after.unbind(1))

    @property
    @torch_defaults()
    def changed(self) -> tuple[Proportion, ...]:
        """The share of prompts whose most likely token is another one than without the vector, at each strength."""
        plain = self.predicted or ()
        other = [[a != p for a in row] for row, p in zip(self.answers, plain, strict=True)]
        return tuple(proportion(column, self.clusters) for column in torch.tensor(other).unbind(1))

    def per_prompt(self) -> dict[str, Float[Tensor, "prompt ..."]]:
        """The numbers of each prompt whose shape does not depend on how long prompts are."""
        return {**super().per_prompt(), "values": self.values, "control": self.control}

    @torch_defaults()
    def to_frame(self) -> pd.DataFrame:
        """One row for each prompt and strength.

        Columns: prompt, strength, value (the metric), control (mean over random directions), answer, and correct where
        it is known.
        """
        import pandas as pd

        n, k = self.values.shape
        columns = {
            "prompt": [i for i in range(n) for _ in range(k)],
            "strength": self.strengths.repeat(n).tolist(),
            "value": self.values.flatten().tolist(),
            "control": self.control.mean(1).flatten().tolist(),
            "answer": [token for row in self.answers for token in row],
        }
        if self.correct_after is not None:
            columns["correct"] = self.correct_after.flatten().tolist()
        return pd.DataFrame(columns)

    def _summary_rows(self) -> list[tuple[str, str]]:
        rows = super()._summary_rows()
        for i, strength in enumerate(self.strengths.tolist()):
            words = f"{format_mean(self.summarized(self.values[:, i]))} logits"
            if self.control.shape[1]:
                words += f", random directions {format_mean(self.summarized(self.control[..., i].mean(1)))}"
            rows.append((f"strength {strength:g}", words))
        return rows
