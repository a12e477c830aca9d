"""Where commands may write: what `--out` is, is known before anything is loaded, and nothing blocks."""

from __future__ import annotations

import errno
import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from adapters.mazes.small_files import small_checkpoint

from maze_dla.bench import run as running
from maze_dla.cli import main
from maze_dla.files import output_path
from maze_dla.report import write as writing

FOLDERS = {"report": ["report"], "ioi": ["ioi", "--model", "bundled"], "compare": ["compare"], "train": ["train"]}
FILES = {"rollout": ["rollout"], "bench": ["bench"]}
needs_unix = pytest.mark.skipif(sys.platform == "win32", reason="no pipes in folders on Windows")


@pytest.fixture(autouse=True)
def _nothing_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Each command would raise as soon as it begins."""
    monkeypatch.chdir(tmp_path)
    if "runs" in request.fixturenames:
        return
    for name in ("report._report", "ioi._ioi", "compare._compare", "train._train", "rollout._rollout", "bench._bench"):
        monkeypatch.setattr(f"maze_dla.cli.{name}", lambda chosen: pytest.fail(f"began to write {chosen.out}"))


@pytest.fixture
def runs() -> None:
    """Commands run."""


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The line of a command that ends with exit code 2 and prints nothing else."""
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1), said
    assert len(said.err) < 2500
    return said.err


NAMES = {
    "empty": ("", "the path to write at is empty"),
    "null byte": ("a\0b", r"a\x00b: cannot be written (embedded null byte)"),
    "too long": ("x" * 300, "x: cannot be written (File name too long)"),
    "too long below": ("y/" + "x" * 300, "x: cannot be written (File name too long)"),
    "longer than a screen": ("x" * 9000, "characters] ..."),
    "nobody's home": ("~nosuchuser/out", "~nosuchuser/out: no home of ~nosuchuser; a file of that name is ./~nosuch"),
    "no text": ("\ud800", r"\ud800: cannot be written ('utf-8' codec"),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("command", [*FOLDERS, *FILES])
def test_names_that_no_file_has(command: str, name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out, expected = NAMES[name]
    line = refused(capsys, *{**FOLDERS, **FILES}[command], f"--out={out}")
    assert line.startswith(f"maze-dla {command}: error: argument --out: ")
    assert expected in line
    assert list(tmp_path.iterdir()) == []


@needs_unix
@pytest.mark.parametrize("command", FILES)
@pytest.mark.parametrize("place", ["pipe", "link to a pipe", "socket", "/dev/full", "folder"])
def test_what_is_no_file_is_refused_before_anything_runs(
    command: str, place: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    os.mkfifo("pipe")
    Path("link to a pipe").symlink_to("pipe")
    Path("folder").mkdir()
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind("socket")
        before = {p.name: p.lstat().st_ino for p in tmp_path.iterdir()}
        line = refused(capsys, command, "--out", place)
    assert f"argument --out: {place}: cannot be written as a file: it is " in line
    assert {p.name: p.lstat().st_ino for p in tmp_path.iterdir()} == before


@needs_unix
@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize("place", ["pipe", "link to a pipe", "/dev/full", "file", "file/below", "/proc/below"])
def test_what_is_no_folder_is_refused(place: str, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo("pipe")
    Path("link to a pipe").symlink_to("pipe")
    Path("file").touch()
    for command in FOLDERS.values():
        assert f"error: {place}: cannot be written as a folder (" in refused(capsys, *command, "--out", place)


def test_a_home_is_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    seen: list[Path] = []
    monkeypatch.setattr("maze_dla.cli.bench._bench", lambda chosen: seen.append(chosen.out) or 0)
    assert main(["bench", "--out=~/x.json"]) == main(["bench", "--out=./~x"]) == 0
    assert seen == [tmp_path / "x.json", Path("~x")]
    with pytest.raises(Exception, match="where to write is a path, got int"):
        output_path(3)  # pyright: ignore[reportArgumentType]


NOT_UTF8 = "caf\udce9"  # as Python has the bytes b"caf\xe9" of a file's name


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are text elsewhere")
@pytest.mark.usefixtures("runs")
def test_names_of_files_that_are_no_text(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("draw_pictures", "draw_close_up"):
        monkeypatch.setattr(writing, name, lambda *args: [])
    small = str(small_checkpoint().write(Path(f"{NOT_UTF8}.zanj")))
    out = Path(f"{NOT_UTF8}.out")
    assert main(["report", small, "--n-mazes", "4", "--metric", "all", "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert r"caf\udce9.zanj" in said.out
    assert r"written: caf\udce9.out" in said.out
    assert r"caf\udce9.zanj" in (out / "report.html").read_text(encoding="utf-8")
    assert main(["rollout", small, "--n-mazes", "2", "--out", f"{NOT_UTF8}.csv"]) == 0
    assert r"caf\udce9.zanj" in Path(f"{NOT_UTF8}.csv").read_text(encoding="utf-8")
    results = [str(out / "result.zanj")] * 2
    assert main(["compare", *results, "--out", str(out)]) == 0
    capsys.readouterr()
    assert r"caf\udce9.none: no such file" in refused(capsys, "report", f"{NOT_UTF8}.none")


def no_space(*args: Any, **options: Any) -> Any:
    raise OSError(errno.ENOSPC, "No space left on device")


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else b"" for p in folder.rglob("*")}


FULL = {
    "report": ("maze_dla.report.write.render_page", ["report", "{small}", "--n-mazes", "2", "--metric", "all"]),
    "ioi": ("maze_dla.report.write.render_page", ["ioi", "--model", "bundled"]),
    "compare": ("maze_dla.report.compare.save_figure", ["compare", "--model", "bundled", "--n-prompts", "4"]),
    "rollout": ("pandas.DataFrame.to_csv", ["rollout", "{small}", "--n-mazes", "2"]),
    "bench": ("pathlib.Path.write_text", ["bench", "--shape", "gpt2", "--prompts", "2", "--rounds", "1"]),
    "train": ("maze_dla.training.gpt2.run.write_file", ["train", "ioi", "--steps", "1"]),
}


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize("command", FULL)
def test_a_full_disk_leaves_all_as_it_was(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(running, "run_bench", lambda *args, **options: None)
    monkeypatch.setattr("maze_dla.bench.table.as_json", lambda report: {})
    for name in ("draw_pictures", "draw_close_up"):
        monkeypatch.setattr(writing, name, lambda *args: [])
    small = str(small_checkpoint().write(tmp_path / "small.zanj"))
    arguments = [a.format(small=small) for a in FULL[command][1]]
    out = "old.file" if command in FILES else "old"
    if command in FILES:
        Path(out).write_text("old")
    else:
        Path(out).mkdir()
        (Path(out) / "report.html").write_text("old")
    before = tree(tmp_path)
    monkeypatch.setattr(FULL[command][0], no_space)
    assert main([*arguments, "--out", out]) == 2
    err = capsys.readouterr().err
    assert err.startswith("maze-dla: error: ")
    assert err.endswith("No space left on device)\n") or err.endswith("No space left on device\n")
    assert err.count("\n") == 1
    assert tree(tmp_path) == before
