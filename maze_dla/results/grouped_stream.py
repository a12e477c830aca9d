"""The groups of a stream: an accumulator for each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from maze_dla.errors import InputError, check_kind, whole_number
from maze_dla.results.base import PromptResult
from maze_dla.results.grouping import Edges, Label, checked_edges, column_of, groups_by, ordered
from maze_dla.results.groups import GroupedResult

if TYPE_CHECKING:
    from maze_dla.results.streaming import Accumulator


@dataclass
class Groups:
    """Results by the values of a column, or by bins of it, in constant memory for each group."""

    column: str
    edges: Edges | None
    make: Callable[[], Any]
    accumulators: dict[Label, Accumulator] = field(default_factory=dict)

    @classmethod
    def by(cls, column: Any, bins: Any, make: Callable[[], Any]) -> Groups:
        """No groups so far.

        Raises:
            InputError: no name of a column, or bins that are no edges.
        """
        check_kind(column, str, "group_by is the name of a column")
        if whole_number(bins) is not None:
            raise InputError(
                f"bins of a stream are edges, such as [0, 4, 8, float('inf')], got {bins!r}: where as many prompts are "
                "in each is known at its end only"
            )
        return cls(column, checked_edges(bins), make)

    def add(self, result: PromptResult) -> None:
        """One more result, its prompts to their groups."""
        edges = None if self.edges is None else self.edges.edges
        for label, chosen in groups_by(column_of(result, self.column)[1], edges):
            self.accumulators.setdefault(label, self.make()).add(result.select(chosen))

    def finished(self) -> GroupedResult:
        """The groups over all prompts, in the order of those of a result that holds every prompt."""
        labels = [*self.accumulators]
        if self.edges is None:
            labels = ordered(labels)
        else:
            known = [self.edges.label(number) for number in range(len(self.edges.edges) - 1)]
            labels = [label for label in known if label in self.accumulators]
        return GroupedResult(self.column, tuple(labels), tuple(self.accumulators[label].finished() for label in labels))
