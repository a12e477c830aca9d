"""Small models and what happens to them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from maze_dla.adapters.mazes.checkpoint import read_checkpoint
from maze_dla.adapters.mazes.load import load_maze_model
from maze_dla.adapters.mazes.model import MazeModel
from maze_dla.adapters.transformer_lens.build import build_decoder
from maze_dla.adapters.transformer_lens.identity import set_provenance
from maze_dla.baselines.check import check_baseline
from maze_dla.baselines.outcome import Checked
from tests.adapters.mazes.small_files import State, random_state, small_checkpoint

NAME = "small.zanj: first_path_choice, neighbors"


def checked(file: Path, source: Any = None, **options: Any) -> Checked:
    """The outcome for the one baseline of a file."""
    (outcome,) = check_baseline(file, source, **options).checks
    return outcome


def changed(file: Path, source: Any = None, **options: Any) -> str:
    """What the outcome says, all of it, after the check has failed."""
    outcome = checked(file, source, **options)
    assert outcome.problem is None
    assert not outcome.same
    return "\n".join(outcome.lines())


def line(text: str, kind: str) -> str:
    """The one line of an outcome that begins with this word."""
    (found,) = (row for row in text.splitlines() if row.startswith(f"  {kind}: "))
    return found.removeprefix(f"  {kind}: ")


def with_state(path: Path, change: Callable[[State], Any]) -> Path:
    """A checkpoint of the small model after a change of its weights."""
    state = random_state()
    change(state)
    return small_checkpoint(state).write(path)


def with_spec(file: Path, **spec: Any) -> MazeModel:
    """The model of a checkpoint built otherwise."""
    read = read_checkpoint(file)
    model = build_decoder(replace(read.spec, **spec), read.state)
    set_provenance(model, read.name, file.name, read.vocabulary.tokens)
    return MazeModel(model, read.vocabulary, read.dataset_config)


def reload(home: Path) -> MazeModel:
    """The small model in memory, a fresh one."""
    return load_maze_model(home / "small.zanj")


def copied(home: Path, folder: Path) -> Path:
    """The baseline with its checkpoint in another folder; the path of the baseline."""
    for name in ("small.zanj", "recorded.json"):
        shutil.copy(home / name, folder / name)
    return folder / "recorded.json"


def edited(file: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """A file after a change of its one baseline by hand."""
    content = json.loads(file.read_text(encoding="utf-8"))
    (baseline,) = content["baselines"].values()
    change(baseline)
    file.write_text(json.dumps(content), encoding="utf-8")
    return file
