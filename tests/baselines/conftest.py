"""A small model and what was recorded of it, once; no test changes these files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from maze_dla.baselines import check
from maze_dla.baselines.files import read_baselines
from maze_dla.baselines.record import record_baseline
from tests.adapters.mazes.small_files import small_checkpoint


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `small.zanj` and its baseline, `recorded.json`."""
    folder = tmp_path_factory.mktemp("home")
    source = small_checkpoint().write(folder / "small.zanj")
    record_baseline(folder / "recorded.json", source, n_mazes=6)
    return folder


@pytest.fixture(scope="session")
def recorded(home: Path) -> Path:
    """The baseline of the small model."""
    return home / "recorded.json"


@pytest.fixture
def numbers_as_recorded(recorded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every run gives the recorded numbers, so that the rest of a check shows alone."""
    (baseline,) = read_baselines(recorded).values()

    def as_recorded(*args: Any) -> Any:
        return baseline.measured

    monkeypatch.setattr(check, "measure", as_recorded)
