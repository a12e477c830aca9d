"""maze_dla in a process of its own: the command, and what importing it costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import maze_dla

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "transformer_lens", "matplotlib", "maze_dataset", "zanj", "pandas", "numpy", "scipy"}


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def loaded(statement: str) -> set[str]:
    done = python("-c", f"{statement}\nimport sys; print(sorted(set(sys.modules) & {HEAVY!r}))")
    assert done.returncode == 0, done.stderr
    return set(ast.literal_eval(done.stdout))


def test_help() -> None:
    done = python("-m", "maze_dla", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: maze-dla")


def test_bad_input_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    done = python("-m", "maze_dla", "report", "--n-mazes", "many", "--out", str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("maze-dla report: error: argument --n-mazes")
    assert done.stderr.count("\n") == 1


def test_importing_maze_dla_loads_nothing_heavy() -> None:
    assert loaded("import maze_dla") == set()
    assert loaded("import maze_dla.cli") == set()
    assert loaded("import numpy") == {"numpy"}  # what is loaded is seen


def test_every_public_name_resolves() -> None:
    assert len(set(maze_dla.__all__)) == len(maze_dla.__all__) > 10
    for name in maze_dla.__all__:
        assert getattr(maze_dla, name) is not None
        assert name in dir(maze_dla)


def test_the_first_use_of_a_public_name_prints_nothing() -> None:
    done = python("-W", "ignore", "-c", "import maze_dla; [getattr(maze_dla, n) for n in maze_dla.__all__]")
    assert (done.returncode, done.stdout) == (0, "")
    assert "Traceback" not in done.stderr


def test_a_name_that_is_not_public() -> None:
    done = python("-c", "import maze_dla; maze_dla.nothing")
    assert "AttributeError: No maze_dla attribute nothing" in done.stderr
