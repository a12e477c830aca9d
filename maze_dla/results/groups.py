"""Results by group: the same means and intervals for each group of prompts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from jaxtyping import Float
from torch import Tensor

from maze_dla.errors import InputError, visible
from maze_dla.results.base import PromptResult
from maze_dla.results.grouping import Label, column_of, groups_by
from maze_dla.results.patching import PatchResult
from maze_dla.results.ranking import RankedPart
from maze_dla.results.statistics import Proportion, Summary
from maze_dla.results.summaries import ContributionSummaries, no_such_number, summary_frame
from maze_dla.results.torch_defaults import torch_defaults

if TYPE_CHECKING:
    import pandas as pd

    from maze_dla.results.streamed import StreamedResult


@dataclass(frozen=True, eq=False, repr=False)
class GroupedResult:
    """A result for each group of prompts: `results[i]` is that of the prompts whose `column` is `labels[i]`.

    Labels are values of the column, or ranges where it was cut into bins: "4 to 7" names the smallest and the largest
    value of a bin, "[4, 8)" the edges of one, of which the upper one belongs to the next bin. Whatever a result can say
    its groups say too, and an interval is that of the group's own prompts, clustered by what they are about; it is NaN
    where all prompts of a group are about one thing.
    """

    column: str
    labels: tuple[Label, ...]
    results: tuple[Any, ...]

    @classmethod
    @torch_defaults()
    def of(cls, result: PromptResult, by: Any, bins: Any) -> GroupedResult:
        """The groups of a result.

        Raises:
            InputError: no such column, values or bins that do not fit.
        """
        column, values = column_of(result, by)
        groups = groups_by(values, bins)
        return cls(column, tuple(label for label, _ in groups), tuple(result.select(chosen) for _, chosen in groups))

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def n(self) -> tuple[int, ...]:
        """The number of prompts of each group."""
        return tuple(map(len, self.results))

    @property
    def n_clusters(self) -> tuple[int, ...]:
        """The number of mazes, or of whatever the prompts are about, of each group; one may be in several groups."""
        return tuple(result.metric_summary().n_clusters for result in self.results)

    @property
    def accuracy(self) -> tuple[Proportion | None, ...]:
        """The share of right answers of each group, None where the metric has no notion of right."""
        return tuple(result.accuracy for result in self.results)

    @property
    def names(self) -> tuple[str, ...]:
        """The groups in words: "distance 4 to 7"."""
        return tuple(f"{self.column} {visible(label)}" for label in self.labels)

    @torch_defaults()
    def summary(self, name: str) -> Summary:
        """Mean, standard error and 95% interval of one of the results' numbers by group, [group, ...].

        `n` and `n_clusters` are summed over groups. The "change" of patched positions is aligned at the read position,
        [group, ..., offset], NaN where no prompt of a group reaches so far back.

        Raises:
            InputError: the results have no numbers of that name.
        """
        every = [_summary_of(result, name) for result in self.results]

        def stacked(of: Callable[[Summary], Float[Tensor, "..."]]) -> Float[Tensor, "..."]:
            values = [of(one) for one in every]
            if not _by_position(self.results[0]) or values[0].ndim == 0:
                return torch.stack(values)
            width, pad = max(one.shape[-1] for one in values), torch.nn.functional.pad
            return torch.stack([pad(one, (width - one.shape[-1], 0), value=torch.nan) for one in values])

        return Summary(
            stacked(lambda one: one.mean),
            stacked(lambda one: one.standard_error),
            stacked(lambda one: one.low),
            stacked(lambda one: one.high),
            n=sum(one.n for one in every),
            n_clusters=sum(one.n_clusters for one in every),
        )

    def metric_summary(self) -> Summary:
        """Mean, standard error and interval of the metric, [group], in logits."""
        return self.summary("metric")

    def top_heads(self, k: int = 5) -> tuple[list[RankedPart], ...]:
        """For each group its `k` heads with the largest mean contribution by size, strongest first.

        Raises:
            InputError: these are no results of `attribute`, or k is below 0.
        """
        if not all(isinstance(result, ContributionSummaries) for result in self.results):
            raise InputError(f"heads are of results of attribute, these groups hold {type(self.results[0]).__name__}")
        return tuple(result.top_heads(k) for result in self.results)

    @property
    @torch_defaults()
    def table(self) -> pd.DataFrame:
        """One row for each group, with the label as index.

        Columns n, n_clusters, accuracy, accuracy_low, accuracy_high (NaN where there is no notion of right), metric,
        metric_low, metric_high (in logits; NaN where all prompts are about one thing).
        """
        import pandas as pd

        metric, nan = self.metric_summary(), float("nan")
        shares = [(nan,) * 3 if a is None else (a.value, *a.interval) for a in self.accuracy]
        columns: dict[str, Any] = {"n": self.n, "n_clusters": self.n_clusters}
        columns |= dict(zip(("accuracy", "accuracy_low", "accuracy_high"), zip(*shares, strict=True), strict=True))
        for name, values in (("metric", metric.mean), ("metric_low", metric.low), ("metric_high", metric.high)):
            columns[name] = values.tolist()
        return pd.DataFrame(columns, index=pd.Index(self.labels, name=self.column))

    @torch_defaults()
    def to_frame(self) -> pd.DataFrame:
        """Means of everything: columns group, n, number, index, label, mean, standard_error, low, high.

        One row for each entry of each of the numbers that `summary` takes, in each group; `label` names the entry where
        it has a name, a layer's component for one.
        """
        import pandas as pd

        frames = []
        for label, result in zip(self.labels, self.results, strict=True):
            names = result.per_prompt() if isinstance(result, PromptResult) else result.means
            frame = summary_frame({name: _summary_of(result, name) for name in names}, result.axis_labels)
            frame.insert(0, "group", label)
            frame.insert(1, "n", len(result))
            frames.append(frame)
        return pd.concat(frames, ignore_index=True)

    def save(self, path: str | Path) -> Path:
        """Write the groups to a `.zanj` file, as other results; `load_result` reads it.

        Raises:
            ResultFileError: a name that does not end in `.zanj`, or a folder that cannot be written.
        """
        from maze_dla.results.storage import save_result

        return save_result(self, path)

    @property
    def warnings(self) -> tuple[str, ...]:
        """The warnings of groups, each with the group's name."""
        told = zip(self.names, (result.warning for result in self.results), strict=True)
        return tuple(f"{name}: {warning}" for name, warning in told if warning is not None)

    def __repr__(self) -> str:
        title = f"{type(self).__name__} of {len(self)} groups by {visible(self.column)}"
        return "\n".join([title, self.table.to_string(float_format="{:.3f}".format), *self.warnings])

    def _repr_html_(self) -> str:
        from html import escape

        warnings = "".join(f"<p><b>{escape(warning)}</b></p>" for warning in self.warnings)
        return f"<b>{type(self).__name__}</b>{self.table.to_html(float_format='{:.3f}'.format)}{warnings}"


def _summary_of(result: PromptResult | StreamedResult, name: str) -> Summary:
    """A summary by name, of results of any kind."""
    if not isinstance(result, PromptResult) or isinstance(result, ContributionSummaries):
        return result.summary(name)  # pyright: ignore[reportAttributeAccessIssue]
    if _by_position(result) and name == "change":
        return result.change_summary
    numbers = result.per_prompt()
    if not isinstance(name, str) or name not in numbers:
        raise no_such_number(name, [*numbers, *["change"] * _by_position(result)])
    return result.summarized(numbers[name])


def _by_position(result: Any) -> TypeGuard[PatchResult]:
    return isinstance(result, PatchResult) and result.by_position
