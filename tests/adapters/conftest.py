"""The real files, and models that are loaded once."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from maze_dla.adapters.gpt2.load import load_gpt2
from maze_dla.adapters.mazes.load import load_maze_model
from maze_dla.adapters.mazes.model import MazeModel

from .mazes.small_files import small_checkpoint


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder with checkpoints, data sets and reference arrays."""
    folder = os.environ.get("MAZE_DLA_TEST_DATA")
    if not folder:
        pytest.skip("MAZE_DLA_TEST_DATA does not name the folder with the real checkpoints")
    return Path(folder)


@pytest.fixture(scope="session")
def real_model(test_data: Path) -> Callable[[str], MazeModel]:
    """A real checkpoint by its name, loaded once."""
    return cache(lambda name: load_maze_model(test_data / "checkpoints" / f"{name}.zanj"))


@pytest.fixture(scope="session")
def small_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a random model for 3x3 mazes."""
    return small_checkpoint().write(tmp_path_factory.mktemp("small") / "small.zanj")


@pytest.fixture(scope="session")
def small_model(small_file: Path) -> MazeModel:
    """The model in `small_file`."""
    return load_maze_model(small_file)


@pytest.fixture(scope="session")
def bundled() -> Any:
    """The tiny GPT-2 model that comes with the library."""
    return load_gpt2("bundled")
