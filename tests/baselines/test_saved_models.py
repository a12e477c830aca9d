"""Guards against change: the models that come with maze_dla, and those of its tests, say what they said.

Recorded on the newest stack; `pytest --dla-update` rewrites what changed. Every other stack has to give the same.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

import maze_dla as dla

CHECKPOINTS = ("2023-model.final", "2024-model.final", "2024-model.iter_0")
ALONG_TRAINING = Path(__file__).parents[1] / "training" / "mazes" / "data"
STEPS = ("00250", "01000", "03000", "06000", "09500")


@pytest.fixture(scope="module")
def real():
    """A real checkpoint in memory: where the folder with them lies is nothing that a file should hold."""

    def load(name: str) -> dla.MazeModel:
        if "MAZE_DLA_TEST_DATA" not in os.environ:
            pytest.skip("MAZE_DLA_TEST_DATA does not name the folder with the real checkpoints")
        return dla.load_maze_model(Path(os.environ["MAZE_DLA_TEST_DATA"]) / "checkpoints" / f"{name}.zanj")

    return load


def test_bundled(dla_baseline) -> None:
    dla_baseline.check(task="first_path_choice", n_mazes=40)
    dla_baseline.check(task="first_path_choice", metric="cells", n_mazes=40)
    dla_baseline.check(task="path_end", n_mazes=20)
    dla_baseline.check(task="every_path_step", n_mazes=10)


def test_bundled_in_float64(dla_baseline) -> None:
    dla_baseline.check(task="first_path_choice", n_mazes=20, dtype=torch.float64)


def test_bundled_without_bos_by_its_own_run(dla_baseline) -> None:
    dla_baseline.check(task="first_path_choice", n_mazes=20, prepend_bos=False, forward="hooked", sequences_at_once=7)


def test_bundled_ioi(dla_baseline) -> None:
    dla_baseline.check(task="ioi")


@pytest.mark.parametrize("step", STEPS)
def test_along_training(dla_baseline, step: str) -> None:
    dla_baseline.check(ALONG_TRAINING / f"step_{step}.zanj", task="first_path_choice", n_mazes=20)


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_real(dla_baseline, real, name: str) -> None:
    dla_baseline.check(real(name), task="first_path_choice", n_mazes=20)
    dla_baseline.check(real(name), task="path_end", n_mazes=20)


def test_every_kept_checkpoint_is_guarded() -> None:
    assert sorted(file.stem for file in ALONG_TRAINING.glob("step_*.zanj")) == [f"step_{step}" for step in STEPS]
