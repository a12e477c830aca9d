"""The same model passes: in other files, classes, batches, threads and precisions; versions alone fail no check."""

from __future__ import annotations

import copy
import os
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from maze_dla.adapters.mazes.load import load_maze_model
from maze_dla.adapters.mazes.model import MazeModel
from maze_dla.baselines import check
from maze_dla.baselines.record import described_run, record_baseline
from tests.adapters.mazes.small_files import NEW, random_state, small_checkpoint

from .changing import changed, checked, copied, line, reload

DATA = Path(__file__).parent / "data"


def same(file: Path, source: Any = None, **options: Any) -> str:
    """What the outcome says, after nothing has changed."""
    outcome = checked(file, source, **options)
    text = "\n".join(outcome.lines())
    assert outcome.same, text
    assert "  weights: same" in text
    return text


@pytest.mark.parametrize("form", [{"key": NEW}, {"tensors": "inline"}, {"tensors": "external"}])
def test_saved_again(recorded: Path, tmp_path: Path, form: dict[str, Any]) -> None:
    """In the forms of 2023 and 2024, with arrays inside and outside of the JSON."""
    assert "  prompts: same" in same(recorded, small_checkpoint(random_state(), **form).write(tmp_path / "again.zanj"))


@pytest.mark.parametrize("file", sorted(DATA.glob("*.json")), ids=lambda file: file.stem)
def test_recorded_on_another_stack(tmp_path: Path, file: Path) -> None:
    small_checkpoint().write(tmp_path / "small.zanj")
    text = same(Path(shutil.copy(file, tmp_path / "recorded.json")))
    assert "  prompts: same" in text


def test_stacks_of_recorded_files() -> None:
    assert {file.stem for file in DATA.glob("*.json")} == {"classic", "newest"}


@pytest.mark.parametrize("how", [{"sequences_at_once": 1}, {"sequences_at_once": 2}, {"forward": "hooked"}], ids=str)
def test_another_batch_size_or_engine(recorded: Path, how: dict[str, Any]) -> None:
    same(recorded, **how)


def test_threads(home: Path, recorded: Path) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        maze = reload(home)
        with ThreadPoolExecutor(2) as pool:
            for text in pool.map(lambda _: same(recorded, maze), range(2)):
                assert "CHANGED" not in text
    finally:
        torch.set_num_threads(before)


def test_precisions(recorded: Path, tmp_path: Path, home: Path) -> None:
    """With the tolerance of the coarser one; a change that float32 could see is caught in float64 too."""
    assert "dtype was float32, now it is float64" in line(same(recorded, dtype=torch.float64), "versions")
    shutil.copy(home / "small.zanj", tmp_path)
    exact = record_baseline(tmp_path / "exact.json", tmp_path / "small.zanj", n_mazes=6, dtype=torch.float64)
    same(exact)
    same(exact, dtype=torch.float32)
    maze = load_maze_model(home / "small.zanj", dtype=torch.float64)
    maze.model.blocks[1].attn.hook_q.add_hook(lambda x, hook: (1 + 1e-7) * x)
    assert "  weights: same" in changed(exact, maze)
    assert "  weights: same" in same(recorded, maze)


def test_half_precision_beside_itself(home: Path, tmp_path: Path) -> None:
    shutil.copy(home / "small.zanj", tmp_path)
    half = record_baseline(tmp_path / "half.json", tmp_path / "small.zanj", n_mazes=3, dtype=torch.bfloat16)
    same(half)


def test_in_memory(home: Path, recorded: Path) -> None:
    maze = reload(home)
    same(recorded, maze)
    moved = copy.deepcopy(maze.model).to(torch.float64).to(torch.float32)
    same(recorded, MazeModel(moved, maze.vocabulary, maze.dataset_config))


def test_from_another_folder(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths are relative to the file, wherever the process stands and whatever links lead there."""
    (tmp_path / "repository" / "tests").mkdir(parents=True)
    (tmp_path / "repository" / "models").mkdir()
    shutil.copy(home / "small.zanj", tmp_path / "repository" / "models")
    (tmp_path / "link").symlink_to(tmp_path / "repository" / "tests")
    monkeypatch.chdir(tmp_path)
    file = record_baseline("link/b.json", Path("repository/models/small.zanj"), n_mazes=3)
    text = Path("repository/tests/b.json").read_text(encoding="utf-8")
    assert '"checkpoint": "../models/small.zanj"' in text
    assert str(tmp_path) not in text
    same(file)
    monkeypatch.chdir("repository/models")
    same(Path("../tests/b.json"))
    shutil.move(tmp_path / "repository", tmp_path / "elsewhere")
    same(tmp_path / "elsewhere" / "tests" / "b.json")


@pytest.fixture
def other_mazes(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Prompts become those of another seed, and this package's version another one."""

    def change(package: str) -> None:
        make: Any = MazeModel.prompts
        monkeypatch.setattr(MazeModel, "prompts", lambda self, mazes, **how: make(self, mazes, **{**how, "seed": 7}))
        monkeypatch.setattr(check, "described_run", lambda view: _with_version(described_run(view), package))

    return change


def _with_version(run: dict[str, Any], package: str) -> dict[str, Any]:
    return {**run, "versions": {**run["versions"], package: "9.9"}}


def test_another_generator_of_another_version(recorded: Path, other_mazes: Callable[[str], None]) -> None:
    other_mazes("maze-dataset")
    text = same(recorded)
    assert "what makes the prompts makes others now (maze-dataset " in line(text, "prompts")
    assert "became 9.9" in line(text, "prompts")
    assert line(text, "prompts").endswith("the recorded ones are used")


def test_other_mazes_of_the_same_version(recorded: Path, other_mazes: Callable[[str], None]) -> None:
    other_mazes("torch")
    text = changed(recorded)
    assert "with the same versions of what makes them; the recorded ones are used" in line(text, "prompts")
    assert "  numbers: all" in text


def test_versions_alone(recorded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "described_run", lambda view: {**described_run(view), "versions": {"torch": "9.9"}})
    text = line(same(recorded), "versions")
    assert "torch " in text
    assert "became 9.9" in text


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(home: Path, tmp_path: Path) -> None:
    file = copied(home, tmp_path)
    tmp_path.chmod(0o500)
    try:
        same(file)
    finally:
        tmp_path.chmod(0o700)
