"""Training writes into its own folder alone, can always go on, and leaves what was there on a failure."""

from __future__ import annotations

import errno
import sys
from functools import cache
from pathlib import Path

import pytest
import torch

import maze_dla as dla
from maze_dla.errors import CheckpointError, InputError
from maze_dla.files import locked
from maze_dla.training.gpt2 import run as ioi_run
from maze_dla.training.mazes import loop
from maze_dla.training.mazes import run as maze_run
from maze_dla.training.mazes.loop import TrainingPlan

PLAN = TrainingPlan(steps=2, mazes=2, first_steps=1, measure_every=1, warm_up=1, keep_at=())
IOI_PLAN = ioi_run.TrainingPlan(steps=1, sentences=2)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model of one layer, measured by nothing, on corridors that are made once."""
    for name, size in {"LAYERS": 1, "D_MODEL": 8, "D_HEAD": 4}.items():
        monkeypatch.setattr(maze_run, name, size)
    monkeypatch.setattr(loop, "first_choice_accuracy", lambda *args: 0.5)
    monkeypatch.setattr(maze_run, "_pools", POOLS)


POOLS = cache(maze_run._pools)


def train(folder: Path, **changes: int) -> list[int]:
    """The steps that a run in a folder measured."""
    plan = TrainingPlan(**{**vars(PLAN), **changes})  # pyright: ignore
    return [int(m["step"]) for m in maze_run.train_bundled(folder, plan, n_corridors=150)]


def weights(file: Path) -> torch.Tensor:
    return dla.load_maze_model(file).model.W_U


def plant_links(folder: Path, *names: str) -> Path:
    outside = folder.parent / f"outside-{folder.name}"
    outside.write_text("precious")
    for name in names:
        (folder / name).symlink_to(outside)
    return outside


def test_mazes_follow_no_planted_links(tmp_path: Path) -> None:
    outside = plant_links(tmp_path, "state.partial", "state.tmp", "step_00001.zanj", "step_00002.zanj")
    assert train(tmp_path, keep_at=(1,)) == [1, 2]  # pyright: ignore
    assert outside.read_text() == "precious"
    assert not (tmp_path / "step_00002.zanj").is_symlink()


def test_ioi_follows_no_planted_links(tmp_path: Path) -> None:
    names = ("config.json", "vocab.json", "merges.txt", "tokenizer_config.json", "model.safetensors")
    outside = plant_links(tmp_path, *names, "model.safetensors.partial", "generation_config.json")
    assert len(list(ioi_run.train_bundled(tmp_path, IOI_PLAN))) == 1
    assert outside.read_text() == "precious"
    assert not any((tmp_path / name).is_symlink() for name in names)
    assert dla.load_gpt2(tmp_path).tokenizer.tokenize(" Mary") == ["ĠMary"]


def test_ioi_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text("of an earlier run")
    monkeypatch.setattr(ioi_run, "save_folder", full_disk)
    with pytest.raises(InputError, match=r"cannot be written \(No space left on device\)"):
        list(ioi_run.train_bundled(tmp_path, IOI_PLAN))
    assert [(f.name, f.read_text()) for f in tmp_path.iterdir()] == [("config.json", "of an earlier run")]


def full_disk(*args: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("fails", ["save_checkpoint", "TrainingState.save"])
def test_a_run_that_died_between_two_files_goes_on(fails: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever of the two a full disk keeps from being written, in the first and in the last step."""
    owner, name = (maze_run, fails) if fails == "save_checkpoint" else (maze_run.TrainingState, "save")
    straight = tmp_path / "straight"
    straight.mkdir()
    train(straight, keep_at=(1, 2))  # pyright: ignore
    for step in (1, 2):
        folder = tmp_path / f"{step}"
        folder.mkdir()
        write, calls = getattr(owner, name), iter(range(1, 10))

        def fail(*args: object, write=write, calls=calls, step=step) -> object:
            return full_disk() if next(calls) == step else write(*args)

        with monkeypatch.context() as patched:
            patched.setattr(owner, name, fail)
            with pytest.raises(OSError, match="No space left"):
                train(folder, keep_at=(1, 2))  # pyright: ignore
        train(folder, keep_at=(1, 2))  # pyright: ignore
        for kept in ("step_00001.zanj", "step_00002.zanj"):
            assert torch.equal(weights(folder / kept), weights(straight / kept))


def test_a_state_without_its_checkpoint_makes_it_again(tmp_path: Path) -> None:
    train(tmp_path)
    expected = weights(tmp_path / "step_00002.zanj")
    (tmp_path / "step_00002.zanj").unlink()
    assert train(tmp_path) == []
    assert torch.equal(weights(tmp_path / "step_00002.zanj"), expected)


def test_fewer_steps_than_there_are(tmp_path: Path) -> None:
    train(tmp_path)
    before = {f.name: f.read_bytes() for f in tmp_path.iterdir()}
    with pytest.raises(InputError, match=r"state\.pt: a run of 2 steps already, more than the 1 asked for"):
        train(tmp_path, steps=1)
    assert {f.name: f.read_bytes() for f in tmp_path.iterdir()} == before


@pytest.mark.parametrize("damage", [b"", b"no state", "cut"])
def test_a_damaged_state(damage: bytes | str, tmp_path: Path) -> None:
    train(tmp_path)
    state = tmp_path / "state.pt"
    state.write_bytes(state.read_bytes()[:-1000] if isinstance(damage, str) else damage)
    with pytest.raises(CheckpointError, match=r"state\.pt: no state of such a run"):
        train(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="no such locks on Windows")
def test_two_runs_in_one_folder(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(InputError, match="another run is writing into this folder"):
        train(tmp_path)
    assert list(tmp_path.iterdir()) == []
