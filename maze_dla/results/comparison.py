"""Results side by side, on measures that do not depend on the size of the metric."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from maze_dla.errors import InputError, check_kind, check_whole, visible
from maze_dla.results.attribution import AttributionResult
from maze_dla.results.measures import COUNTS, drawn_weights, measures_of, quantities
from maze_dla.results.streamed import StreamedResult
from maze_dla.torch_defaults import torch_defaults

if TYPE_CHECKING:
    import pandas as pd

N_SAMPLES = 1000
LARGEST_SEED = 2**63 - 1
OUTSIDE = 0.025  # of the samples, at either end of an interval
NOTHING = "-"
Compared = AttributionResult | StreamedResult


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """Measures of several results with 95% intervals over prompts; NaN where a result has no such measure.

    The measures are defined in the docstrings of `maze_dla.results.measures`; all are shares but the numbers of heads.
    """

    results: tuple[Compared, ...]
    names: tuple[str, ...]
    measures: tuple[str, ...]
    values: Float[Tensor, "measure result"]
    low: Float[Tensor, "measure result"]
    high: Float[Tensor, "measure result"]

    def table(self) -> list[tuple[str, ...]]:
        """The rows as text: a head with the names, then each measure with its value and interval for each result.

        "-" stands where a result has no such measure; `notes` says why where it is a stream.
        """
        rows = [("", *self.names)]
        rows += [(name, *(self._cell(i, k) for k in range(len(self.names)))) for i, name in enumerate(self.measures)]
        return rows

    @property
    def notes(self) -> tuple[str, ...]:
        """A sentence for each result of which some measures and all intervals cannot be had."""
        return tuple(
            f"{name} was streamed, which keeps means alone: intervals, and measures that count heads or take them by "
            "their sign, need the numbers of every prompt."
            for name, result in zip(self.names, self.results, strict=True)
            if isinstance(result, StreamedResult)
        )

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
        written = _count if self.measures[measure] in COUNTS else _percent
        interval = "" if math.isnan(low) else f" [{written(low)}, {written(high)}]"
        return written(value) + interval

    def __repr__(self) -> str:
        rows = [[visible(cell) for cell in row] for row in self.table()]
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = ["  ".join(f"{cell:<{w}}" for cell, w in zip(r, widths, strict=True)).rstrip() for r in rows]
        return "\n".join([*lines, *self.notes])

    def _repr_html_(self) -> str:
        from html import escape

        head, *rows = [[escape(cell) for cell in row] for row in self.table()]
        left = "style='text-align:left'"
        top = "".join(f"<th {left}>{cell}</th>" for cell in head)
        body = "".join(
            f"<tr><th {left}>{row[0]}</th>{''.join(f'<td {left}>{c}</td>' for c in row[1:])}</tr>" for row in rows
        )
        return f"<table><tr>{top}</tr>{body}</table>" + "".join(f"<p>{escape(note)}</p>" for note in self.notes)


def _count(value: float) -> str:
    return f"{value:.0f}"


def _percent(value: float) -> str:
    return f"{value:.1%}".replace("-0.0%", "0.0%")


@torch_defaults()
def compare(*results: Compared, seed: int = 0) -> Comparison:
    """Set results beside each other on scale-free measures, a maze model beside GPT-2 on IOI for one.

    Shares of the metric by attention, MLPs and embeddings; how many heads carry 90% of the positive part; how much
    negative heads take away; the depth at which the lens reaches half; and, for results with `sources="kinds"` (or
    True), from which kind of token heads move what they move. Each is defined in `maze_dla.results.measures`. Where
    the mean metric is not positive there is no share of it, and no depth of half of it.

    The intervals are over prompts, with the signs of heads as they were found. Where most heads do nothing, those of
    the last two are too narrow: in simulations with 140 idle heads they held the truth in 77 to 92% of cases.

    Of a stream the shares and the depth follow from its means; it has no intervals, and none of the measures that need
    the numbers of every prompt (`Comparison.notes` says so).

    Args:
        *results: of `attribute`, or streams of such results, one for each column.
        seed: of the 1,000 bootstrap samples of prompts that the 95% intervals come from.

    Raises:
        InputError: no results, something else than a result of `attribute` or a stream of them, or a seed that is no
            whole number of at least 0.
    """
    if not results:
        raise InputError("compare needs at least one result of attribute, got none")
    for result in results:
        _check(result)
    check_whole("seed", seed, 0, LARGEST_SEED)
    columns = [_measured(result, seed) for result in results]
    measures = tuple(dict.fromkeys(name for column in columns for name in column))
    missing = (math.nan,) * 3
    values = torch.tensor([[column.get(name, missing) for column in columns] for name in measures], dtype=torch.float64)
    return Comparison(results, _names(results), measures, *values.unbind(-1))


def _check(result: object) -> None:
    if isinstance(result, StreamedResult) and result.of != AttributionResult.__name__:
        raise InputError(f"compare takes results of attribute or streams of them, got a stream of {result.of}")
    check_kind(result, Compared, "compare takes results of attribute or streams of them")


def _measured(result: Compared, seed: int) -> dict[str, tuple[float, float, float]]:
    """Value, low and high of each measure of a result."""
    measures, of_prompts = measures_of(result), quantities(result)
    n = len(of_prompts.metric)  # 1 for a stream, which holds no prompts to draw from
    whole = of_prompts.means(torch.full((1, n), 1 / n, dtype=torch.float64))
    drawn = [of_prompts.means(w) for w in drawn_weights(n, N_SAMPLES, seed)] if n > 1 else []
    measured = {}
    for name, measure in measures.items():
        value = float(measure(whole)[0])
        samples = torch.cat([measure(m).double() for m in drawn]) if drawn else torch.empty(0)
        measured[name] = (value, *_interval(samples)) if not math.isnan(value) else (math.nan,) * 3
    return measured


def _interval(samples: Float[Tensor, " sample"]) -> tuple[float, float]:
    """The middle 95% of the samples; NaN where there are none, or too many in which there is no such measure."""
    missing = samples.isnan().double().mean() if len(samples) else 1.0
    if missing > OUTSIDE:
        return math.nan, math.nan
    low, high = samples.nanquantile(torch.tensor([OUTSIDE, 1 - OUTSIDE], dtype=torch.float64)).tolist()
    return low, high


def _names(results: tuple[Compared, ...]) -> tuple[str, ...]:
    """The model of each result, with its task where models repeat, and a number where that repeats too."""
    names = [str(r.info.get("model", "?")) for r in results]
    if len(set(names)) < len(names):
        names = [f"{name}, {r.info.get('task', '?')}" for name, r in zip(names, results, strict=True)]
    if len(set(names)) < len(names):
        names = [f"{i + 1}: {name}" for i, name in enumerate(names)]
    return tuple(names)
