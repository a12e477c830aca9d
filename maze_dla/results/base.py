"""The base of all results: prompts, model, metric, accuracy, and files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from maze_dla.errors import visible
from maze_dla.results.buckets import buckets_of
from maze_dla.results.columns import Columns, groups_of, name_of
from maze_dla.results.selection import selected
from maze_dla.results.skill import BASELINES, CHANCE, CHOSEN_AS, Skill, skill_of_prompts
from maze_dla.results.statistics import Proportion, Summary, proportion, summarize
from maze_dla.results.torch_defaults import torch_defaults
from maze_dla.results.words import about

if TYPE_CHECKING:
    import pandas as pd

    from maze_dla.results.groups import GroupedResult

Result = TypeVar("Result", bound="PromptResult")


class Shown:
    """How results say what they are: a few lines, or in a notebook a table."""

    @property
    def warning(self) -> str | None:
        """A sentence about what the numbers do not show; None where there is nothing to warn of."""
        return None

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


class Reported(Shown):
    """Results that know how often the model is right, and by `info` of which model and prompts."""

    info: Mapping[str, Any]

    @property
    def accuracy(self) -> Proportion | None:
        """The share of prompts that the model answers correctly; None where the metric has no notion of right."""
        raise NotImplementedError

    @property
    def skill(self) -> Skill | None:
        """The accuracy beside chance and plain strategies; None where the metric has no notion of right."""
        raise NotImplementedError

    @property
    def warning(self) -> str | None:
        """A sentence where the accuracy is not above chance, or not above the best plain strategy; else None.

        Compared by prompt, with 95% intervals that are clustered, over the prompts with at least two candidates. Where
        neither is known, as for texts without wrong tokens, the model has to answer any prompt rightly. Of prompts that
        were chosen by how the model answers them it says just that.
        """
        if chosen := self.info.get(CHOSEN_AS):
            return f"The prompts were chosen as {chosen}: their accuracy and their metric say nothing of its skill."
        accuracy, skill = self.accuracy, self.skill
        if accuracy is None or skill is None:
            return None
        return skill.warning(accuracy.value > 0, str(accuracy))


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

    @property
    @torch_defaults()
    def chance(self) -> Float[Tensor, " prompt"]:
        """The probability that guessing is right: |right answers that are candidates| / |candidates| of each prompt.

        Candidates are what a guess may name: of a maze the cells that a passage connects with the current one, and at
        the end of the path also `<PATH_END>`; for the origin, all cells of the adjacency list; where wrong tokens are
        named, these and the right ones. NaN where candidates are not known, or where there is one alone.
        """
        held = self.columns.get(CHANCE)
        return held.double() if isinstance(held, Tensor) else torch.full((len(self),), torch.nan, dtype=torch.float64)

    @property
    @torch_defaults()
    def baselines(self) -> dict[str, Float[Tensor, " prompt"]]:
        """For each plain strategy the probability that it answers each prompt rightly, NaN where it does not apply.

        Of mazes: "random legal move" (chance, and 1 where there is one candidate), "not going back" (the same without
        the cell one came from), "towards the goal" (to the neighbour nearest to the target in rows and columns, ties in
        part) and "majority token" (the most common answer to the same task in the batch's other mazes).
        """
        held = {name: self.columns.get(name) for name in self.info.get(BASELINES, ())}
        return {name: values.double() for name, values in held.items() if isinstance(values, Tensor)}

    @property
    @torch_defaults()
    def skill(self) -> Skill | None:
        """The accuracy beside chance and plain strategies; None where the metric has no notion of right."""
        if self.answered is None:
            return None
        return skill_of_prompts(self.answered, self.columns, self.info, self.clusters)

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
        `manhattan` (rows and columns between the current cell and the target), `legal_moves`, `candidates` (how many),
        `chance`, and the probability that each plain strategy of `baselines` is right. Then `answer`, `predicted`,
        `correct`, `preferred` (as far as they are known), `metric` in logits, and columns of your own.
        """
        import pandas as pd

        said = {"answer": self.targets, "predicted": self.predicted, "correct": self.correct}
        said |= {"preferred": self.preferred, "metric": self.metric}
        known = {name: values for name, values in {**self.columns, **said}.items() if values is not None}
        return pd.DataFrame({name: v.tolist() if isinstance(v, Tensor) else list(v) for name, v in known.items()})

    @torch_defaults()
    def select(self: Result, prompts: Any) -> Result:
        """The result of just these prompts, numbered anew in this order, or of those where a mask holds.

        Where neurons of every prompt are held, their mean and variance are those of the chosen; where only mean and
        variance of all prompts are (`neurons="mean"`), the selection has none.

        Args:
            prompts: numbers, or a mask [prompt], of numpy, torch or pandas: `result.table.distance > 6`.

        Raises:
            InputError: neither of these, a number outside the result, a mask of another length or of another table, or
                no prompt is chosen.
        """
        return selected(self, prompts)

    def group_by(self, by: Any, bins: Any = None) -> GroupedResult:
        """Means of everything by group of prompts, with clustered intervals.

        Args:
            by: the name of a column of `table`, or a number or text for each prompt.
            bins: None for a group of each value; a number for bins of about as many prompts each, fewer where many
                have one value; or edges, [0, 4, 8, float("inf")], each bin up to the next edge, which belongs to the
                next bin, save the last. Bins without prompts are left out.

        Raises:
            InputError: no such column, values of another number or with a missing one among them, bins that are none
                of these or do not hold every value, or bins of texts.
        """
        from maze_dla.results.groups import GroupedResult

        return GroupedResult.of(self, by, bins)

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

    def lists(self) -> dict[str, list[Tensor]]:
        """Numbers of which prompts have different numbers each, a tensor for each prompt."""
        return {}

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
            *skill_rows(self.skill),
            (str(self.info.get("metric", "metric")), f"{format_mean(summary)} logits"),
        ]


def shown_accuracy(accuracy: Proportion | None) -> str:
    """The share with its interval, or that there is none."""
    return "none: the metric has no notion of right" if accuracy is None else str(accuracy)


def skill_rows(skill: Skill | None, n_strategies: int = 1) -> list[tuple[str, str]]:
    """Chance and the best plain strategies beside the accuracy on the same prompts: name and value of each line."""
    if skill is None:
        return []
    rows = []
    if skill.chance is None:
        rows.append(("chance", "none: all have a single candidate" if skill.n_single == skill.n else "not known"))
    for compared in (*([skill.chance] if skill.chance else []), *skill.strategies[:n_strategies]):
        best = "best " if compared in skill.strategies[:1] else ""
        name = compared.name if compared.name == CHANCE else f'{best}plain strategy, "{compared.name}"'
        model = f"the model {compared.accuracy:.3f} on {skill.part(compared)}"
        rows.append((name, f"{format_mean(compared.plain)}, {model}"))
    return rows


def format_mean(summary: Summary) -> str:
    """A mean with its interval, "3.55 [3.12, 3.98]"."""
    mean, low, high = map(float, (summary.mean, summary.low, summary.high))
    return f"{mean:.3f} [{low:.3f}, {high:.3f}]" if summary.n > 1 else f"{mean:.3f} (one prompt, no interval)"


def format_signed(summary: Summary) -> str:
    """A mean with its sign and interval, "+0.350 [+0.199, +0.500]"; the mean alone where the interval is not known."""
    mean, low, high = map(float, (summary.mean, summary.low, summary.high))
    return f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]" if low == low else f"{mean:+.3f}"
