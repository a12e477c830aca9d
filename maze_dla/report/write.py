"""From a model and its prompts to the files of a report."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from jaxtyping import Int
from torch import Tensor

from maze_dla.adapters.mazes.model import MazeModel
from maze_dla.adapters.mazes.prompts import MazePromptBatch
from maze_dla.analysis import attribute, logit_lens
from maze_dla.engine.metrics import LinearMetric
from maze_dla.engine.prompts import PromptBatch
from maze_dla.errors import InputError
from maze_dla.report.close_up import check_asked, look_closely
from maze_dla.report.facts import fact_table
from maze_dla.report.page import render_page
from maze_dla.report.pictures import draw_pictures
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
    folder = writable_folder(out)
    model = model.model if isinstance(model, MazeModel) else model
    result = attribute(model, batch, metric, neurons="mean", sources=False if batch.sequence_kinds is None else "kinds")
    own = logit_lens(model, batch, metric, scale="own")
    close_up = look_closely(model, batch, metric, result, prompt)
    with TemporaryDirectory(dir=folder, prefix=".report-") as name:
        draft = Path(name)
        pictures = draw_pictures(result, own, close_up, _steps(batch), draft)
        (draft / PAGE).write_text(render_page(result, pictures), encoding="utf-8")
        result.save(draft / RESULT)
        put_in_place(draft, folder)
    drawn = tuple(folder / p.file.name for p in pictures)
    return Report(result, folder / PAGE, folder / RESULT, drawn, tuple(fact_table(result)))


def _steps(batch: PromptBatch) -> Int[Tensor, "prompt"] | None:
    """The step of each prompt where mazes are read at several."""
    return batch.steps if isinstance(batch, MazePromptBatch) and len(batch) > len(batch.sequences) else None


def put_in_place(draft: Path, folder: Path) -> None:
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
