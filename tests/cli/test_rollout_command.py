"""`maze-dla rollout`: the same words and numbers as the function's."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from adapters.mazes.small_files import small_checkpoint

from maze_dla.adapters.mazes.load import load_maze_model
from maze_dla.cli import main


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_checkpoint().write(tmp_path_factory.mktemp("model") / "small.zanj")


def test_what_is_printed_and_written(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "walks.csv"
    options = ["--n-mazes", "3", "--temperature", "1", "--n-samples", "2", "--max-steps", "5", "--seed", "4"]
    assert main(["rollout", str(checkpoint), str(checkpoint), *options, "--no-bos", "--out", str(out)]) == 0
    said = capsys.readouterr()
    maze = load_maze_model(checkpoint, prepend_bos=False)
    expected = maze.rollout(n_mazes=3, temperature=1.0, n_samples=2, max_steps=5, seed=4)
    assert said.err == ""
    assert said.out.splitlines() == [*repr(expected).split("\n") * 2, f"written: {out}"]
    table = pd.read_csv(out)
    assert len(table) == 12
    assert table["walk"].tolist() == list(expected.table["walk"]) * 2
    assert table["checkpoint"].tolist() == ["small.zanj"] * 12


def test_bad_input_ends_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "walks.csv"
    assert main(["rollout", "--n-mazes", "2", "--n-samples", "2", "--out", str(out)]) == 2
    said = capsys.readouterr()
    assert said.err == "maze-dla: error: n_samples is 2, but without a temperature all walks would be the same\n"
    assert said.out == ""
    assert not out.exists()
