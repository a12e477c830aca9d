"""Printed text controls no terminal, forges no line, and survives whatever stands at its other end."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from results.test_storage import attribution

from maze_dla.cli import main
from maze_dla.cli.printing import complain, say
from maze_dla.errors import CheckpointError, InputError, visible

ROOT = Path(__file__).parents[2]
HOSTILE = "evil\x1b[2J\naccuracy  1.000 [1.000, 1.000]\r\x07\u202e\x9b31m\u2028\x00end"
SHOWN = r"evil\x1b[2J\naccuracy  1.000 [1.000, 1.000]\r\x07\u202e\x9b31m\u2028\x00end"


def test_control_characters_become_visible() -> None:
    assert visible(HOSTILE) == SHOWN
    assert visible("(0,1) → ĠMary 迷路") == "(0,1) → ĠMary 迷路"
    for number in (*range(32), *range(127, 160), 0xAD, 0x200B, 0x2029, 0x202A, 0x2066, 0xFEFF, 0xD800, 0xE000):
        assert len(visible(chr(number))) > 1, hex(number)
    assert all(visible(chr(number)) == chr(number) for number in range(32, 127))


def test_errors_and_results_are_made_of_visible_lines() -> None:
    assert str(CheckpointError(f"{HOSTILE}: no")) == f"{SHOWN}: no"
    result = attribution(3, full=False)
    named = replace(result, info={**result.info, "model": HOSTILE, "task": HOSTILE, "metric": HOSTILE})
    assert len(repr(named).split("\n")) == len(repr(result).split("\n"))
    assert f"  model: {SHOWN}" in repr(named)


def test_names_from_files_forge_no_row_of_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = attribution(3, full=False)
    files = []
    for name in (HOSTILE, "other"):
        file = replace(result, info={**result.info, "model": name}).save(tmp_path / f"{len(files)}.zanj")
        files.append(str(file))
    assert main(["compare", *files, "--out", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert SHOWN in out.split("\n")[0]
    assert not any(line.startswith("accuracy  1.000") for line in out.splitlines())
    assert not set(out) & set("\x1b\x07\r\x00\x9b\u202e\u2028")


def test_arguments_and_paths_are_visible_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["report", HOSTILE[:-4]], ["report", "--n-mazes", HOSTILE], ["train", HOSTILE]):
        assert main([*arguments, "--out", str(tmp_path / "o")]) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        assert r"evil\x1b[2J" in err
        assert "\x1b" not in err


@pytest.mark.parametrize(
    ("encoding", "shown"), [("ascii", r"\u2192 \xe9 x"), ("cp1252", r"\u2192 é x"), ("utf-8", "→ é x")]
)
def test_any_encoding(encoding: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, function in (("stdout", say), ("stderr", complain)):
        stream = io.BytesIO()
        monkeypatch.setattr(sys, name, io.TextIOWrapper(stream, encoding=encoding, errors="strict", newline=""))
        function("→ é x")
        assert stream.getvalue().decode(encoding) == f"{shown}\n"


class Full(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


def test_a_full_or_closed_output(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream, reason in ((Full(), "No space left on device"), (io.StringIO(), "I/O operation on closed file")):
        if not isinstance(stream, Full):
            stream.close()
        with monkeypatch.context() as patched:
            patched.setattr(sys, "stdout", stream)
            with pytest.raises(InputError, match=rf"^standard output cannot be written \({reason}"):
                say("x")
            say("y")  # goes nowhere
            patched.setattr(sys, "stderr", stream)
            complain("z")
    monkeypatch.setattr(sys, "stdout", None)
    say("x")


def shell(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", "-c", command.format(python=sys.executable)], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full device here")
def test_a_process_with_a_full_or_closed_output_ends_in_a_line() -> None:
    for arguments in ("--help", "report --help"):
        done = shell("{python} -m maze_dla " + arguments + " > /dev/full")
        expected = "maze-dla: error: standard output cannot be written (No space left on device)\n"
        assert (done.returncode, done.stderr) == (2, expected)
        assert shell("{python} -m maze_dla " + arguments + " >&-").stderr == ""
    assert shell("{python} -m maze_dla report --n-mazes x 2> /dev/full").returncode == 2
    assert shell("{python} -m maze_dla report --n-mazes x 2>&-").returncode == 2


STOPPED = """
import sys, time
from pathlib import Path
from maze_dla.cli import main, report
from maze_dla.files import draft_folder
def write(chosen):
    with draft_folder(Path(chosen.out)) as draft:
        (Path(draft) / "half").write_text("x")
        if {late}:
            (Path(chosen.out) / "report.html").write_text("x")
        sys.stdout.write("ready\\n"), sys.stdout.flush()
        time.sleep(60)
report._write_reports = write
sys.exit(main(["report", "--out", sys.argv[1]]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals on Windows")
@pytest.mark.parametrize("sent", ["SIGTERM", "SIGHUP", "SIGINT"])
@pytest.mark.parametrize("late", [False, True])
def test_a_signal_leaves_nothing_behind(sent: str, late: bool, tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    command = [sys.executable, "-c", STOPPED.format(late=late), str(out)]
    options: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": ROOT}
    with subprocess.Popen(command, **options) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(getattr(signal, sent))
        _, err = process.communicate(timeout=30)
    assert process.returncode == 128 + getattr(signal, sent)
    replaced = f"what is in {out} already is whole" if late else "nothing was replaced"
    assert err == f"maze-dla: interrupted, {replaced}\n"
    assert [f.name for f in tmp_path.rglob("*")] == (["new", "out", "report.html"] if late else [])


def test_signals_are_left_as_they_were(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert main(["report", "--n-mazes", "x", "--out", str(tmp_path)]) == 2
    assert signal.getsignal(signal.SIGTERM) is before
