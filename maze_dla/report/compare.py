"""Results side by side: read or made, compared, and written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from maze_dla import plots
from maze_dla.adapters.gpt2.load import load_gpt2
from maze_dla.adapters.mazes.model import load_maze_model
from maze_dla.adapters.text.ioi import ioi_prompts
from maze_dla.analysis import attribute
from maze_dla.engine.metrics import correct_vs_other, logit_diff
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


def attribute_both(ioi_model: Any, n_prompts: int, seed: int, device: Any = None) -> list[AttributionResult]:
    """The bundled maze model on its first path choice against the legal wrong moves, and a GPT-2 model on IOI."""
    maze = load_maze_model(device=device)
    mazes = maze.prompts(task="first_path_choice", n_mazes=n_prompts, seed=seed).having("neighbors")
    gpt2 = load_gpt2(ioi_model, device=device)
    ioi = ioi_prompts(gpt2, n_prompts, seed=seed)
    return [
        attribute(maze.model, mazes, correct_vs_other(mazes, "neighbors"), sources="kinds"),
        attribute(gpt2, ioi, logit_diff(ioi), sources="kinds"),
    ]


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
