"""Checking a model against what was recorded of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from maze_dla.adapters.transformer_lens.view import Forward
from maze_dla.analysis.metrics import metric_by_name
from maze_dla.analysis.running import as_residual_model
from maze_dla.baselines.baseline import IN_MEMORY, Baseline
from maze_dla.baselines.comparing import compared
from maze_dla.baselines.files import read_baselines, stale_arrays, write_baselines
from maze_dla.baselines.meaning import meaning
from maze_dla.baselines.models import described_model, is_another_model, model_changes
from maze_dla.baselines.numbers import measure, tolerance_in
from maze_dla.baselines.outcome import BaselineCheck, Change, Checked
from maze_dla.baselines.prompts import differences, have_other_texts, restored_prompts, stored_prompts
from maze_dla.baselines.questions import (
    BUNDLED,
    IOI,
    Asked,
    Question,
    ask,
    check_placed,
    load_model,
    place_seen_from,
)
from maze_dla.baselines.record import described_run, recorded, relative_source, with_relative_data
from maze_dla.engine.metrics import LinearMetric
from maze_dla.engine.model import ResidualModel
from maze_dla.engine.prompts import PromptBatch
from maze_dla.errors import BaselineError, CompletenessError, MazeDlaError, ModelError, check_path
from maze_dla.results.tolerances import PRECISIONS
from maze_dla.results.torch_defaults import torch_defaults

INSTEAD = "the recorded ones are used"
# what makes prompts, of mazes and of IOI
MAKERS = (("maze_dla", "maze-dataset", "numpy"), ("maze_dla", "transformers", "numpy"))


@torch_defaults()
def check_baseline(
    path: str | os.PathLike[str],
    source: Any = None,
    *,
    update: bool = False,
    dtype: torch.dtype | None = None,
    device: str | torch.device | None = None,
    sequences_at_once: int | None = None,
    forward: Forward = "auto",
    **options: Any,
) -> BaselineCheck:
    """Ask again what `record_baseline` asked, and say what changed: the weights, the prompts, versions, or numbers.

    The weights are compared by the hash of their values, so that the same model from another file, library or stack is
    the same; the prompts are made anew and compared with the recorded ones, on which the numbers are then computed if
    they differ. A difference in the tokens of prompts alone, after a change of the version of maze_dla or of the
    library that makes mazes, is reported and is no failure; every other one is. Versions alone never fail a check.

    Args:
        path: the file.
        source: another place of the model, or the model itself, where the file holds one baseline; by default the
            recorded path.
        update: rewrite the file with what the models say now. Never done without this word, and never with another
            model (name, sizes) or task.
        dtype, device: as `load_maze_model` takes them; default the recorded precision. With another precision the
            tolerance of the coarser one counts.
        sequences_at_once, forward: as in `attribute`; they change no number.
        **options: the question as you would ask it today, as `record_baseline` takes it; what differs from the
            recorded one fails.

    Raises:
        BaselineError: a file that cannot be read, a source beside several baselines, or an update with another model or
            task.
    """
    check_path(path, "a baseline's file")
    file = Path(path)
    held = read_baselines(file)
    if source is not None and len(held) > 1:
        raise BaselineError(f"{file}: it holds {len(held)} baselines, a source can be given for one alone")
    check_placed(source, dtype, device)
    if options:
        Question.of(options)  # refused before anything is loaded
    run = {"sequences_at_once": sequences_at_once, "forward": forward}
    bar = tqdm(held.values(), desc="checking", unit="baseline", disable=None if len(held) > 1 else True)
    checks = tuple(checked(b, file.parent, source, _asked(b, options, file), run, dtype, device) for b in bar)
    stale = stale_arrays(file, held)
    if update:
        _update(file, held, source, options, dtype, device)
    return BaselineCheck(str(file), checks, stale, update)


def checked(
    baseline: Baseline,
    folder: Path,
    source: Any = None,
    asked: Question | None = None,
    run: Mapping[str, Any] | None = None,
    dtype: torch.dtype | None = None,
    device: Any = None,
) -> Checked:
    """One baseline checked; that it cannot be is part of the outcome."""
    try:
        model = load_recorded(baseline, folder, source, dtype, device)
    except MazeDlaError as problem:
        return Checked(baseline.name, (), (), (), problem=str(problem))
    try:
        return _checked(baseline, model, folder, asked, dict(run or {}))
    except ModelError as problem:  # a model that was recorded once, and cannot be attributed any more
        return Checked(baseline.name, (Change("weights", str(problem), fails=True),), (), ())
    except MazeDlaError as problem:
        return Checked(baseline.name, (), (), (), problem=str(problem))


def load_recorded(
    baseline: Baseline, folder: Path, source: Any = None, dtype: torch.dtype | None = None, device: Any = None
) -> Any:
    """The model that a baseline is about, from its recorded place or from another one.

    Raises:
        BaselineError: it was recorded of a model in memory.
    """
    if source is None and baseline.checkpoint == IN_MEMORY:
        raise BaselineError(f"{baseline.name} was recorded of a model in memory: give the model")
    place = source if source is not None else _recorded_place(baseline.checkpoint, folder)
    dtype = dtype or getattr(torch, baseline.run["dtype"], None)
    return load_model(place, baseline.question.task, dtype=dtype, device=device)


def _recorded_place(checkpoint: str, folder: Path) -> Any:
    return checkpoint if checkpoint == BUNDLED else place_seen_from(folder, checkpoint)


def _checked(baseline: Baseline, model: Any, folder: Path, asked: Question | None, run: dict[str, Any]) -> Checked:
    view = as_residual_model(model)
    here = described_run(view)
    in_half = not {here["dtype"], baseline.run["dtype"]} <= {"float32", "float64"}
    texts = model_changes(described_model(view, model), baseline.model, in_half=in_half)
    changes = [Change("weights", text, fails=True) for text in texts]
    if asked is not None:
        changes += [Change("question", text, fails=True) for text in asked.differences(baseline.question)]
    versions = _changed_versions(here, baseline.run)
    changes += [*_run_changes(here, baseline.run, versions), *_widened(baseline)]
    try:
        prompts, again = _prompts_again(model, baseline, folder, versions)
        batch, metric = _stored_question(baseline, view) if again is None else (again.batch, again.metric)
        measured = measure(model, batch, metric, run)
    except MazeDlaError as problem:
        if not isinstance(problem, CompletenessError | ModelError) and not any(change.fails for change in changes):
            return Checked(baseline.name, tuple(changes), (), (), problem=str(problem))
        text = f"they cannot be computed any more: {problem}"  # once they could be, so that the model changed
        return Checked(baseline.name, (*changes, Change("numbers", text, fails=True)), (), ())
    rows = compared(measured, baseline.measured, coarser=here["dtype"] != baseline.run["dtype"])
    words = () if all(row.holds for row in rows) else meaning(measured, baseline.measured)
    return Checked(baseline.name, (*changes, *prompts), rows, words)


def _prompts_again(
    model: Any, baseline: Baseline, folder: Path, versions: Mapping[str, tuple[str, str]]
) -> tuple[list[Change], Asked | None]:
    """The prompts made anew, where they are the recorded ones; else how they differ, and whether versions say why."""
    try:
        again = ask(model, baseline.question, folder)
    except MazeDlaError as problem:
        return [Change("prompts", f"they cannot be made again ({problem}); {INSTEAD}", fails=True)], None
    now = stored_prompts(again.batch, again.question)
    if (text := differences(now, baseline.prompts)) is None:
        return [], again
    if baseline.question.dataset is not None:
        text = f"the data set {baseline.question.dataset} holds others now: {text}; {INSTEAD}"
        return [Change("prompts", text, fails=True)], None
    movers = [name for name in MAKERS[baseline.question.task == IOI] if name in versions]
    if movers and have_other_texts(now, baseline.prompts):
        whose = " and ".join(f"{name} {versions[name][0]} became {versions[name][1]}" for name in movers)
        text = f"what makes the prompts makes others now ({whose}): {text}; {INSTEAD}"
        return [Change("prompts", text, fails=False)], None
    why = f"and {' and '.join(movers)} changed" if movers else "with the same versions of what makes them"
    text = f"{text}, {why}; {INSTEAD}"
    return [Change("prompts", text, fails=True)], None


def _stored_question(baseline: Baseline, view: ResidualModel) -> tuple[PromptBatch, LinearMetric]:
    stored = restored_prompts(baseline.prompts, baseline.question, view)
    return metric_by_name(stored, str(baseline.question.metric), baseline.question.reduce)


def _changed_versions(now: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    one, other = now["versions"], before["versions"]
    return {
        name: (str(other.get(name, "not known")), one.get(name, "not known"))
        for name in sorted({*one, *other})
        if one.get(name) != other.get(name)
    }


def _run_changes(
    now: Mapping[str, Any], before: Mapping[str, Any], versions: Mapping[str, tuple[str, str]]
) -> list[Change]:
    """Versions, precision and device that are others."""
    found = [f"{name} {was} became {is_now}" for name, (was, is_now) in versions.items()]
    others = [name for name in ("dtype", "device") if now[name] != before[name]]
    found += [f"{name} was {before[name]}, now it is {now[name]}" for name in others]
    return [Change("versions", text, fails=False) for text in found]


def _widened(baseline: Baseline) -> list[Change]:
    """Tolerances that someone wrote into the file."""
    usual = tolerance_in(PRECISIONS[baseline.run["dtype"]])
    of_accuracy = len(baseline.measured.near_ties) / len(baseline.prompts["rows"])
    shares = {name: number.tolerance for name, number in baseline.measured.numbers.items()}
    usuals = {name: of_accuracy if name == "accuracy" else usual for name in shares}
    texts = [
        f"{name} may be {share:g} of its largest part off by the file, {usuals[name]:g} is usual: it was set by hand"
        for name, share in shares.items()
        if share > usuals[name]
    ]
    return [Change("tolerance", text, fails=False) for text in texts]


def _update(
    file: Path, held: Mapping[str, Baseline], source: Any, options: Mapping[str, Any], dtype: Any, device: Any
) -> None:
    """Rewrite a file with what its models say now.

    Raises:
        BaselineError: another model or task.
    """
    made = [_recorded_again(file, b, source, _asked(b, options, file), dtype, device) for b in held.values()]
    write_baselines(file, {baseline.name: baseline for baseline in made})


def _recorded_again(
    file: Path, baseline: Baseline, source: Any, asked: Question | None, dtype: Any, device: Any
) -> Baseline:
    model = load_recorded(baseline, file.parent, source, dtype, device)
    question = baseline.question if asked is None else asked
    other = is_another_model(described_model(as_residual_model(model), model), baseline.model)
    if question.task != baseline.question.task:
        other = f"task was {baseline.question.task!r}, now it is {question.task!r}"
    if other is not None:
        raise BaselineError(
            f"{file}: {baseline.name!r} is of another model or task ({other}): record a file of its own"
        )
    from_file = isinstance(source, str | os.PathLike)
    place = relative_source(source, file.parent) if from_file else baseline.checkpoint
    return replace(recorded(model, question, file.parent), checkpoint=place)


def _asked(baseline: Baseline, options: Mapping[str, Any], file: Path) -> Question | None:
    """The recorded question with the options that are given today; None where there are none."""
    if not options:
        return None
    given = with_relative_data(Question.of(options), file.parent) if "dataset" in options else Question.of(options)
    return replace(baseline.question, **{name: getattr(given, name) for name in options})
