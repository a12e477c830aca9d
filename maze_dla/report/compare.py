"""Results side by side: read or made, compared, and written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from maze_dla import plots
from maze_dla.analysis import attribute
from maze_dla.analysis.metrics import metric_by_name
from maze_dla.engine.prompts import PromptBatch
from maze_dla.errors import InputError
from maze_dla.files import drafted_folder, output_folder
from maze_dla.report.pictures import save_figure
from maze_dla.results.attribution import AttributionResult
from maze_dla.results.comparison import Comparison, compare
from maze_dla.results.loading import load_result

TABLE, PICTURE = "comparison.csv", "comparison.png"


def read_results(files: Sequence[str | Path]) -> list[AttributionResult]:
    """Results of `attribute` from their files.

    Raises:
        ResultFileError: a file that holds no result.
        InputError: a file that holds a result of another kind.
    """
    results = []
    for file in files:
        result = load_result(file)
        if not isinstance(result, AttributionResult):
            raise InputError(f"{file}: holds a {type(result).__name__}, expected an AttributionResult")
        results.append(result)
    return results


def attribute_kinds(model: Any, batch: PromptBatch, metric: str) -> AttributionResult:
    """A metric by its name, of the prompts that have it, with sources by kinds: what a comparison shows of a result."""
    kept, found = metric_by_name(batch, metric)
    return attribute(model, kept, found, sources="kinds")


def write_comparison(results: Sequence[AttributionResult], out: str | Path) -> tuple[Comparison, tuple[Path, ...]]:
    """Compare results, and write the measures as CSV and one picture into a folder.

    Raises:
        InputError: the folder cannot be written, or results that cannot be compared.
    """
    with output_folder(out) as folder:
        compared = compare(*results)
        with drafted_folder(folder) as draft:
            compared.to_frame().to_csv(draft / TABLE, index=False)
            save_figure(plots.comparison(compared)[0][0], draft / PICTURE)
    return compared, (folder / TABLE, folder / PICTURE)
