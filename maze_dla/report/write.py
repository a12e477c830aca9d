"""From a model and its prompts to the files of a report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maze_dla.analysis import attribute, logit_lens
from maze_dla.engine.metrics import LinearMetric
from maze_dla.engine.prompts import PromptBatch
from maze_dla.files import drafted_folder, output_folder
from maze_dla.report.close_up import check_asked, look_closely
from maze_dla.report.facts import fact_table
from maze_dla.report.page import render_page
from maze_dla.report.pictures import PICTURES, draw_pictures
from maze_dla.results.attribution import AttributionResult
from maze_dla.torch_defaults import torch_defaults

PAGE, RESULT = "report.html", "result.zanj"


@dataclass(frozen=True)
class Report:
    """The files that were written: page, result and pictures; `facts` is the short table."""

    result: AttributionResult
    page: Path
    result_file: Path
    pictures: tuple[Path, ...]
    facts: tuple[tuple[str, str], ...]


@torch_defaults()
def write_report(
    model: Any, batch: PromptBatch, metric: LinearMetric, out: str | Path, *, prompt: int | None = None
) -> Report:
    """Attribute a metric, draw it, and write `report.html`, `result.zanj` and the pictures into a folder.

    The folder is made if it is missing. Files of an earlier report are replaced only when all new ones are there.

    Args:
        model: a `MazeModel`, or a model of TransformerLens.
        batch: its prompts, about mazes or not.
        metric: made for them.
        out: the folder.
        prompt: which prompt the close-up shows; None for one that is chosen from those that the model gets right.

    Raises:
        InputError: the folder cannot be written, batch and metric do not fit, or there is no such prompt.
        CompletenessError: contributions do not add up.
    """
    check_asked(batch, prompt, out)
    with output_folder(out) as folder:
        return _write(model, batch, metric, folder, prompt)


def _write(model: Any, batch: PromptBatch, metric: LinearMetric, folder: Path, prompt: int | None) -> Report:
    result = attribute(model, batch, metric, neurons="mean", sources=False if batch.sequence_kinds is None else "kinds")
    own = logit_lens(model, batch, metric, scale="own")
    close_up = look_closely(model, batch, metric, result, prompt)
    steps = batch.steps if len(batch) > len(batch.sequences) else None  # where mazes are read at several
    with drafted_folder(folder, owned=PICTURES) as draft:
        pictures = draw_pictures(result, own, close_up, steps, draft)
        (draft / PAGE).write_text(render_page(result, pictures), encoding="utf-8")
        result.save(draft / RESULT)
    drawn = tuple(folder / p.file.name for p in pictures)
    return Report(result, folder / PAGE, folder / RESULT, drawn, tuple(fact_table(result)))
