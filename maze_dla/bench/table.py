"""The measurements as text to read, and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from maze_dla.bench.cases import OURS, SOURCES, TUTORIAL
from maze_dla.bench.run import BenchReport, Table
from maze_dla.bench.timing import Measured

HEAD = ("", "seconds", "/ plain", "faster by", "peak MiB", "leaner by")
SMALL = 1 << 20
HOW_TO_READ = """\
How to read it: `seconds` is the median of interleaved runs in this process, `/ plain` its ratio to the first row,
`peak MiB` the memory above what was held before; `faster by` and `leaner by` say how many times as long the tutorial
way takes as the row, and how many times as much memory. The tutorial way stacks every position of all prompts (neurons
aside); with pos_slice it stacks only the positions that are read, and all tasks are compared with that. Every way but
the plain one finds lens, layers, heads and neurons; that their numbers are the same was checked before timing."""


def as_text(report: BenchReport) -> str:
    """The report for a terminal: what was run on what, a table for each case, and how to read them."""
    width = max(len(name) for name in report.facts)
    blocks = ["\n".join(f"{name:<{width}}  {value}" for name, value in report.facts.items())]
    blocks += [_table_text(table, report.rounds) for table in report.tables]
    blocks += ["\n".join(lines) for lines in (_growth(report.tables), _startup(report)) if lines]
    return "\n\n".join([*blocks, HOW_TO_READ])


def as_json(report: BenchReport) -> dict[str, Any]:
    """The report as plain data: every run's seconds, and peaks in bytes (null: not measured)."""
    return {
        "facts": dict(report.facts),
        "rounds": report.rounds,
        "tables": [
            {
                "title": table.case.title,
                "shape": table.case.shape,
                "prompts": table.case.n,
                "notes": list(table.case.notes),
                "ways": [{"name": r.name, "seconds": list(r.seconds), "peak_bytes": r.peak} for r in table.rows],
            }
            for table in report.tables
        ],
        "startup_seconds": None
        if report.startup is None
        else dict(zip(("import", "help"), report.startup, strict=True)),
    }


def _table_text(table: Table, rounds: int) -> str:
    tutorial = table.named(TUTORIAL)
    rows = [HEAD, *(_cells(row, table.rows[0], tutorial) for row in table.rows)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEAD))]
    lines = [table.case.title]
    for row in rows:
        numbers = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        lines.append("  ".join(("", row[0].ljust(widths[0]), *numbers)).rstrip())
    return "\n".join([*lines, *(f"  {note}" for note in _notes(table, rounds))])


def _cells(row: Measured, plain: Measured, tutorial: Measured | None) -> tuple[str, ...]:
    faster = leaner = "-"
    if tutorial is not None:
        faster = _ratio(tutorial.median, row.median)
        if tutorial.peak is not None and row.peak is not None and row.peak >= SMALL:
            leaner = _ratio(tutorial.peak, row.peak)
    return (row.name, f"{row.median:.3f}", _ratio(row.median, plain.median), faster, _mebibytes(row.peak), leaner)


def _notes(table: Table, rounds: int) -> list[str]:
    notes = list(table.case.notes)
    own, sources = table.named(OURS), table.named(SOURCES)
    if own and sources:
        notes.append(f"With sources {OURS} takes {_ratio(sources.median, own.median)} times as long as without.")
    if once := [row.name for row in table.rows if len(row.seconds) < rounds]:
        notes.append(f"Run only once, as it takes long, so a rough figure (--rounds N repeats it): {'; '.join(once)}.")
    if table.rows[0].peak is None:
        notes.append("Memory was not measured: that needs Linux or a CUDA device.")
    return notes


def _growth(tables: Sequence[Table]) -> list[str]:
    """How the time grows with the number of prompts, from the smallest of each shape to the others."""
    lines = []
    for shape in dict.fromkeys(table.case.shape for table in tables):
        timed = {t.case.n: row.median for t in tables if t.case.shape == shape and (row := _own_row(t))}
        first = min(timed)
        lines += [
            f"{shape}: {n:,} prompts take {OURS} {_ratio(seconds, timed[first])} times as long as {first:,}."
            for n, seconds in sorted(timed.items())
            if n != first
        ]
    return lines


def _own_row(table: Table) -> Measured | None:
    return next((row for row in table.rows if row.name == OURS), None)


def _startup(report: BenchReport) -> list[str]:
    if report.startup is None:
        return []
    importing, helping = report.startup
    return [f"Fresh processes: import maze_dla takes {importing:.2f} s of its own, maze-dla --help {helping:.2f} s."]


def _ratio(a: float, b: float) -> str:
    return f"{a / b:.2f}" if a / b < 10 else f"{a / b:.1f}" if a / b < 1000 else f"{a / b:,.0f}"


def _mebibytes(peak: int | None) -> str:
    if peak is None:
        return "-"
    return "<1" if peak < SMALL else f"{peak / SMALL:,.0f}"
