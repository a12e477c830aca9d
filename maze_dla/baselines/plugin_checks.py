"""The baselines of one test: asked for, compared, and written where the run's words say so."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from maze_dla.adapters.transformer_lens.view import Forward
from maze_dla.analysis.running import as_residual_model
from maze_dla.baselines.baseline import IN_MEMORY, Baseline, baseline_name
from maze_dla.baselines.check import checked
from maze_dla.baselines.files import read_baselines, stale_arrays, write_baselines
from maze_dla.baselines.models import described_model, is_another_model
from maze_dla.baselines.questions import BUNDLED, Question, ask, check_placed, load_model, place_seen_from
from maze_dla.baselines.record import recorded, relative_source, with_relative_data
from maze_dla.errors import BaselineError, DatasetError, InputError, PromptError, visible
from maze_dla.files import locked
from maze_dla.results.torch_defaults import torch_defaults

UPDATE, UPDATE_NEW = "--dla-update", "--dla-update-new"


@dataclass(frozen=True)
class How:
    """How a test wants its model to run."""

    dtype: torch.dtype | None = None
    device: str | torch.device | None = None
    sequences_at_once: int | None = None
    forward: Forward = "auto"


@dataclass(frozen=True)
class Asked:
    """The question of a test: a model with its place, and a question with all that it leaves open filled in.

    `given` is the question as the test has it, with the path of its data set as it is.
    """

    place: str
    model: Any
    given: Question
    question: Question

    @property
    def name(self) -> str:
        """The baseline's name."""
        return baseline_name(self.place, str(as_residual_model(self.model).info["model"]), self.question)


class BaselinesOfTest:
    """The file of a test, what of it the test asked for, and what is to be written into it."""

    def __init__(self, file: Path, folders: Sequence[Path], *, update: bool, update_new: bool) -> None:
        """Read the file.

        Raises:
            BaselineError: it is there and cannot be read.
        """
        self.file, self.folders, self.update, self.update_new = file, folders, update, update_new
        self.held, self.arrays = _read(file)
        self.asked: list[str] = []
        self.made: dict[str, Baseline] = {}
        self.moved: set[str] = set()  # held under the place where the model was before, and made anew
        self.failures: list[str] = []

    @torch_defaults()
    def check(self, source: Any, how: How, options: Mapping[str, Any]) -> None:
        """Ask a model and compare; why that fails the test goes into `failures`.

        Raises:
            MazeDlaError: the question cannot be asked, or was asked before.
        """
        asked = self._ask(source, how, options)
        baseline = self.held.get(asked.name) or self._moved(asked)
        name = asked.name if baseline is None else baseline.name
        if name in self.asked:
            raise InputError(
                f"the test asks twice for {name!r}: a baseline goes by model, task and metric; ask about other seeds, "
                "mazes or options in a test of its own"
            )
        self.asked.append(name)
        if baseline is None:
            self._absent(asked)
            return
        run = {"sequences_at_once": how.sequences_at_once, "forward": how.forward}
        found = checked(baseline, self.file.parent, asked.model, asked.question, run)
        if found.same:
            return
        self.failures += [f"{self.file}:", *found.lines()]
        if found.problem is None and self.update and baseline.name != asked.name:
            self.moved.add(baseline.name)
        if found.problem is None and self.update:
            self._make(asked, asked.place, [baseline])
        elif found.problem is None:
            self.failures.append(f"if that is meant to be so: pytest {UPDATE} rewrites it")

    def finish(self) -> None:
        """Write what is to be written; why the test fails goes into `failures`.

        Raises:
            BaselineError: the file cannot be written, or is of another model or task.
        """
        stale = [name for name in self.held if name not in self.asked]
        if self.held and self.asked and not {_subject(n) for n in self.held} & {_subject(n) for n in self.asked}:
            self.failures.append(
                f"{self.file}: is of another model or task: it holds {_some(self.held)}, the test asks for "
                f"{_some(self.asked)}; it is never rewritten so: remove it, then record with {UPDATE_NEW}"
            )
            return
        dropped = stale if self.update and self.asked else []
        if self.made or dropped or (self.arrays and self.update and self.asked):
            self._write(dropped)
        elif self.arrays:
            n = len(self.arrays)
            self.failures.append(f"{self.file}: the .npz beside it holds {n} stale arrays; pytest {UPDATE} drops them")
        if stale and not dropped:
            advice = f"pytest {UPDATE} drops it" if self.asked else "remove the file"
            self.failures.append(f"{self.file}: stale, the test no longer asks for {_some(stale)}; {advice}")

    def _write(self, dropped: Sequence[str]) -> None:
        gone = {*dropped, *(self.moved if self.made else ())}
        kept = {name: baseline for name, baseline in self.held.items() if name not in gone}
        write_baselines(self.file, {**kept, **self.made})
        self.failures += [f"written: {name}" for name in self.made]
        self.failures += [f"dropped, since the test no longer asks for it: {name}" for name in dropped]
        self.failures.append(f"{self.file}: was written; look at it, and run the test again without the option")

    def _ask(self, source: Any, how: How, options: Mapping[str, Any]) -> Asked:
        place = self._place(source)
        check_placed(place, how.dtype, how.device)
        given = Question.of(options)
        if given.dataset is not None:
            given = replace(given, dataset=str(self._found(given.dataset)))
        folder = self.file.parent
        where = relative_source(place, folder)
        alike = [b for b in self.held.values() if (b.checkpoint, b.question.task) == (where, given.task)]
        dtype = how.dtype or (getattr(torch, alike[0].run["dtype"]) if alike else None)
        model = load_model(place, given.task, dtype=dtype, device=how.device)
        question = with_relative_data(given, folder)
        try:
            question = ask(model, question, folder).question
        except (DatasetError, PromptError):  # mazes cannot be made now: a check says so, and uses the recorded ones
            if not alike:
                raise
            question = replace(question, metric=question.metric or alike[0].question.metric)
        return Asked(where, model, given, question)

    def _place(self, source: Any) -> Any:
        if source is None or source == BUNDLED:
            return BUNDLED
        return self._found(source) if isinstance(source, str | os.PathLike) else source

    def _found(self, path: str | os.PathLike[str]) -> Path:
        """A path beside the test, in the root folder or in the current one."""
        places = [folder / path for folder in self.folders]
        found = next((place for place in places if place.exists()), None)
        if found is None:
            where = ", ".join(dict.fromkeys(str(folder) for folder in self.folders))
            raise BaselineError(f"{os.fspath(path)!r:.300}: no such file in {where}")
        return found

    def _moved(self, asked: Asked) -> Baseline | None:
        """The baseline of a model whose file lies elsewhere now: the only one of the same file name and question."""
        if asked.place in (IN_MEMORY, BUNDLED):
            return None
        found = [
            baseline
            for name, baseline in self.held.items()
            if name not in self.asked
            and Path(baseline.checkpoint).name == Path(asked.place).name
            and not place_seen_from(self.file.parent, baseline.checkpoint).exists()
            and (baseline.question.task, baseline.question.metric) == (asked.question.task, asked.question.metric)
        ]
        return found[0] if len(found) == 1 else None

    def _absent(self, asked: Asked) -> None:
        if self.update or self.update_new:
            subject = _subject(asked.name)
            self._make(asked, asked.place, [b for name, b in self.held.items() if _subject(name) == subject])
            return
        state = f"holds {_some(self.held)}, not {asked.name!r}" if self.held else f"no such file, for {asked.name!r}"
        self.failures.append(f"{self.file}: {state}: nothing is recorded of it; pytest {UPDATE_NEW} records it")

    def _make(self, asked: Asked, place: str, before: Sequence[Baseline]) -> None:
        """Record anew, unless baselines of the same place were of another model."""
        now = described_model(as_residual_model(asked.model), asked.model)
        for baseline in before:
            if (other := is_another_model(now, baseline.model)) is not None:
                self.failures.append(
                    f"{self.file}: {baseline.name!r} is of another model ({other}) and is never rewritten as this one: "
                    "remove the file to record it"
                )
                return
        baseline = replace(recorded(asked.model, asked.given, self.file.parent), checkpoint=place)
        self.made[baseline.name] = baseline


def text_of(failures: Sequence[str]) -> str:
    """Lines as one text, without anything that controls a terminal."""
    return "\n".join(visible(line) for line in failures)


def _read(file: Path) -> tuple[dict[str, Baseline], tuple[str, ...]]:
    """The baselines of a file, none where it is not there, and the arrays beside it that belong to none of them."""
    if not file.exists():
        return {}, ()
    with suppress(BaselineError):
        held = read_baselines(file)
        if not stale_arrays(file, held):
            return held, ()
    with locked(file.parent, wait=True):  # another run may have been replacing its two files
        held = read_baselines(file)
        return held, stale_arrays(file, held)


def _subject(name: str) -> str:
    """Model and task of a baseline's name, without the metric."""
    return name.rpartition(", ")[0]


def _some(names: Sequence[str] | Mapping[str, Any]) -> str:
    shown = [repr(name) for name in names]
    return ", ".join(shown[:3]) + (f" and {len(shown) - 3} more" if len(shown) > 3 else "")
