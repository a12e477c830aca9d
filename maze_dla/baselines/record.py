"""Recording a model's numbers."""

from __future__ import annotations

import os
import platform
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from maze_dla.analysis.running import as_residual_model
from maze_dla.baselines.baseline import IN_MEMORY, Baseline
from maze_dla.baselines.files import arrays_file, check_name, write_baselines
from maze_dla.baselines.models import described_model
from maze_dla.baselines.numbers import measure
from maze_dla.baselines.prompts import stored_prompts
from maze_dla.baselines.questions import BUNDLED, Question, ask, check_placed, load_model
from maze_dla.engine.model import ResidualModel
from maze_dla.errors import BaselineError, InputError, check_path
from maze_dla.results.storage import installed_versions
from maze_dla.results.torch_defaults import torch_defaults


@torch_defaults()
def record_baseline(
    path: str | os.PathLike[str],
    source: Any = None,
    *,
    dtype: torch.dtype | None = None,
    device: str | torch.device | None = None,
    **options: Any,
) -> Path:
    """Write what a model says today to a file that later runs are checked against by `check_baseline`.

    The file is JSON, sorted and with all digits, to be read and kept under version control: the hash of the weights'
    values, the prompts, the versions, and the numbers with a tolerance for each. Those of each prompt are in a `.npz`
    file beside it, where they are more than a few hundred.

    Args:
        path: the file to write, `.json`; a new one.
        source: a checkpoint's path, the model of `load_maze_model` or `load_gpt2`, or a list of these; None for the
            bundled checkpoint. Paths are written relative to the file.
        dtype, device: as `load_maze_model` takes them.
        **options: what is asked, of each model: `task` (a name or a list of names; "ioi" asks GPT-2), `metric`
            ("neighbors", "all", "cells", "forward", "logit", "logit_diff"; default by the task), `reduce`, `n_mazes`,
            `seed`, `prepend_bos`, `padding` and `dataset`, as `maze.prompts` and `correct_vs_other` take them.

    Raises:
        BaselineError: the file is there already (`check_baseline(..., update=True)` rewrites one), or it cannot be
            written.
        InputError, CheckpointError, DatasetError, PromptError: options, models or mazes that cannot be used.
    """
    check_path(path, "a baseline's file")
    file = Path(path)
    check_name(file)
    if file.exists():
        raise BaselineError(f"{file}: is there already; check it with update=True (--update) to rewrite it")
    if os.path.lexists(arrays := arrays_file(file)):
        raise BaselineError(f"{arrays}: is there already, and the arrays of {file.name} would be written there")
    check_placed(source, dtype, device)
    sources = list(source) if isinstance(source, list | tuple) else [source]
    tasks = options.pop("task", Question.task)
    questions = [
        with_relative_data(Question.of({**options, "task": task}), file.parent)
        for task in (tasks if isinstance(tasks, list) else [tasks])
    ]
    if not sources or not questions:
        raise InputError("a baseline needs at least one model and one task")
    made = [recorded(one, question, file.parent, dtype, device) for one in sources for question in questions]
    names = [baseline.name for baseline in made]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise InputError(f"two baselines of the name {twice!r}: give each model and task once")
    write_baselines(file, {baseline.name: baseline for baseline in made})
    return file


def recorded(
    source: Any, question: Question, folder: Path, dtype: torch.dtype | None = None, device: Any = None
) -> Baseline:
    """A model's numbers as they are now; the question's paths are relative to the folder."""
    model = load_model(source, question.task, dtype=dtype, device=device)
    asked = ask(model, question, folder)
    view = as_residual_model(model)
    return Baseline(
        checkpoint=relative_source(source, folder),
        model=described_model(view, model),
        question=asked.question,
        prompts=stored_prompts(asked.batch, asked.question),
        run=described_run(view),
        measured=measure(model, asked.batch, asked.metric, {}),
    )


def described_run(view: ResidualModel) -> dict[str, Any]:
    """Precision, kind of device and versions."""
    return {
        "device": view.weights.W_U.device.type,
        "dtype": str(view.weights.precision).removeprefix("torch."),
        "versions": {"python": platform.python_version(), **installed_versions()},
    }


def relative_source(source: Any, folder: Path) -> str:
    """How a file names a model's place."""
    if source is None:
        return BUNDLED
    if not isinstance(source, str | os.PathLike):
        return IN_MEMORY
    text = os.fspath(source)
    return text if text == BUNDLED else relative_path(Path(text), folder)


def relative_path(path: Path, folder: Path) -> str:
    """A path as seen from a folder, with slashes on every system.

    Links of folders are followed first, since a way up from a folder leads to where it really is.
    """
    try:
        return Path(os.path.relpath(path.parent.resolve() / path.name, folder.resolve())).as_posix()
    except ValueError:  # another drive
        return path.absolute().as_posix()


def with_relative_data(question: Question, folder: Path) -> Question:
    """The question with its data set's path as seen from the baseline's folder."""
    if question.dataset is None:
        return question
    return replace(question, dataset=relative_path(Path(question.dataset), folder))
