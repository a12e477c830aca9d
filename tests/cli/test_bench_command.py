"""`maze-dla bench` as a user calls it, on shapes that take milliseconds."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path

import pytest
import torch
from bench.tiny import TINY

from maze_dla.bench import run as running
from maze_dla.cli import main


@pytest.fixture
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "run_bench", partial(running.run_bench, known=TINY, startup=False))


@pytest.mark.usefixtures("_tiny")
def test_the_tables_and_the_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    before = torch.get_num_threads()
    options = ["--prompts", "4", "8", "--rounds", "1", "--threads", "1", "--device", "cpu", "--out", str(out)]
    assert main(["bench", *options]) == 0
    said, err = capsys.readouterr()
    assert err == ""
    lines = said.splitlines()
    assert re.match(r"versions +maze_dla \d.*, torch \d.*, transformer_lens \d.*, Python 3", lines[0])
    assert re.match(r"ran on +\S.* \(cpu\), torch with 1 of \d+ threads, float32$", lines[1])
    number = r" +[\d.,<-]+"
    for method in ("plain forward, 4 at once", "tutorial way", "maze_dla", "maze_dla, all tasks in one pass"):
        assert re.search(rf"^  {re.escape(method)}{number * 5}$", said, re.MULTILINE), method
    assert re.search(r"^tiny gpt2 shape: 8 prompts take maze_dla \d+\.\d+ times as long as 4\.$", said, re.MULTILINE)
    assert "How to read it: " in said
    assert lines[-1] == f"written: {out}"
    written = json.loads(out.read_text())
    assert [t["prompts"] for t in written["tables"]] == [4, 8, 4, 4, 8]
    assert all(len(method["seconds"]) == 1 for table in written["tables"] for method in table["ways"])
    assert torch.get_num_threads() == before


@pytest.mark.usefixtures("_tiny")
def test_one_shape_without_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--shape", "gpt2", "--prompts", "2", "--rounds", "1"]) == 0
    said, err = capsys.readouterr()
    assert err == ""
    assert "maze shape" not in said
    assert "written" not in said


BAD = {
    "shape": (["--shape", "mase"], "unknown shape 'mase', expected one of maze, gpt2, all"),
    "no prompts": (["--prompts", "0"], "a number of prompts is at least 1, got 0"),
    "prompts in words": (["--prompts", "ten"], "argument --prompts: invalid int value: 'ten'"),
    "prompts missing": (["--prompts"], "argument --prompts: expected at least one argument"),
    "rounds": (["--rounds", "0"], "rounds is at least 1, got 0"),
    "threads": (["--threads", "0"], "threads is between 1 and this computer's"),
    "device": (["--device", "abacus"], "device 'abacus' cannot be used here"),
    "a folder as file": (["--out", "{folder}"], "cannot be written as a file"),
    "a file nowhere": (["--out", f"{__file__}/bench.json"], "bench.json: cannot be written ("),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line(name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arguments, expected = BAD[name]
    new = ["--out", str(tmp_path / "new.json")] if "--out" not in arguments else []
    assert main(["bench", *(a.format(folder=tmp_path) for a in arguments), *new]) == 2
    said, err = capsys.readouterr()
    assert said == ""
    assert err.startswith("maze-dla")
    assert expected in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_bad_input_leaves_an_earlier_file_as_it_was(tmp_path: Path) -> None:
    earlier = tmp_path / "bench.json"
    earlier.write_text("{}")
    assert main(["bench", "--rounds", "0", "--out", str(earlier)]) == 2
    assert earlier.read_text() == "{}"
