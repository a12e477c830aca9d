"""Every code block of the README runs as printed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import matplotlib
import pytest
from matplotlib import pyplot as plt

from maze_dla.cli import main

README = Path(__file__).parent.parent / "README.md"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README.read_text(encoding="utf-8"), flags=re.M | re.S)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)
    yield
    plt.close("all")


def test_there_are_blocks_of_both_kinds_and_no_other():
    assert {kind for kind, _ in BLOCKS} == {"bash", "python"}


def test_python_blocks_run_in_order():
    names: dict = {}
    for kind, code in BLOCKS:
        if kind == "python":
            exec(compile(code, str(README), "exec"), names)
    assert float(names["result"].gap.abs().max()) < 1e-3
    assert Path("result.zanj").exists()


def test_commands_run():
    """Installing has happened when tests run, and the tests are running: what is left is executed."""
    commands = [c.strip() for kind, code in BLOCKS if kind == "bash" for c in code.replace("&&", "\n").splitlines()]
    known = [c for c in commands if c.startswith(("pip install -e ", "python -m pytest"))]
    for command in [c for c in commands if c and c not in known]:
        program, *arguments = shlex.split(command)
        assert program == "maze-dla"
        assert main(arguments) == 0
    assert Path("maze_dla_report/report.html").exists()


def test_links_to_files_lead_somewhere():
    for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", README.read_text(encoding="utf-8")):
        assert (README.parent / link).exists(), link
