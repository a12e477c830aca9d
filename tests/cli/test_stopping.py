"""What ends a command, and when: signals, memory, bugs, and the surroundings of the process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

from maze_dla.cli import commands, main, process
from maze_dla.cli.printing import SCREEN, on_a_screen
from maze_dla.cli.problems import words_of
from maze_dla.cli.stopping import Stopped, Stopping, signals_as_errors
from maze_dla.errors import InputError

ROOT = Path(__file__).parents[2]
unix = pytest.mark.skipif(sys.platform == "win32", reason="no such signals on Windows")


def raising(problem: BaseException) -> Callable[[Any], int]:
    def run(chosen: Any) -> int:
        raise problem

    return run


ONE_LINE = {
    "memory": (MemoryError(), "not enough memory: Python could not get any more; fewer prompts or mazes need less"),
    "memory, said": (MemoryError("8 GiB"), "not enough memory: 8 GiB; fewer prompts or mazes need less"),
    "torch": (
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
        "not enough memory: DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.; fewer",
    ),
    "depth": (RecursionError("maximum depth"), "something is nested too deeply to be worked through (maximum depth)"),
    "a file": (FileNotFoundError(2, "No such file", "x\n"), r"x\n: No such file"),
    "no file": (OSError("no words"), "no words"),
    "a mistake": (InputError("a\nb"), r"a\nb"),
}


@pytest.mark.parametrize("name", ONE_LINE)
def test_no_bug_is_one_line(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    problem, expected = ONE_LINE[name]
    monkeypatch.setattr("maze_dla.cli.bench._bench", raising(problem))
    assert main(["bench"]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert said.err.startswith(f"maze-dla: error: {expected}")


@pytest.mark.parametrize("problem", [KeyError("x"), RuntimeError("shape"), AssertionError(), ValueError("x")])
def test_a_bug_shows(problem: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    assert words_of(problem) is None
    monkeypatch.setattr("maze_dla.cli.bench._bench", raising(problem))
    with pytest.raises(type(problem)):
        main(["bench"])


def test_a_line_longer_than_a_screen_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    assert on_a_screen("x" * SCREEN) == "x" * SCREEN
    cut = on_a_screen("a" * SCREEN + "b" * SCREEN)
    assert len(cut) == SCREEN
    assert f" ... [{2 * SCREEN} characters] ... " in cut
    assert main(["bench", "--shape", "y" * 100_000]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert len(err) < SCREEN
    assert "characters] ..." in err


NUMBERS = {
    "report": ("--n-mazes", "--seed", "--prompt", "--padding"),
    "ioi": ("--n-prompts", "--seed", "--prompt"),
    "compare": ("--n-prompts", "--seed"),
    "rollout": ("--n-mazes", "--temperature", "--n-samples", "--max-steps", "--seed"),
    "train": ("--steps",),
    "bench": ("--prompts", "--rounds", "--threads"),
}
MODELS = {"ioi": ["--model", "bundled"], "compare": ["--model", "bundled"], "bench": ["--shape", "maze"]}


@pytest.mark.parametrize(("command", "option"), [(c, o) for c, options in NUMBERS.items() for o in options])
def test_numbers_that_are_none(
    command: str, option: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    few = {"ioi": ["--n-prompts", "2"], "report": ["--n-mazes", "2", "--metric", "logit"]}.get(command, [])
    for value in ("9" * 5000, "9" * 4000, str(2**63), "-1", "-" + "9" * 5000, "nan", "inf", "1e3", "1.5", "", "x\n"):
        if option == "--temperature" and value in (str(2**63), "1e3", "1.5"):
            continue
        arguments = [command, *MODELS.get(command, []), *few, "--out", "out", f"{option}={value}"]
        assert main(arguments) == 2, value
        said = capsys.readouterr()
        assert (said.out, said.err.count("\n")) == ("", 1), value
        assert len(said.err) < SCREEN + 100, value
    assert list(tmp_path.iterdir()) == []


WORDS = {
    "report": ("--task", "--metric", "--reduce", "--dataset", "--padding", "--contrast", "--device"),
    "rollout": ("--dataset", "--device"),
    "train": ("--device",),
    "bench": ("--shape", "--device"),
}


@pytest.mark.parametrize("command", WORDS)
def test_empty_words(command: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    few = ["--n-mazes", "2"] if command in ("report", "rollout") else []
    for option in WORDS[command]:
        assert main([command, *few, "--out", str(tmp_path / "out"), f"{option}="]) == 2, option
        said = capsys.readouterr()
        assert (said.out, said.err.count("\n")) == ("", 1), option
    assert list(tmp_path.iterdir()) == []


@unix
def test_signals_raise_once_and_are_then_not_heard() -> None:
    before = signal.getsignal(signal.SIGINT)
    with signals_as_errors() as stopping:
        for _ in range(2):
            with pytest.raises(Stopped) if stopping.stopped is None else signals_as_errors():
                signal.raise_signal(signal.SIGINT)
        assert stopping.stopped is not None
        assert stopping.stopped.exit_code == 130
    assert signal.getsignal(signal.SIGINT) is before


def importing() -> CodeType:
    return compile("stopping(2, __import__('sys')._getframe())", "<frozen importlib._bootstrap>", "exec")


@unix
def test_a_signal_waits_for_an_import() -> None:
    with signals_as_errors() as stopping:
        exec(importing(), {"stopping": stopping})
        assert stopping.stopped is None
        started = time.monotonic()
        with pytest.raises(Stopped):
            time.sleep(20)
        assert time.monotonic() < started + 10
        late = Stopping()
        late._first = time.monotonic() - 60
        with pytest.raises(Stopped):  # but not for ever
            exec(importing(), {"stopping": late})


def test_what_an_import_made_of_an_interruption(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def swallowing(chosen: Any) -> int:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt as stop:
            raise ImportError("half made") from stop
        return 0

    monkeypatch.setattr("maze_dla.cli.bench._bench", swallowing)
    assert main(["bench"]) == 130
    assert capsys.readouterr().err == "maze-dla: interrupted, nothing was replaced\n"


def test_an_interruption_before_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "run", raising(KeyboardInterrupt()))
    assert main(["bench"]) == 130


def test_the_current_folder_is_gone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    for command in ("report", "rollout", "bench"):
        assert main([command]) == 2
        assert "the current folder is not there any more" in capsys.readouterr().err


def python(*words: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, *words], env={**os.environ, **variables}, cwd=ROOT, capture_output=True, check=False
    )


def test_pictures_need_no_backend() -> None:
    draw = "from maze_dla.plots._axes import new_axes; new_axes(1, (1, 1))[0].figure.savefig('/dev/null', format='png')"
    code = f"import os; {draw}; print(os.environ['MPLBACKEND'])"
    done = python("-W", "always", "-c", code, MPLBACKEND="nonsense")
    assert (done.returncode, done.stdout) == (0, b"nonsense\n")
    assert b"MPLBACKEND is 'nonsense', which matplotlib does not have" in done.stderr


def test_a_damaged_matplotlibrc_is_named(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_bytes(b"font.size: \xff\n")
    code = (
        "from maze_dla.errors import InputError\n"
        "try: import maze_dla.plots\n"
        "except InputError as problem: print(problem)"
    )
    done = python("-c", code, MATPLOTLIBRC=str(tmp_path / "matplotlibrc"), MPLBACKEND="")
    assert done.stdout.startswith(b"matplotlib cannot be imported (UnicodeDecodeError: ")


READY = """
import os, sys
from maze_dla.cli import main, process
prepare = process.take_over
process.take_over = lambda: (prepare(), os.write(1, b"x"))
sys.argv = ["maze-dla", "rollout"]
sys.exit(main())
"""


@unix
@pytest.mark.parametrize(("sent", "seconds"), [("SIGINT", 0), ("SIGINT", 0.1), ("SIGINT", 0.4), ("SIGTERM", 0.1)])
def test_signals_while_python_imports_print_no_traceback(sent: str, seconds: float) -> None:
    """From our first line on, and again and again."""
    command = [sys.executable, "-c", READY]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.read(1) == b"x"
        time.sleep(seconds)
        for _ in range(3):
            child.send_signal(getattr(signal, sent))
        _, err = child.communicate(timeout=60)
    assert child.returncode == 128 + getattr(signal, sent)
    assert err == b"maze-dla: interrupted, nothing was replaced\n"


@unix
def test_closed_streams_lead_nowhere() -> None:
    """A file that is opened would get the number of a closed stream, and all that is printed with it."""
    code = (
        "from maze_dla.cli import process; process.take_over(); import sys; f = open('/dev/null'); sys.exit(f.fileno())"
    )
    for closed in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
        done = subprocess.run(
            ["/bin/sh", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, code], cwd=ROOT, check=False
        )
        assert done.returncode >= 3, closed


def test_nothing_is_loaded_before_signals_are_heard() -> None:
    code = "import sys; import maze_dla.cli.process; sys.exit(bool({'typing', 'lazy_loader', 'ast'} & {*sys.modules}))"
    assert python("-I", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {code}").returncode == 0
    assert process.STOPS[0] == signal.SIGINT
