"""Groups of a saved result: one result for each label, all of one kind."""

from __future__ import annotations

from typing import Any

from maze_dla.results.base import PromptResult
from maze_dla.results.groups import GroupedResult
from maze_dla.results.streamed import StreamedResult

OF_GROUPS = (PromptResult, StreamedResult)


def check_groups(grouped: GroupedResult) -> None:
    """Refuse groups that no grouping can have made.

    Raises:
        ValueError: naming the field.
    """
    labels, results = grouped.labels, grouped.results
    if not isinstance(labels, tuple) or not all(isinstance(label, bool | int | float | str) for label in labels):
        raise ValueError(f"labels: expected numbers or texts, got {labels!r:.80}")
    if not isinstance(results, tuple) or not results or len(results) != len(labels) or len(set(labels)) < len(labels):
        raise ValueError(f"labels: {len(labels)}, no two alike, expected one for each of the groups")
    if len({type(result) for result in results}) > 1 or not isinstance(results[0], OF_GROUPS):
        raise ValueError("results: not all of one kind that has groups")


def check_groups_of_stream(stream: StreamedResult) -> None:
    """Refuse groups that are no streams of the same kind, or do not have the prompts of the whole between them.

    Raises:
        ValueError: naming the field.
    """
    grouped: Any = stream.groups
    of = grouped.results if isinstance(grouped, GroupedResult) else ()
    if not of or not all(isinstance(one, StreamedResult) and one.of == stream.of and one.groups is None for one in of):
        raise ValueError(f"groups: expected streams of {stream.of}")
    if (n := sum(one.n for one in of)) != stream.n:
        raise ValueError(f"groups: {n} prompts of {stream.n}")
