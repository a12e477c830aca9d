"""`maze-dla baseline` as a user calls it: exit codes, what is printed, and what is written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from maze_dla.cli import main
from tests.adapters.mazes.small_files import State, damaged, random_state, small_checkpoint

Printed = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint and its baseline, `b.json`."""
    folder = tmp_path_factory.mktemp("made")
    source = small_checkpoint().write(folder / "small.zanj")
    assert main(["baseline", "record", str(source), "--n-mazes", "6", "-o", str(folder / "b.json")]) == 0
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """The same, for one test."""
    for name in ("small.zanj", "b.json"):
        shutil.copy(made / name, tmp_path)
    return tmp_path


def other_weights(folder: Path) -> None:
    """Another state of the same model in the checkpoint's place."""

    def moved(state: State) -> State:
        state["blocks.1.attn.W_O"][1] *= np.float32(1.5)
        return state

    small_checkpoint(moved(random_state())).write(folder / "small.zanj")


def test_same(folder: Path, capsys: Printed) -> None:
    before = (folder / "b.json").read_bytes()
    assert main(["baseline", "check", str(folder / "b.json")]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines()[:4] == [
        str(folder / "b.json"),
        "small.zanj: first_path_choice, neighbors: same",
        "  weights: same",
        "  prompts: same",
    ]
    assert (folder / "b.json").read_bytes() == before


def test_changed_and_updated(folder: Path, capsys: Printed) -> None:
    file, command = folder / "b.json", ["baseline", "check", str(folder / "b.json")]
    before = file.read_bytes()
    other_weights(folder)
    assert main(command) == 1
    out = capsys.readouterr().out
    assert "small.zanj: first_path_choice, neighbors: CHANGED" in out
    assert "other values in blocks.1.attn.W_O" in out
    assert "it means: of the heads, L1H1 moved most" in out
    assert file.read_bytes() == before
    assert main([*command, "--update"]) == 1
    assert "the file was rewritten" in capsys.readouterr().out
    assert file.read_bytes() != before
    assert main(command) == 0
    assert main([*command, "--update"]) == 1  # always: who updates has to look


def test_never_updated_with_another_model(folder: Path, capsys: Printed) -> None:
    file = folder / "b.json"
    before = file.read_bytes()
    other = damaged(name="another").write(folder / "other.zanj")
    for source in (other, None):
        command = ["baseline", "check", str(file), "--update", *(["--checkpoint", str(source)] if source else [])]
        if source is None:
            shutil.copy(other, folder / "small.zanj")
        assert main(command) == 2
        err = capsys.readouterr().err
        assert "is of another model or task (name was small-model, now it is another): record a file of its own" in err
        assert file.read_bytes() == before


def test_what_cannot_be_checked(folder: Path, capsys: Printed) -> None:
    """The others are checked all the same."""
    file = folder / "b.json"
    (folder / "gone").mkdir()
    shutil.copy(file, folder / "gone" / "b.json")
    assert main(["baseline", "check", str(folder / "gone" / "b.json"), str(folder / "none.json"), str(file)]) == 2
    out, err = capsys.readouterr()
    assert "CANNOT BE CHECKED: " in out
    assert "small.zanj: no such file" in out
    assert err == f"maze-dla: error: {folder / 'none.json'}: no such file\n"
    assert out.endswith(out[out.index(f"{file}\n") :])
    assert "first_path_choice, neighbors: same" in out
    before = (folder / "gone" / "b.json").read_bytes()
    assert main(["baseline", "check", str(folder / "gone" / "b.json"), "--update"]) == 2
    assert (folder / "gone" / "b.json").read_bytes() == before
    assert main(["baseline", "check", str(folder / "gone" / "b.json"), "--checkpoint", str(folder / "small.zanj")]) == 0


def test_recorded_once(folder: Path, capsys: Printed) -> None:
    before = (folder / "b.json").read_bytes()
    assert main(["baseline", "record", str(folder / "small.zanj"), "-o", str(folder / "b.json")]) == 2
    assert "b.json: is there already; check it with update=True (--update) to rewrite it" in capsys.readouterr().err
    assert (folder / "b.json").read_bytes() == before


def test_several_models_and_tasks_in_one_file(folder: Path, capsys: Printed) -> None:
    file = folder / "all.json"
    damaged(name="second").write(folder / "second.zanj")
    sources = [str(folder / name) for name in ("small.zanj", "second.zanj")]
    how = ["--task", "first_path_choice", "path_end", "--n-mazes", "4", "-o", str(file)]
    if main(["baseline", "record", *sources, *how]) != 0:
        pytest.fail(capsys.readouterr().err)
    names = list(json.loads(file.read_text(encoding="utf-8"))["baselines"])
    assert len(names) == 4
    other_weights(folder)
    assert main(["baseline", "check", str(file)]) == 1
    out = capsys.readouterr().out
    assert out.count(": CHANGED\n") == 2
    assert out.count(": same\n  weights: same\n") == 2
    assert main(["baseline", "check", str(file), "--checkpoint", sources[0]]) == 2
    assert "a source can be given for one alone" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["record", "--dtype", "int8"], "unknown dtype 'int8', expected one of float64, float32, float16, bfloat16"),
        (["record", "--metric", "best"], "unknown metric 'best'"),
        (["record", "--task", "none"], "none"),
        (["check", "x.json", "y.json", "--checkpoint", "z.zanj"], "--checkpoint goes with one file"),
    ],
)
def test_bad_arguments(folder: Path, capsys: Printed, arguments: list[str], message: str) -> None:
    extra = ["-o", str(folder / "new.json"), "--n-mazes", "3"] if arguments[0] == "record" else []
    assert main(["baseline", *arguments, *extra]) == 2
    err = capsys.readouterr().err
    assert err.startswith("maze-dla: error: ")
    assert message in err
    assert not (folder / "new.json").exists()
