"""Consoles that know few characters show the tables all the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMANDS = {
    "report": ["report", "--n-mazes", "2"],
    "ioi": ["ioi", "--model", "bundled"],
    "compare": ["compare", "--model", "bundled", "--n-prompts", "4"],
    "bench --help": ["bench", "--help"],
}


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
@pytest.mark.parametrize("name", COMMANDS)
def test_any_console_encoding(name: str, encoding: str, tmp_path: Path) -> None:
    out = [] if "--help" in name else ["--out", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "maze_dla", *COMMANDS[name], *out],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode(encoding)
    shown = done.stdout.decode(encoding)
    assert ("usage: maze-dla bench" in shown) if not out else ("written: " in shown)
    assert "Traceback" not in done.stderr.decode(encoding)
