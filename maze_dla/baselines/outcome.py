"""What came of a check, as an object and as text."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from maze_dla.baselines.comparing import Row
from maze_dla.errors import visible

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal["question", "weights", "prompts", "versions", "tolerance", "numbers"]
KINDS: tuple[Kind, ...] = ("question", "weights", "prompts", "versions", "tolerance", "numbers")
SHOWN_ROWS = 12
COLUMNS = ("name", "expected", "obtained", "error", "allowed", "error/allowed")


@dataclass(frozen=True)
class Change:
    """Something that is no longer as it was recorded, and whether that fails the check; of numbers, that there are none
    any more.
    """  # fmt: skip

    kind: Kind
    text: str
    fails: bool


@dataclass(frozen=True)
class Checked:
    """One baseline of a file, checked: what changed, every number beside the recorded one, and what that means."""

    name: str
    changes: tuple[Change, ...]
    rows: tuple[Row, ...]
    meaning: tuple[str, ...]
    problem: str | None = None
    """Why it could not be checked; None where it was."""

    @property
    def same(self) -> bool:
        """Whether nothing changed that fails a check."""
        return self.problem is None and all(row.holds for row in self.rows) and not any(c.fails for c in self.changes)

    @property
    def table(self) -> pd.DataFrame:
        """Every number beside the recorded one, the worst first: name, expected, obtained, error, allowed and
        error/allowed, and a note where one of the two is missing.
        """  # fmt: skip
        import pandas as pd

        values = [(r.name, r.expected, r.obtained, r.error, r.allowed, r.ratio, r.note) for r in self.rows]
        return pd.DataFrame(values, columns=[*COLUMNS, "note"])

    def lines(self) -> list[str]:
        """The outcome as text: a verdict, what changed and what it means, and the worst numbers."""
        if self.problem is not None:
            return [f"{self.name}: CANNOT BE CHECKED: {self.problem}", *self._changes(())]
        lines = [f"{self.name}: {'same' if self.same else 'CHANGED'}", *self._changes(("weights", "prompts"))]
        if not self.rows:
            return lines
        broken = [row for row in self.rows if not row.holds]
        lines.append(f"  numbers: {_counted(self.rows, broken)}")
        lines += [f"  it means: {sentence}" for sentence in self.meaning]
        return [*lines, *_table_lines(broken)]

    def _changes(self, always: tuple[Kind, ...]) -> list[str]:
        """A line for each kind of change that there is, and for these kinds in any case."""
        texts = {kind: [change.text for change in self.changes if change.kind == kind] for kind in KINDS}
        return [f"  {kind}: {'; '.join(told) or 'same'}" for kind, told in texts.items() if told or kind in always]


@dataclass(frozen=True, eq=False, repr=False)
class BaselineCheck:
    """The outcome of `check_baseline` for a file: a `Checked` for each of its baselines."""

    file: str
    checks: tuple[Checked, ...]
    stale: tuple[str, ...] = ()
    """Arrays beside the file that belong to none of its baselines."""
    updated: bool = False

    @property
    def same(self) -> bool:
        """Whether every baseline is as it was recorded, and nothing else is in the file."""
        return not self.stale and all(check.same for check in self.checks)

    @property
    def problems(self) -> tuple[str, ...]:
        """Why baselines could not be checked."""
        return tuple(f"{check.name}: {check.problem}" for check in self.checks if check.problem is not None)

    def __repr__(self) -> str:
        lines = [self.file, *(line for check in self.checks for line in check.lines())]
        lines += [f"STALE: the array {name} beside the file belongs to none of its baselines" for name in self.stale]
        if self.updated:
            lines.append("the file was rewritten with what the models say now")
        return "\n".join(visible(line) for line in lines)


def _counted(rows: tuple[Row, ...], broken: list[Row]) -> str:
    if broken:
        return f"{len(broken)} of {len(rows)} are not within what is allowed"
    if not rows or not rows[0].ratio:
        return f"all {len(rows)} are as recorded"
    nearest = f"nearest to its limit is {rows[0].name}, at {rows[0].ratio:.1%} of it"
    return f"all {len(rows)} are within what is allowed; {nearest}"


def _table_lines(broken: list[Row]) -> list[str]:
    """The worst of the numbers that are not as they were, as aligned text."""
    if not broken:
        return []
    shown = [COLUMNS, *(_cells(row) for row in broken[:SHOWN_ROWS])]
    widths = [max(len(cells[i]) for cells in shown) for i in range(len(COLUMNS))]
    lines = []
    for name, *cells in shown:
        columns = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        lines.append("    " + "  ".join([name.ljust(widths[0]), *columns]))
    more = len(broken) - SHOWN_ROWS
    return [*lines, f"    and {more} more"] if more > 0 else lines


def _cells(row: Row) -> tuple[str, ...]:
    if row.note and math.isnan(row.expected) and math.isnan(row.obtained):
        return (f"{row.name} ({row.note})", "-", "-", "-", f"{row.allowed:.2g}", "-")
    numbers = (row.expected, row.obtained, row.error, row.allowed)
    formats = ("{:.6g}", "{:.6g}", "{:.3g}", "{:.3g}")
    texts = [f.format(x) if math.isfinite(x) else "-" for f, x in zip(formats, numbers, strict=True)]
    name = f"{row.name} ({row.note})" if row.note else row.name
    return (name, *texts, f"{row.ratio:.2g}" if math.isfinite(row.ratio) else "-")
