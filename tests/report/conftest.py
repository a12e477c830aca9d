"""A small model and its report, written once."""

from __future__ import annotations

import pytest
from adapters.mazes.small_files import small_checkpoint

from maze_dla.adapters.mazes.load import load_maze_model
from maze_dla.adapters.mazes.model import MazeModel
from maze_dla.adapters.mazes.prompts import MazePromptBatch
from maze_dla.engine.metrics import correct_vs_other
from maze_dla.report.write import Report, write_report


@pytest.fixture(scope="package")
def maze(tmp_path_factory: pytest.TempPathFactory) -> MazeModel:
    file = small_checkpoint()
    file.config["name"] = "small <b>model</b> & co"  # a name that a page has to escape
    return load_maze_model(file.write(tmp_path_factory.mktemp("model") / "small.zanj"))


@pytest.fixture(scope="package")
def batch(maze: MazeModel) -> MazePromptBatch:
    return maze.prompts(n_mazes=6, seed=4)


@pytest.fixture(scope="package")
def report(maze: MazeModel, batch: MazePromptBatch, tmp_path_factory: pytest.TempPathFactory) -> Report:
    return write_report(maze, batch, correct_vs_other(batch), tmp_path_factory.mktemp("report") / "new" / "folder")
