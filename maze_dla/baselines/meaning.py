"""What changed numbers mean, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import combinations

import numpy as np

from maze_dla.baselines.numbers import Measured, Number
from maze_dla.baselines.wording import listed

N_TOP = 5  # heads whose order is looked at
MOST_MOVED = 64  # parts of which pairs are looked at
COUNTS = 0.05  # of the largest: a number whose sign is worth a word


def meaning(now: Measured, before: Measured) -> tuple[str, ...]:
    """Sentences about accuracy, metric, the order and the signs of the strongest parts, and where the lens rises."""
    shared = _shared(now, before)
    found: list[str] = []
    for name in ("accuracy", "metric"):
        if name in shared:
            found += _outside(name, *shared[name])
    for name in ("heads", "layers"):
        if name in shared:
            found += _moved(name, shared)
            found += _silent(name, *shared[name])
            found += _exchanged(name, *shared[name])
            found += _places(name, *shared[name])
            found += _signs(name, *shared[name])
    if "lens" in shared:
        found += _half(*shared["lens"])
    changed = sum(one != other for one, other in zip(now.predicted, before.predicted, strict=False))
    if changed:
        found.append(f"the model's likeliest token is another one in {changed} of {len(before.predicted)} prompts")
    return tuple(found)


def _shared(now: Measured, before: Measured) -> dict[str, tuple[Number, Number]]:
    """The numbers that both have, with the labels that both have in the order of the new run, since files sort them;
    those of each prompt where no label is missing.
    """  # fmt: skip
    found = {}
    for name in (name for name in before.numbers if name in now.numbers):
        new, number = now.numbers[name], before.numbers[name]
        ours, theirs = (of.labels_of(name) for of in (now, before))
        labels = tuple(label for label in ours if label in theirs)
        if new.labels is not None and number.labels is not None and labels:
            found[name] = (_with_labels(new, labels), _with_labels(number, labels))
        elif new.labels is None and number.labels is None and len(labels) == len(ours) == len(theirs):
            found[name] = (new, number)
    return found


def _with_labels(number: Number, labels: tuple[str, ...]) -> Number:
    of = dict(zip(number.labels or (), number.values.tolist(), strict=True))
    return replace(number, values=np.array([of[label] for label in labels]), labels=labels)


def _outside(name: str, now: Number, before: Number) -> Iterator[str]:
    if before.interval is None:
        return
    (low, high), value, was = before.interval, float(now.values[0]), float(before.values[0])
    if not low <= value <= high:
        yield f"{name} is {value:.3f}, outside the interval of the recorded {was:.3f} [{low:.3f}, {high:.3f}]"


def _moved(name: str, shared: Mapping[str, tuple[Number, Number]]) -> Iterator[str]:
    """Which part moved most, by its numbers in each prompt where these are known: a mean can hide them."""
    now, before = shared[name]
    each = shared.get(f"{name} of each prompt")
    change = np.abs(now.values - before.values)
    if each is not None and each[0].values.shape == each[1].values.shape:
        one, other = (number.values.reshape(len(number.values), -1) for number in each)
        change = np.abs(one.astype(np.float64) - other).mean(0)  # of layers without the constant
    most = int(change.argmax())
    if change[most] > before.allowed:
        was, is_now = float(before.values[most]), float(now.values[most])
        mean = f"its mean from {was:+.3f} to {is_now:+.3f}"
        yield f"of the {name}, {(before.labels or ())[most]} moved most: by {change[most]:.3f} in a prompt, {mean}"


def _silent(name: str, now: Number, before: Number) -> Iterator[str]:
    """Which parts write nothing where they wrote something, or the other way round."""
    for one, other, words in ((now, before, "write nothing now"), (before, now, "wrote nothing before")):
        silent = np.flatnonzero((one.values == 0) & (np.abs(other.values) > before.allowed))
        if len(silent):
            yield f"of the {name}, {listed([(before.labels or ())[i] for i in silent])} {words}"


def _exchanged(name: str, now: Number, before: Number) -> Iterator[str]:
    """Which parts gave what another one gives now, and the other way round."""
    found, labels, least = [], before.labels or (), before.allowed
    moved = [int(i) for i in np.flatnonzero(np.abs(now.values - before.values) > least)]
    for i, j in combinations(moved, 2) if len(moved) <= MOST_MOVED else ():
        if abs(now.values[i] - before.values[j]) <= least and abs(now.values[j] - before.values[i]) <= least:
            found.append(f"{labels[i]} and {labels[j]}")
    if found:
        yield f"{name} changed places, each gives what the other gave: {listed(found)}"


def _places(name: str, now: Number, before: Number) -> Iterator[str]:
    """Which of the strongest parts changed places."""
    one, other = (list(np.argsort(-np.abs(number.values), kind="stable")) for number in (now, before))
    top = other[:N_TOP]
    moved = [i for place, i in enumerate(top) if one.index(i) != place]
    labels = before.labels or ()
    if moved:
        shown = ", ".join(f"{labels[i]} from place {other.index(i) + 1} to {one.index(i) + 1}" for i in moved)
        yield f"the order of the strongest {name} changed: {shown}"


def _signs(name: str, now: Number, before: Number) -> Iterator[str]:
    """Which parts of some size have another sign."""
    least = COUNTS * float(np.abs(before.values).max())
    flipped = np.flatnonzero((now.values * before.values < 0) & (np.abs(before.values) > least))
    labels = before.labels or ()
    if len(flipped):
        shown = listed([f"{labels[i]} {before.values[i]:+.3f} to {now.values[i]:+.3f}" for i in flipped])
        yield f"the sign of {name} flipped: {shown}"


def _half(now: Number, before: Number) -> Iterator[str]:
    depths = [_first_half(number) for number in (before, now)]
    if depths[0] != depths[1]:
        yield f"half of the metric can be read from {depths[1]} on, before from {depths[0]} on"


def _first_half(lens: Number) -> str:
    last = lens.values[-1]
    if not last > 0:
        return "nowhere (it is not positive)"
    return (lens.labels or ())[int(np.argmax(lens.values >= last / 2))]
