"""Arguments of a wrong kind end in an error of ours that says what is taken."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from maze_dla import plots
from maze_dla.errors import InputError, check_kind, check_path, check_whole

SCRIPT = Path(__file__).with_name("wrong_kinds.py")


def test_every_public_function_refuses_wrong_kinds_with_an_error_of_ours() -> None:
    done = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, check=False, cwd=SCRIPT.parent)
    assert done.returncode == 0, done.stderr
    *problems, last = done.stdout.splitlines()
    assert problems == []
    n, word = last.split()
    assert word == "calls"
    assert int(n) > 700


def test_the_message_says_what_is_taken_and_what_was_given() -> None:
    with pytest.raises(InputError, match=r"^this is a number, got str$"):
        check_kind("x", int, "this is a number")
    with pytest.raises(InputError, match=r"^a file is a path, got None$"):
        check_path(None, "a file")
    for wrong in (None, 1.0, True, "1"):
        with pytest.raises(InputError, match=r"^n is a whole number, got "):
            check_whole("n", wrong, 0)
    with pytest.raises(InputError, match=r"^n is at least 2, got 1$"):
        check_whole("n", 1, 2)
    with pytest.raises(InputError, match=r"^n is at most 3, got 4$"):
        check_whole("n", 4, 2, 3)
    with pytest.raises(
        InputError, match=r"takes a result of attribute, one half of a contrast, or a stream of such results, got int$"
    ):
        plots.heads(3)  # pyright: ignore[reportArgumentType]
