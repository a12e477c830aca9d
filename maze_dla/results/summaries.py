"""Means over prompts of an attribution: what results that hold every prompt and streams both know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from maze_dla.errors import InputError
from maze_dla.results.held_out import ByBucket
from maze_dla.results.lens import LensSummary
from maze_dla.results.parts import strongest, sum_of_strongest
from maze_dla.results.ranking import RankedPart
from maze_dla.results.statistics import Summary

if TYPE_CHECKING:
    import pandas as pd

ASK = {
    "neurons": "this result has no neurons: ask with attribute(..., neurons=True) or neurons='mean' (models of "
    "attention alone and mixtures of experts have none, nor selections and groups without neurons=True)",
    "sources_by_kind": "this result has no sources by kind: ask with attribute(..., sources='kinds')",
    "moved_by_kind": "this result has no sources by kind: ask with attribute(..., sources='kinds')",
}


class ContributionSummaries:
    """Means of contributions over prompts with their 95% intervals, in logits.

    All follow from `summary(name)`, which results that hold every prompt and streams answer in their own ways. Where a
    result has no such numbers they raise InputError, which says how to ask for them.
    """

    def summary(self, name: str) -> Summary:
        """Mean, standard error and 95% interval over prompts of one of the result's numbers.

        Raises:
            InputError: the result has no numbers of that name.
        """
        raise NotImplementedError

    def lens_summary(self) -> LensSummary:
        """The mean metric at every depth, at the final norm's recorded scale."""
        raise NotImplementedError

    def layer_summary(self) -> Summary:
        """Mean, standard error and interval of each layer's contribution over prompts, [component]."""
        return self.summary("layers")

    def constant_summary(self) -> Summary:
        """Mean, standard error and interval of the constant over prompts."""
        return self.summary("constant")

    def head_summary(self) -> Summary:
        """Mean, standard error and interval of each head's contribution over prompts, [layer, head]."""
        return self.summary("heads")

    def neuron_summary(self) -> Summary:
        """Mean, standard error and interval of each neuron's contribution over prompts, [layer, neuron]."""
        return self.summary("neurons")

    def kind_summary(self) -> Summary:
        """The same of what each head moved from each kind of token, [layer, head, kind]."""
        return self.summary("sources_by_kind")

    def moved_summary(self) -> Summary:
        """The same of what all heads together moved from each kind of token, [kind]."""
        return self.summary("moved_by_kind")

    def by_bucket(self, name: str) -> ByBucket | None:
        """Sums of one of the numbers over each of 64 fixed buckets of mazes; None where they are not known."""
        raise NotImplementedError

    def top_heads(self, k: int = 5) -> list[RankedPart]:
        """The `k` heads with the largest mean contribution by size, in either direction, strongest first.

        Those that are picked for being the largest are partly so by chance. So each of 32 fixed splits by maze picks
        heads on either half, and the other half measures them: a head's mean is that of the halves that did not pick
        it, and the heads are those that are picked most often. With fewer than 8 mazes all of them do both, which the
        heads say.
        """
        return strongest(self.head_summary(), k, "H", self.by_bucket("heads"))

    def top_neurons(self, k: int = 5) -> list[RankedPart]:
        """The `k` neurons with the largest mean contribution by size, estimated as those of `top_heads` are.

        Neurons must have been asked for.
        """
        return strongest(self.neuron_summary(), k, "N", self.by_bucket("neurons"))

    def top_heads_together(self, k: int = 5) -> Summary:
        """The sum of the `k` strongest heads: of those that one half of the mazes picks, measured in the other.

        Mean over the halves of the 32 splits; with fewer than 8 mazes the sum over all of them, without an interval.
        """
        return sum_of_strongest(self.head_summary(), k, self.by_bucket("heads"))

    def top_neurons_together(self, k: int = 20) -> Summary:
        """The same of neurons, which must have been asked for."""
        return sum_of_strongest(self.neuron_summary(), k, self.by_bucket("neurons"))


def no_such_number(name: object, known: list[str]) -> InputError:
    """The error for a number that a result does not have, which says how to ask for it where that is known."""
    return InputError(ASK.get(str(name), f"unknown number {name!r:.80}, this result has {', '.join(known)}"))


def summary_frame(summaries: Mapping[str, Summary], labels: Mapping[str, tuple[str, ...]]) -> pd.DataFrame:
    """Columns number, index, label, mean, standard_error, low, high; one row for each entry of each array.

    `labels` name the entries of the last axis, where they have names.
    """
    import numpy as np
    import pandas as pd

    frames = []
    for name, summary in summaries.items():
        where = [tuple(int(i) for i in index) for index in np.ndindex(*summary.mean.shape)]
        named = labels.get(name)
        columns = {"index": where, "label": [named[i[-1]] if named and i else None for i in where]}
        for column in ("mean", "standard_error", "low", "high"):
            columns[column] = getattr(summary, column).flatten().numpy()
        frames.append(pd.DataFrame({"number": name, **columns}))
    return pd.concat(frames, ignore_index=True)
