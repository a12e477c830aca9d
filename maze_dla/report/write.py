"""From a model and its prompts to the files of a report."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from maze_dla.adapters.mazes.model import MazeModel
from maze_dla.adapters.mazes.prompts import MazePromptBatch
from maze_dla.analysis import attribute, logit_lens, token_lens
from maze_dla.engine.metrics import LinearMetric
from maze_dla.errors import InputError
from maze_dla.report.facts import fact_table
from maze_dla.report.page import render_page
from maze_dla.report.pictures import Example, draw_pictures
from maze_dla.results.attribution import AttributionResult

PAGE, RESULT = "report.html", "result.zanj"


@dataclass(frozen=True)
class Report:
    """What was written: the page, the result and the pictures; `facts` is the short table."""

    result: AttributionResult
    page: Path
    result_file: Path
    pictures: tuple[Path, ...]
    facts: tuple[tuple[str, str], ...]


def write_report(maze: MazeModel, batch: MazePromptBatch, metric: LinearMetric, out: str | Path) -> Report:
    """Attribute a metric, draw it, and write `report.html`, `result.zanj` and the pictures into a folder.

    The folder is made if it is missing. Files of an earlier report are replaced only when all new ones are there.

    Raises:
        InputError: the folder cannot be written, or batch and metric do not fit.
        CompletenessError: contributions do not add up.
    """
    folder = writable_folder(out)
    result = attribute(maze.model, batch, metric, neurons="mean")
    own = logit_lens(maze.model, batch, metric, scale="own")
    example = _example(maze, batch, metric, result)
    with TemporaryDirectory(dir=folder, prefix=".report-") as name:
        draft = Path(name)
        pictures = draw_pictures(result, own, example, draft)
        (draft / PAGE).write_text(render_page(result, pictures), encoding="utf-8")
        result.save(draft / RESULT)
        _put_in_place(draft, folder)
    drawn = tuple(folder / p.file.name for p in pictures)
    return Report(result, folder / PAGE, folder / RESULT, drawn, tuple(fact_table(result)))


def _put_in_place(draft: Path, folder: Path) -> None:
    """Move the files of a finished report, after a look whether each can be moved."""
    files = sorted(draft.iterdir())
    if folders := [f.name for f in files if (folder / f.name).is_dir()]:
        raise InputError(f"{folder / folders[0]}: a folder, expected a file that can be replaced")
    try:
        for file in files:
            file.replace(folder / file.name)
    except OSError as problem:
        raise InputError(f"{folder}: cannot be written ({problem.strerror or problem})") from problem


def writable_folder(out: str | Path) -> Path:
    """The folder, made if it is missing, once it is known that files can be put there.

    Raises:
        InputError: it is a file, or cannot be made or written.
    """
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder, prefix=".report-"):
            pass
    except OSError as problem:
        raise InputError(f"{folder}: cannot be written as a folder ({problem.strerror or problem})") from problem
    return folder


@contextmanager
def report_folder(out: str | Path) -> Iterator[Path]:
    """A folder for a report, known to be writable; removed again if it was made here and nothing came of it.

    Raises:
        InputError: as `writable_folder`.
    """
    made = not Path(out).exists()
    folder = writable_folder(out)
    try:
        yield folder
    finally:
        if made and not any(folder.iterdir()):
            folder.rmdir()


def _example(maze: MazeModel, batch: MazePromptBatch, metric: LinearMetric, result: AttributionResult) -> Example:
    """The prompt with the longest path among those that the model gets right, or among all."""
    steps = torch.tensor([len(batch.text(i).path) for i in range(len(batch))])
    number = int(torch.where(result.correct, steps + steps.max(), steps).argmax())
    alone = batch.select([number])
    closely = attribute(maze.model, alone, metric.select([number]), sources=True)
    tokens = token_lens(maze.model, alone, k=5)
    return Example(closely, tokens, alone.geometry(0), number)
