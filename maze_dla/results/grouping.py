"""Prompts in groups: by the values of a column, or by bins of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from maze_dla.errors import InputError, check_list, whole_number
from maze_dla.results.columns import Column, checked_columns
from maze_dla.results.selection import check_rows

if TYPE_CHECKING:
    from maze_dla.results.base import PromptResult

Label = bool | int | float | str
BINS = "bins is None, a number of bins, or their edges in ascending order"
OWN = "values"  # the name of a grouping by values that have none


@dataclass(frozen=True)
class Edges:
    """Bins from each edge up to the next, which belongs to the next bin; the last edge belongs to the last bin."""

    edges: tuple[float, ...]

    def number(self, values: Sequence[Label]) -> list[int]:
        """The bin of each value.

        Raises:
            InputError: a value that is no number, or outside the edges.
        """
        numbers = np.array([_as_number(value) for value in values], dtype=float)
        low, high = self.edges[0], self.edges[-1]
        if (outside := ~((numbers >= low) & (numbers <= high))).any():
            raise InputError(
                f"the value {_shown(numbers[outside][0])} is outside the edges {_shown(low)} to {_shown(high)}: "
                "an edge may be float('inf') or its negative"
            )
        return np.searchsorted(self.edges[1:-1], numbers, side="right").tolist()

    def label(self, number: int) -> str:
        """The range of a bin, as "[0, 3)"."""
        low, high = self.edges[number], self.edges[number + 1]
        closed = number == len(self.edges) - 2 and np.isfinite(high)
        return f"[{_shown(low)}, {_shown(high)}{']' if closed else ')'}"


def checked_edges(bins: Any) -> Edges | None:
    """Edges of bins as a caller gives them; None stands for none.

    Raises:
        InputError: anything else, fewer than two of them, or edges that do not ascend.
    """
    if bins is None:
        return None
    try:
        edges = tuple(float(edge) for edge in bins) if not isinstance(bins, str) else ()
    except (TypeError, ValueError):
        edges = ()
    if len(edges) < 2 or not all(a < b for a, b in pairwise(edges)):
        raise InputError(f"{BINS}, got {bins!r:.60}")
    return Edges(edges)


def column_of(result: PromptResult, given: Any) -> tuple[str, list[Label]]:
    """A column of the result's table by name, or values of the caller's own, with the name they go by.

    Raises:
        InputError: no such column, values of another number or with the index of another table, or a missing value.
    """
    values: Sequence[Label]
    if isinstance(given, str):
        table = result.table
        if given not in table:
            raise InputError(f"no column {given!r}: this result has {', '.join(map(str, table))}")
        name, values = given, table[given].tolist()
    else:
        if hasattr(given, "iloc") and not hasattr(given, "columns"):
            check_rows(given, len(result), "a Series to group by")
        check_list(given, "values to group by")
        name = str(getattr(given, "name", None) or OWN)
        held: Column = checked_columns({OWN: given}, len(result))[OWN]
        values = held.tolist() if isinstance(held, Tensor) else list(held)
    if (missing := [i for i, value in enumerate(values) if value != value or value is None]) != []:
        raise InputError(f"{name} has no value for prompt {missing[0]}: select the prompts that have one first")
    return name, list(values)


def groups_by(values: Sequence[Label], bins: Any) -> list[tuple[Label, Int[Tensor, " chosen"]]]:
    """The label of each group, with the numbers of its prompts; numbers ascend, texts stand as they first come.

    Raises:
        InputError: bins that are neither a number nor edges, or bins of texts.
    """
    if (n_bins := whole_number(bins)) is not None:
        return _quantile_bins(values, n_bins)
    if isinstance(edges := checked_edges(bins), Edges):
        numbers = edges.number(values)
        return [(edges.label(number), chosen) for number, chosen in _by_value(numbers)]
    return _by_value(values)


def ordered(labels: Sequence[Label]) -> list[Label]:
    """Numbers in ascending order; where there are texts, all as they are."""
    return list(labels) if any(isinstance(label, str) for label in labels) else sorted(labels)


def _by_value(values: Sequence[Any]) -> list[tuple[Any, Int[Tensor, " chosen"]]]:
    prompts: dict[Label, list[int]] = {}
    for i, value in enumerate(values):
        prompts.setdefault(value, []).append(i)
    return [(label, torch.tensor(prompts[label])) for label in ordered(list(prompts))]


def _quantile_bins(values: Sequence[Label], n_bins: int) -> list[tuple[Label, Int[Tensor, " chosen"]]]:
    """Bins of about as many prompts each, from smallest to largest; prompts of one value are in one bin.

    Raises:
        InputError: fewer than one bin, or values that are no numbers.
    """
    if n_bins < 1:
        raise InputError(f"{BINS}, got {n_bins}")
    numbers = np.array([_as_number(value) for value in values], dtype=float)
    inner = np.quantile(numbers, np.arange(1, n_bins) / n_bins, method="inverted_cdf")
    bin_of = np.searchsorted(np.unique(inner), numbers, side="left").tolist()  # a quantile ends its bin
    return [(_range(numbers[chosen.numpy()]), chosen) for _, chosen in _by_value(bin_of)]


def _range(values: np.ndarray) -> str:
    """The smallest and the largest of some values, as "4 to 7"."""
    low, high = _shown(values.min()), _shown(values.max())
    return low if low == high else f"{low} to {high}"


def _as_number(value: Label) -> float:
    if isinstance(value, str):
        raise InputError(f"bins are of numbers, got the text {value!r:.60}")
    return float(value)


def _shown(number: float) -> str:
    return f"{number:.4g}" if abs(number) < 1e4 or not np.isfinite(number) else f"{number:g}"
