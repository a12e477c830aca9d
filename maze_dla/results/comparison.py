"""Results side by side, on measures that do not depend on the size of the metric."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from maze_dla.errors import InputError, check_kind, visible
from maze_dla.results.attribution import AttributionResult
from maze_dla.results.measures import (
    ACCURACY,
    CHANCE,
    DEPTH,
    EFFECTIVE,
    METRIC,
    SHARES,
    Ratio,
    judged,
    kinds_of_tokens,
    shares_of_the_metric,
    squares_of_parts,
    totals_of,
)
from maze_dla.results.naming import column_names
from maze_dla.results.ratios import CERTAIN, UNKNOWN, Interval, difference, is_certain, measured, of_two
from maze_dla.results.streamed import StreamedResult
from maze_dla.results.torch_defaults import torch_defaults

if TYPE_CHECKING:
    import pandas as pd

NOTHING = "-"
LINEAR = (*SHARES, DEPTH)  # shares of the metric
Compared = AttributionResult | StreamedResult


@dataclass(frozen=True, eq=False)
class Difference:
    """How much larger each measure is of the second result than of the first, on the same mazes, with its interval."""

    first: str
    second: str
    measures: tuple[str, ...]
    values: Float[Tensor, " measure"]
    low: Float[Tensor, " measure"]
    high: Float[Tensor, " measure"]


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """Measures of several results with 95% intervals, clustered by maze; NaN where a result has no such measure.

    The measures are defined in `maze_dla.results.measures`: accuracy and chance, the metric in logits, shares, a depth,
    and the effective number of heads. `differences` has one entry for each two results on the same mazes.
    """

    results: tuple[Compared, ...]
    names: tuple[str, ...]
    measures: tuple[str, ...]
    values: Float[Tensor, "measure result"]
    low: Float[Tensor, "measure result"]
    high: Float[Tensor, "measure result"]
    differences: tuple[Difference, ...] = ()

    def table(self) -> list[tuple[str, ...]]:
        """The rows as text: a head with the names, then each measure with its value and interval for each result.

        "-" stands where a result has no such measure, or too few mazes to tell: no share of a metric whose interval
        includes zero, and none of a sum of squares that is less than 4 standard errors above it.
        """
        rows = [("", *self.names)]
        for i, name in enumerate(self.measures):
            numbers = torch.stack([self.values[i], self.low[i], self.high[i]], -1).tolist()
            rows.append((name, *(_cell(name, (value, low, high)) for value, low, high in numbers)))
        return rows

    def difference_table(self) -> list[tuple[str, ...]]:
        """The same of the differences; a head alone where no two results are about the same mazes."""
        rows = [("", *(f"{d.second} minus {d.first}" for d in self.differences))]
        for name in dict.fromkeys(name for d in self.differences for name in d.measures):
            cells = []
            for d in self.differences:
                i = d.measures.index(name) if name in d.measures else None
                of = UNKNOWN if i is None else (float(d.values[i]), float(d.low[i]), float(d.high[i]))
                cells.append(_cell(name, of, signed=True))
            rows.append((name, *cells))
        return rows

    @property
    def notes(self) -> tuple[str, ...]:
        """A sentence for whatever the results differ in, so that their measures do not mean the same.

        Also the warning of each result whose accuracy is that of chance or of a plain strategy.
        """
        notes = []
        for what, key in (("metrics", "metric"), ("tasks", "task")):
            seen = list(dict.fromkeys(str(r.info.get(key, "?")) for r in self.results))
            if len(seen) > 1:
                notes.append(f"Other {what} ({'; '.join(seen)}): their measures answer other questions.")
        for name, result in zip(self.names, self.results, strict=True):
            if result.warning:
                notes.append(f"{name}: {result.warning}")
            if totals_of(result) is None:
                notes.append(f"{name} is a stream of version 0.1, which kept means alone: most measures need more.")
        return tuple(notes)

    def to_frame(self) -> pd.DataFrame:
        """Columns measure, model, value, low, high."""
        import pandas as pd

        n, k = self.values.shape
        return pd.DataFrame(
            {
                "measure": [name for name in self.measures for _ in range(k)],
                "model": list(self.names) * n,
                **{what: getattr(self, what).flatten().numpy() for what in ("values", "low", "high")},
            }
        ).rename(columns={"values": "value"})

    def __repr__(self) -> str:
        parts = [_aligned(self.table()), *self.notes]
        if self.differences:
            parts += ["", "differences on the same mazes, paired:", _aligned(self.difference_table())]
        return "\n".join(parts)

    def _repr_html_(self) -> str:
        from html import escape

        notes = "".join(f"<p>{escape(note)}</p>" for note in self.notes)
        more = f"<p>Differences on the same mazes, paired:</p>{_html(self.difference_table())}"
        return _html(self.table()) + notes + (more if self.differences else "")


def _cell(measure: str, of: Interval, signed: bool = False) -> str:
    value, low, high = of
    if math.isnan(value):
        return NOTHING
    number = "{:+.3f}" if signed else "{:.3f}"
    styles = {METRIC: number, EFFECTIVE: number.replace("3f", "1f")}
    style = styles.get(measure, "{:+.1%}" if signed else "{:.1%}")
    written = [style.format(x).replace("-0.0%", "0.0%") for x in (value, low, high)]
    return written[0] + ("" if math.isnan(low) else f" [{written[1]}, {written[2]}]")


def _aligned(table: list[tuple[str, ...]]) -> str:
    rows = [[visible(cell) for cell in row] for row in table]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(f"{cell:<{w}}" for cell, w in zip(r, widths, strict=True)).rstrip() for r in rows)


def _html(table: list[tuple[str, ...]]) -> str:
    from html import escape

    head, *rows = [[escape(cell) for cell in row] for row in table]
    left = "style='text-align:left'"
    top = "".join(f"<th {left}>{cell}</th>" for cell in head)
    body = "".join(
        f"<tr><th {left}>{row[0]}</th>{''.join(f'<td {left}>{c}</td>' for c in row[1:])}</tr>" for row in rows
    )
    return f"<table><tr>{top}</tr>{body}</table>"


@torch_defaults()
def compare(*results: Compared) -> Comparison:
    """Set results beside each other on scale-free measures, a maze model beside GPT-2 on IOI for one.

    Accuracy and chance; the metric; shares of it by attention, MLPs, embeddings and constant; the mean depth at which
    it is written; the share of the strongest heads in the sum of squared mean contributions of all (ranked on other
    mazes than those that measure), the effective number of heads, and, for results with `sources="kinds"` (or True),
    the share of each kind of token in what heads move. Each is defined in `maze_dla.results.measures`. Powers of means
    are products over different mazes, so that heads that do nothing count for nothing; noise can take such shares out
    of 0% to 100%.

    Results on the same mazes, two checkpoints or two tasks, are also compared pairwise: `Comparison.differences`.
    Differences of shares of the metric are told where both metrics are at least 4 standard errors above zero.
    A stream has the same measures as a result; it does not name its mazes, so that it has no differences.

    Args:
        *results: of `attribute`, or streams of such results, one for each column.

    Raises:
        InputError: no results, or something else than a result of `attribute` or a stream of them.
    """
    if not results:
        raise InputError("compare needs at least one result of attribute, got none")
    for result in results:
        _check(result)
    ratios = [_ratios(result) for result in results]
    columns = [_column(result, held) for result, held in zip(results, ratios, strict=True)]
    measures = tuple(dict.fromkeys(name for column in columns for name in column))
    values = torch.tensor([[column.get(name, UNKNOWN) for column in columns] for name in measures], dtype=torch.float64)
    names = column_names([r.info for r in results])
    pairs = [(i, j) for i, j in combinations(range(len(results)), 2) if _same_mazes(results[i], results[j])]
    found = tuple(_difference((names[i], names[j]), (ratios[i], ratios[j]), (columns[i], columns[j])) for i, j in pairs)
    return Comparison(results, names, measures, *values.unbind(-1), differences=found)


def _check(result: object) -> None:
    if isinstance(result, StreamedResult) and result.of != AttributionResult.__name__:
        raise InputError(f"compare takes results of attribute or streams of them, got a stream of {result.of}")
    check_kind(result, Compared, "compare takes results of attribute or streams of them")


def _ratios(result: Compared) -> dict[str, Ratio]:
    """The measures of a result that are ratios, as far as it has them: those of one bucket have no replicates."""
    totals = totals_of(result)
    if totals is None or len(totals.counts) < 2:
        return {}
    shares = shares_of_the_metric(totals, result.components) if float(result.metric_summary().low) > 0 else {}
    return judged(totals, result) | shares | squares_of_parts(totals) | kinds_of_tokens(totals, result.kinds)


def _column(result: Compared, ratios: dict[str, Ratio]) -> dict[str, Interval]:
    """Value, low and high of each measure of a result."""
    column: dict[str, Interval] = {}
    if (accuracy := result.accuracy) is not None:
        column[ACCURACY] = (accuracy.value, *accuracy.interval)
    if (skill := result.skill) is not None and skill.chance is not None:
        column[CHANCE] = (float(skill.chance.plain.mean), math.nan, math.nan)
    metric = result.metric_summary()
    column[METRIC] = (float(metric.mean), float(metric.low), float(metric.high))
    squares = _shares_and_squares(ratios)
    return column | {name: measured(ratio, least) for name, (ratio, least) in squares.items()}


def _shares_and_squares(ratios: dict[str, Ratio]) -> dict[str, tuple[Ratio, float]]:
    """The ratios beside accuracy and metric, and how certain the bottom of each has to be."""
    return {n: (r, 0.0 if n in LINEAR else CERTAIN) for n, r in ratios.items() if n not in (ACCURACY, METRIC)}


def _same_mazes(one: Compared, two: Compared) -> bool:
    """Whether two results are about the same things, mazes for one, as far as they name them."""
    names = []
    for result in (one, two):
        held = result.columns.get(str(result.info.get("unit"))) if isinstance(result, AttributionResult) else None
        names.append(None if held is None else set(held.tolist() if isinstance(held, Tensor) else held))
    return names[0] is not None and names[0] == names[1]


def _difference(
    names: tuple[str, str], ratios: tuple[dict[str, Ratio], ...], columns: tuple[dict[str, Interval], ...]
) -> Difference:
    """The differences of what both results know with an interval; of shares of the metric where both are certain.

    Where no maze tells the accuracies apart, all right in both for one, their own intervals say how far they may be.
    """
    both = [n for n in ratios[0] if n in ratios[1] and not any(math.isnan(c.get(n, UNKNOWN)[1]) for c in columns)]
    both = [n for n in both if n not in LINEAR or all(is_certain(held[n]) for held in ratios)]
    found = {name: difference(ratios[0][name].replicates, ratios[1][name].replicates) for name in both}
    if ACCURACY in found and found[ACCURACY][1] == found[ACCURACY][2]:
        found[ACCURACY] = of_two(columns[0][ACCURACY], columns[1][ACCURACY])
    values = torch.tensor(list(found.values()), dtype=torch.float64).reshape(-1, 3)
    return Difference(*names, tuple(both), *values.unbind(-1))
