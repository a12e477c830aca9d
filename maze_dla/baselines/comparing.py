"""Recorded numbers beside those of a new run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from maze_dla.baselines.numbers import Measured, Number

MISSING, EXTRA = "missing", "not in the file"
# an interval of two mazes reaches t = 12.7 times their distance from the mean, one of more mazes less far
OF_INTERVALS, ROUNDING = 14.0, 1e-9
Interval = tuple[float, float] | None


@dataclass(frozen=True)
class Row:
    """One number beside the recorded one; NaN where there is none, or `note` says what else is wrong."""

    name: str
    expected: float
    obtained: float
    allowed: float
    note: str = ""

    @property
    def error(self) -> float:
        """How far apart they are."""
        error = abs(self.obtained - self.expected)
        return error if error == error else math.inf

    @property
    def ratio(self) -> float:
        """The error as a multiple of what is allowed."""
        if self.note or not self.error <= self.allowed:
            return max(self.error / self.allowed, 1.0) if self.allowed > 0 and math.isfinite(self.error) else math.inf
        return self.error / self.allowed if self.error else 0.0

    @property
    def holds(self) -> bool:
        """Whether the number is as it was recorded."""
        return not self.note and self.error <= self.allowed


def compared(now: Measured, before: Measured, *, coarser: bool) -> tuple[Row, ...]:
    """A row for each number of either, the worst first; of the numbers of each prompt one row for the worst of them.

    Args:
        now, before: the new run and the recorded one.
        coarser: whether the new run's tolerances count where they are larger, since it computes in another precision.
    """
    rows = [row for name in before.numbers if name not in now.numbers for row in _alone(name, before, MISSING)]
    rows += [row for name in now.numbers if name not in before.numbers for row in _alone(name, now, EXTRA)]
    for name, number in before.numbers.items():
        if name in now.numbers:
            rows += _both(name, now.numbers[name], number, coarser, now.labels_of(name))
    rows.append(_predictions(now, before))
    return tuple(sorted(rows, key=lambda row: (row.holds, -row.ratio)))


def _alone(name: str, measured: Measured, note: str) -> list[Row]:
    return [Row(name, math.nan, math.nan, measured.numbers[name].allowed, note)]


def _both(name: str, now: Number, before: Number, coarser: bool, labels: tuple[str, ...]) -> list[Row]:
    tolerance = max(now.tolerance, before.tolerance) if coarser else before.tolerance
    allowed = tolerance * before.largest
    rows = [*_each(name, now, before, allowed, labels)]
    if all(row.holds for row in rows):  # else it says nothing new; what is allowed must not hide behind it
        rows.append(Row(f"{name}: largest part", before.largest, now.largest, tolerance * now.largest))
        rows += _intervals(name, now.interval, before.interval, OF_INTERVALS * allowed + ROUNDING)
    return rows


def _intervals(name: str, now: Interval, before: Interval, allowed: float) -> list[Row]:
    if now is None and before is None:
        return []
    if now is None or before is None:
        note = MISSING if now is None else EXTRA
        return [Row(f"{name}: interval", math.nan, math.nan, allowed, note)]
    pairs = zip(("low", "high"), before, now, strict=True)
    return [Row(f"{name}: interval, {end}", was, is_now, allowed) for end, was, is_now in pairs]


def _each(name: str, now: Number, before: Number, allowed: float, labels: tuple[str, ...]) -> Iterator[Row]:
    if before.labels is None or now.labels is None:
        yield _worst(name, now.values, before.values, allowed, labels)
        return
    obtained = dict(zip(now.labels, now.values.tolist(), strict=True))
    for label, expected in zip(before.labels, before.values.tolist(), strict=True):
        if label in obtained:
            yield Row(f"{name} {label}", expected, obtained.pop(label), allowed)
        else:
            yield Row(f"{name} {label}", expected, math.nan, allowed, MISSING)
    for label, value in obtained.items():
        yield Row(f"{name} {label}", math.nan, value, allowed, EXTRA)


def _worst(name: str, now: np.ndarray, before: np.ndarray, allowed: float, labels: tuple[str, ...]) -> Row:
    """The number of any prompt that is farthest from the recorded one."""
    if now.shape != before.shape:
        return Row(name, math.nan, math.nan, allowed, f"its shape was {before.shape}, now it is {now.shape}")
    errors = np.abs(now.astype(np.float64) - before.astype(np.float64))
    place = np.unravel_index(np.nan_to_num(errors, nan=np.inf).argmax(), errors.shape)
    within = int(np.ravel_multi_index(place[1:], errors.shape[1:])) if errors.ndim > 1 else len(labels)
    which = f", {labels[within]}" if within < len(labels) else ""
    return Row(f"{name}: prompt {place[0]}{which}", float(before[place]), float(now[place]), allowed)


def _predictions(now: Measured, before: Measured) -> Row:
    """How many prompts have another likeliest token, where two are not about as likely."""
    name = "prompts with another likeliest token"
    if len(now.predicted) != len(before.predicted):
        return Row(name, math.nan, math.nan, 0.0, "another number of prompts")
    ties = {*now.near_ties, *before.near_ties}
    pairs = enumerate(zip(now.predicted, before.predicted, strict=True))
    return Row(name, 0.0, float(sum(one != other for i, (one, other) in pairs if i not in ties)), 0.0)
