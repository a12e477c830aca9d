"""The table's ratios, notes and columns, from measurements that are made up here."""

from __future__ import annotations

import json

from maze_dla.bench.cases import Case
from maze_dla.bench.run import BenchReport, Table
from maze_dla.bench.table import as_json, as_text
from maze_dla.bench.timing import Measured

MIB = 1 << 20


def table(n: int = 100, own: float = 0.5, *, tutorial: bool = True, notes: tuple[str, ...] = ()) -> Table:
    rows = [Measured("plain forward, 100 at once", (2.0, 1.0, 1.5), 30 * MIB)]
    if tutorial:
        rows += [Measured("tutorial way", (6.0,), 600 * MIB)]
        rows += [Measured("tutorial way, with pos_slice", (3.0, 3.0, 3.0), 200 * MIB)]
    rows += [
        Measured("maze_dla", (own, own, own), 20 * MIB),
        Measured("maze_dla, with sources", (0.6, 0.6, 0.6), MIB // 2),
    ]
    return Table(Case(f"maze shape: {n} prompts", "maze shape", n, (), notes), tuple(rows))


def report(*tables: Table, startup: tuple[float, float] | None = (0.021, 0.11)) -> BenchReport:
    return BenchReport({"versions": "torch 2", "ran on": "an abacus"}, 3, tables, startup)


def test_the_table() -> None:
    lines = as_text(report(table(notes=("As it was.",)))).splitlines()
    assert lines[:2] == ["versions  torch 2", "ran on    an abacus"]
    assert lines[3:13] == [
        "maze shape: 100 prompts",
        "                                seconds  / plain  faster by  peak MiB  leaner by",
        "  plain forward, 100 at once      1.500     1.00       4.00        30       20.0",
        "  tutorial way                    6.000     4.00       1.00       600       1.00",
        "  tutorial way, with pos_slice    3.000     2.00       2.00       200       3.00",
        "  maze_dla                        0.500     0.33       12.0        20       30.0",
        "  maze_dla, with sources          0.600     0.40       10.0        <1          -",
        "  As it was.",
        "  With sources maze_dla takes 1.20 times as long as without.",
        "  Run only once, as it takes long, so a rough figure (--rounds N repeats it): tutorial way.",
    ]
    assert "import maze_dla takes 0.02 s of its own, maze-dla --help 0.11 s." in lines[14]
    assert lines[16].startswith("How to read it: ")
    assert max(len(line) for line in lines) <= 120


def test_without_the_tutorial_nothing_is_compared_with_it() -> None:
    lines = as_text(report(table(tutorial=False), startup=None)).splitlines()
    assert "  maze_dla                      0.500     0.33          -        20          -" in lines
    assert not any("once, as it takes long" in line or "Fresh processes" in line for line in lines)


def test_memory_that_was_not_measured() -> None:
    whole = table()
    rows = tuple(Measured(row.name, row.seconds, None) for row in whole.rows)
    text = as_text(report(Table(whole.case, rows)))
    assert "  tutorial way                    6.000     4.00       1.00         -          -" in text.splitlines()
    assert "Memory was not measured: that needs Linux or a CUDA device." in text


def test_growth_is_told_from_the_smallest_size() -> None:
    text = as_text(report(table(1000, 4.9), table(100, 0.5), table(10000, 52.0)))
    assert "maze shape: 1,000 prompts take maze_dla 9.80 times as long as 100." in text.splitlines()
    assert "maze shape: 10,000 prompts take maze_dla 104.0 times as long as 100." in text.splitlines()
    assert "times as long as 100." not in as_text(report(table()))


def test_json_holds_every_run() -> None:
    written = json.loads(json.dumps(as_json(report(table(), startup=(0.1, 0.2)))))
    assert written["facts"]["ran on"] == "an abacus"
    assert written["startup_seconds"] == {"import": 0.1, "help": 0.2}
    first = written["tables"][0]
    assert (first["shape"], first["prompts"]) == ("maze shape", 100)
    assert first["ways"][0] == {
        "name": "plain forward, 100 at once",
        "seconds": [2.0, 1.0, 1.5],
        "peak_bytes": 30 * MIB,
    }
