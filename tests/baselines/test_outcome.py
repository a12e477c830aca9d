"""The outcome of a check as an object and as text, and what it says of changed numbers."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from maze_dla.baselines.comparing import MISSING, Row, compared
from maze_dla.baselines.files import read_baselines
from maze_dla.baselines.meaning import meaning
from maze_dla.baselines.numbers import Measured, Number
from maze_dla.baselines.outcome import BaselineCheck, Change, Checked
from maze_dla.baselines.wording import listed

HEADS = ("L0H0", "L0H1", "L1H0")


def measured(*heads: float, accuracy: float = 0.5, predicted: tuple[str, ...] = ("a", "b")) -> Measured:
    numbers = {
        "heads": Number(np.array(heads), HEADS[: len(heads)], 1e-5, 2.0),
        "accuracy": Number(np.array([accuracy]), ("share",), 0.0, 1.0, (0.4, 0.6)),
    }
    return Measured(numbers, predicted, ())


def test_rows_have_the_worst_first() -> None:
    before = measured(1.0, 0.5, -2.0)
    rows = compared(measured(1.0, 0.5001, -1.0), before, coarser=False)
    assert [row.name for row in rows[:2]] == ["heads L1H0", "heads L0H1"]
    assert rows[0].error == 1.0
    assert rows[0].allowed == 2e-5
    assert rows[0].ratio == pytest.approx(5e4)
    assert not rows[0].holds
    assert all(row.holds for row in rows[2:])
    assert all(row.holds for row in compared(before, before, coarser=False))


def test_the_coarser_tolerance_counts_on_request_alone() -> None:
    before, now = measured(1.0), measured(1.001)
    coarse = replace(now, numbers={**now.numbers, "heads": replace(now.numbers["heads"], tolerance=0.05)})
    assert not compared(coarse, before, coarser=False)[0].holds
    assert compared(coarse, before, coarser=True)[0].holds


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_fails(value: float) -> None:
    row = compared(measured(value), measured(1.0), coarser=False)[0]
    assert not row.holds
    assert math.isinf(row.ratio)
    assert not Row("x", 1.0, 1.0, 0.1, MISSING).holds


def test_another_largest_part_or_interval_fails() -> None:
    before = measured(1.0)
    wider = replace(before.numbers["heads"], largest=200.0)
    row = compared(before, replace(before, numbers={**before.numbers, "heads": wider}), coarser=False)[0]
    assert (row.name, row.holds) == ("heads: largest part", False)
    for interval in ((0.4, 0.7), None):
        moved = replace(before.numbers["accuracy"], interval=interval)
        row = compared(before, replace(before, numbers={**before.numbers, "accuracy": moved}), coarser=False)[0]
        assert row.name.startswith("accuracy: interval")
        assert not row.holds


def test_likeliest_tokens() -> None:
    before = measured(1.0)
    now = replace(before, predicted=("a", "c"))
    row = compared(now, before, coarser=False)[0]
    assert (row.name, row.obtained) == ("prompts with another likeliest token", 1.0)
    assert compared(replace(now, near_ties=(1,)), before, coarser=False)[0].holds
    assert not compared(replace(before, predicted=("a",)), before, coarser=False)[0].holds


def test_words() -> None:
    before = measured(1.0, 0.5, -2.0)
    assert meaning(before, before) == ()
    assert meaning(measured(0.5, 1.0, -2.0), before) == (
        "of the heads, L0H0 moved most: by 0.500 in a prompt, its mean from +1.000 to +0.500",
        "heads changed places, each gives what the other gave: L0H0 and L0H1",
        "the order of the strongest heads changed: L0H0 from place 2 to 3, L0H1 from place 3 to 2",
    )
    text = "\n".join(meaning(measured(0.0, 0.5, 2.0, accuracy=0.9, predicted=("a", "c")), before))
    assert "accuracy is 0.900, outside the interval of the recorded 0.500 [0.400, 0.600]" in text
    assert "of the heads, L0H0 write nothing now" in text
    assert "the sign of heads flipped: L1H0 -2.000 to +2.000" in text
    assert "another one in 1 of 2 prompts" in text
    assert "of the heads, L0H0 wrote nothing before" in meaning(before, measured(0.0, 0.5, -2.0))


def test_as_text_and_table(recorded: Path) -> None:
    before = measured(1.0, 0.5, -2.0)
    rows = compared(measured(1.0, 0.5, -1.0), before, coarser=False)
    outcome = Checked("m: task", (Change("versions", "torch 1 became 2", fails=False),), rows, ("words",))
    assert outcome.lines()[:6] == [
        "m: task: CHANGED",
        "  weights: same",
        "  prompts: same",
        "  versions: torch 1 became 2",
        f"  numbers: 1 of {len(rows)} are not within what is allowed",
        "  it means: words",
    ]
    assert outcome.lines()[6].split() == ["name", "expected", "obtained", "error", "allowed", "error/allowed"]
    assert outcome.lines()[7].split() == ["heads", "L1H0", "-2", "-1", "1", "2e-05", "5e+04"]
    table = outcome.table
    assert list(table.columns) == ["name", "expected", "obtained", "error", "allowed", "error/allowed", "note"]
    assert len(table) == len(rows)
    assert table["error/allowed"].is_monotonic_decreasing
    fine = Checked("n", (), rows[1:], ())
    lost = Checked("o", (Change("weights", "others", fails=True),), (), (), problem="no such file")
    assert fine.same
    assert not replace(fine, changes=(Change("prompts", "x", fails=True),)).same
    assert lost.lines() == ["o: CANNOT BE CHECKED: no such file", "  weights: others"]
    check = BaselineCheck("b.json", (fine, lost))
    assert not check.same
    assert check.problems == ("o: no such file",)
    assert repr(check).startswith("b.json\nn: same\n")
    assert "\x1b" not in repr(BaselineCheck("\x1b[31m.json", (fine,)))
    assert len(read_baselines(recorded)) == 1


def test_lists_of_names() -> None:
    assert listed(["a", "b"]) == "a, b"
    assert listed(list("abcdefg")) == "a, b, c, d, e and 2 more"
