"""Results side by side, on measures that do not depend on the size of the metric."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from maze_dla.errors import InputError
from maze_dla.results.attribution import AttributionResult
from maze_dla.results.measures import COUNTS, means, measures_of, resampled_means

if TYPE_CHECKING:
    import pandas as pd

N_SAMPLES = 1000
NOTHING = "-"


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """Measures of several results with 95% intervals over prompts; NaN where a result has no such measure.

    The measures are defined in the docstrings of `maze_dla.results.measures`; all are shares but the numbers of heads.
    """

    results: tuple[AttributionResult, ...]
    names: tuple[str, ...]
    measures: tuple[str, ...]
    values: Float[Tensor, "measure result"]
    low: Float[Tensor, "measure result"]
    high: Float[Tensor, "measure result"]

    def table(self) -> list[tuple[str, ...]]:
        """The rows as text: a head with the names, then each measure with its value and interval for each result."""
        rows = [("", *self.names)]
        rows += [(name, *(self._cell(i, k) for k in range(len(self.names)))) for i, name in enumerate(self.measures)]
        return rows

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

    def _cell(self, measure: int, result: int) -> str:
        value, low, high = (float(t[measure, result]) for t in (self.values, self.low, self.high))
        if math.isnan(value):
            return NOTHING
        form = "{:.0f}" if self.measures[measure] in COUNTS else "{:.1%}"
        interval = "" if math.isnan(low) else f" [{form.format(low)}, {form.format(high)}]"
        return form.format(value) + interval

    def __repr__(self) -> str:
        rows = self.table()
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        return "\n".join("  ".join(f"{cell:<{w}}" for cell, w in zip(r, widths, strict=True)).rstrip() for r in rows)

    def _repr_html_(self) -> str:
        from html import escape

        head, *rows = [[escape(cell) for cell in row] for row in self.table()]
        left = "style='text-align:left'"
        top = "".join(f"<th {left}>{cell}</th>" for cell in head)
        body = "".join(
            f"<tr><th {left}>{row[0]}</th>{''.join(f'<td {left}>{c}</td>' for c in row[1:])}</tr>" for row in rows
        )
        return f"<table><tr>{top}</tr>{body}</table>"


def compare(*results: AttributionResult, seed: int = 0) -> Comparison:
    """Set results beside each other on scale-free measures, a maze model beside GPT-2 on IOI for one.

    Shares of the metric by attention, MLPs and embeddings; how many heads carry 90% of the positive part; how much
    negative heads take away; the depth at which the lens reaches half; and, for results with `sources="kinds"` (or
    True), from which kind of token heads move what they move. Each is defined in `maze_dla.results.measures`. Where
    the mean metric is not positive there is no share of it, and no depth of half of it.

    Args:
        *results: of `attribute`, one for each column.
        seed: of the 1,000 bootstrap samples of prompts that the 95% intervals come from.

    Raises:
        InputError: no results, or something else than an AttributionResult.
    """
    if not results:
        raise InputError("compare needs at least one result of attribute, got none")
    for result in results:
        if not isinstance(result, AttributionResult):
            raise InputError(f"compare takes results of attribute, got {type(result).__name__}")
    columns = [_measured(result, seed) for result in results]
    measures = tuple(dict.fromkeys(name for column in columns for name in column))
    missing = (math.nan,) * 3
    values = torch.tensor([[column.get(name, missing) for column in columns] for name in measures], dtype=torch.float64)
    return Comparison(results, _names(results), measures, *values.unbind(-1))


def _measured(result: AttributionResult, seed: int) -> dict[str, tuple[float, float, float]]:
    """Value, low and high of each measure of a result; a single prompt has no interval."""
    measures, n = measures_of(result), len(result)
    whole = means(result, torch.full((1, n), 1 / n, dtype=torch.float64))
    drawn = list(resampled_means(result, N_SAMPLES, seed)) if n > 1 else []
    ends = torch.tensor([0.025, 0.975], dtype=torch.float64)
    measured = {}
    for name, measure in measures.items():
        value, low, high = float(measure(whole)[0]), math.nan, math.nan
        if drawn and not math.isnan(value):
            low, high = torch.cat([measure(m).double() for m in drawn]).nanquantile(ends).tolist()
        measured[name] = (value, low, high)
    return measured


def _names(results: tuple[AttributionResult, ...]) -> tuple[str, ...]:
    """The model of each result, with its task where models repeat, and a number where that repeats too."""
    names = [str(r.info.get("model", "?")) for r in results]
    if len(set(names)) < len(names):
        names = [f"{name}, {r.info.get('task', '?')}" for name, r in zip(names, results, strict=True)]
    if len(set(names)) < len(names):
        names = [f"{i + 1}: {name}" for i, name in enumerate(names)]
    return tuple(names)
