"""The base of all results: prompts, model, metric, accuracy, and files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from maze_dla.errors import visible
from maze_dla.results.buckets import buckets_of
from maze_dla.results.columns import Columns, groups_of, name_of
from maze_dla.results.statistics import Proportion, Summary, proportion, summarize
from maze_dla.results.words import about
from maze_dla.torch_defaults import torch_defaults

if TYPE_CHECKING:
    import pandas as pd

CAN_DO_THE_TASK = 0.5  # below this accuracy a result says that the model cannot do its task


class Reported:
    """How results say what they are: a few lines, or in a notebook a table."""

    @property
    def accuracy(self) -> Proportion | None:
        """The share of prompts that the model answers correctly; None where the metric has no notion of right."""
        raise NotImplementedError

    @property
    def warning(self) -> str | None:
        """A sentence where the model cannot do the task, so that its parts explain no skill; else None."""
        accuracy = self.accuracy
        if accuracy is None or accuracy.value >= CAN_DO_THE_TASK:
            return None
        return f"The model cannot do this task (accuracy {accuracy}): its parts explain no skill."

    def _summary_rows(self) -> list[tuple[str, str]]:
        """The lines of the short representation: name and value."""
        raise NotImplementedError

    def __repr__(self) -> str:
        lines = [f"  {visible(name)}: {visible(value)}" for name, value in self._summary_rows()]
        if self.warning:
            lines.append(f"  {self.warning}")
        return "\n".join([type(self).__name__, *lines])

    def _repr_html_(self) -> str:
        from html import escape

        rows = "".join(
            f"<tr><th style='text-align:left'>{escape(name)}</th><td style='text-align:left'>{escape(value)}</td></tr>"
            for name, value in self._summary_rows()
        )
        warning = f"<p><b>{escape(self.warning)}</b></p>" if self.warning else ""
        return f"<b>{type(self).__name__}</b><table>{rows}</table>{warning}"


@dataclass(frozen=True, eq=False, repr=False)
class PromptResult(Reported):
    """A result over prompts.

    `metric` is the metric of each prompt, computed from the model's own logits, in logits. `correct` says for which
    prompts the most likely token is right, one of the prompt's answers; None where the metric has no notion of right.
    `preferred` says, where the batch names wrong tokens as IOI does, for which prompts the best right token is likelier
    than the best wrong one; there `info["forced_choice"]` is set, and accuracy is the share of these.
    `prompt_tokens` are the prompts' tokens as strings, `targets` the (first) token that should follow, `predicted` the
    model's most likely one. `columns` say what each prompt is, for the `table`. `info` names the model, its
    checkpoint's hash, the task, the seed and the metric, and as "unit" the column of what prompts are about: those
    about one thing are not independent, and intervals are clustered by it.
    """

    metric: Float[Tensor, " prompt"]
    correct: Bool[Tensor, " prompt"] | None
    prompt_tokens: tuple[tuple[str, ...], ...]
    targets: tuple[str, ...]
    info: Mapping[str, Any]
    preferred: Bool[Tensor, " prompt"] | None = field(default=None, kw_only=True)
    predicted: tuple[str, ...] | None = field(default=None, kw_only=True)
    columns: Columns = field(default_factory=dict, kw_only=True)

    def __len__(self) -> int:
        return len(self.metric)

    @property
    def answered(self) -> Bool[Tensor, " prompt"] | None:
        """Which prompts count as answered correctly: `preferred` where wrong tokens are named, else `correct`."""
        # results of version 0.1 hold under `correct` what is now `preferred`
        forced = self.info.get("forced_choice") and self.preferred is not None
        return self.preferred if forced else self.correct

    @property
    def accuracy(self) -> Proportion | None:
        """The share of prompts that the model answers correctly; None where the metric has no notion of right."""
        return None if self.answered is None else proportion(self.answered, self.clusters)

    @cached_property
    @torch_defaults()
    def clusters(self) -> Int[Tensor, " prompt"]:
        """The number of what each prompt is about, a maze for one, from 0; where that is not known, of the prompt."""
        named = self.columns.get(str(self.info.get("unit")))
        return torch.arange(len(self)) if named is None else groups_of(named)

    @cached_property
    @torch_defaults()
    def buckets(self) -> Int[Tensor, " prompt"]:
        """The bucket of each prompt, one of 64, by a hash of what it is about: the same in whatever order they come."""
        named = self.columns.get(str(self.info.get("unit")))
        return buckets_of(tuple(map(name_of, self.prompt_tokens)) if named is None else named)

    @property
    def about(self) -> str:
        """Of how many things the prompts are, where they are not of one each: " about 50 mazes"."""
        return about(len(self), int(self.clusters.max()) + 1, self.info.get("unit"))

    @property
    @torch_defaults()
    def table(self) -> pd.DataFrame:
        """One row for each prompt, with its number as the index: what it is, what the model says, and the metric.

        First come the prompts' own columns; of mazes: `maze` (a name that is the same wherever the maze is), `task`,
        `step`, `origin_cell`, `target_cell`, `path_length` (steps of the whole path), `distance` (steps left),
        `manhattan` (rows and columns between the current cell and the target) and `legal_moves`. Then `answer`,
        `predicted`, `correct`, `preferred` (as far as they are known), `metric` in logits, and columns of your own.
        """
        import pandas as pd

        said = {"answer": self.targets, "predicted": self.predicted, "correct": self.correct}
        said |= {"preferred": self.preferred, "metric": self.metric}
        known = {name: values for name, values in {**self.columns, **said}.items() if values is not None}
        return pd.DataFrame({name: v.tolist() if isinstance(v, Tensor) else list(v) for name, v in known.items()})

    def summarized(self, values: Float[Tensor, "prompt ..."]) -> Summary:
        """Mean, standard error and 95% interval over prompts of numbers with a prompt axis, clustered by `clusters`."""
        return summarize(values, self.clusters)

    def metric_summary(self) -> Summary:
        """Mean, standard error and interval of the metric over prompts."""
        return self.summarized(self.metric)

    def save(self, path: str | Path) -> Path:
        """Write the result to a `.zanj` file, replacing one of that name only when the new one is whole.

        Raises:
            ResultFileError: a name that does not end in `.zanj`, or a folder that cannot be written.
        """
        from maze_dla.results.storage import save_result

        return save_result(self, path)

    def to_frame(self) -> pd.DataFrame:
        """The result as a table in long form, one row for each prompt and number."""
        raise NotImplementedError

    def per_prompt(self) -> dict[str, Float[Tensor, "prompt ..."]]:
        """The numbers of each prompt whose shape does not depend on how long prompts are."""
        return {"metric": self.metric}

    @property
    def axis_labels(self) -> dict[str, tuple[str, ...]]:
        """Names for the last axis of some of them."""
        return {}

    def _summary_rows(self) -> list[tuple[str, str]]:
        summary = self.metric_summary()
        return [
            ("model", str(self.info.get("model", "?"))),
            ("task", str(self.info.get("task", "?"))),
            ("prompts", str(len(self)) + self.about),
            ("accuracy", shown_accuracy(self.accuracy)),
            (str(self.info.get("metric", "metric")), f"{format_mean(summary)} logits"),
        ]


def shown_accuracy(accuracy: Proportion | None) -> str:
    """The share with its interval, or that there is none."""
    return "none: the metric has no notion of right" if accuracy is None else str(accuracy)


def format_mean(summary: Summary) -> str:
    """A mean with its interval, "3.55 [3.12, 3.98]"."""
    mean, low, high = map(float, (summary.mean, summary.low, summary.high))
    return f"{mean:.3f} [{low:.3f}, {high:.3f}]" if summary.n > 1 else f"{mean:.3f} (one prompt, no interval)"
