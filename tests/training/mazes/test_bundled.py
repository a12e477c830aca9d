"""The checkpoint that comes with maze_dla: what it can do; tests/baselines/test_saved_models.py guards its numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

import maze_dla as dla
from maze_dla.adapters.mazes.load import BUNDLED
from maze_dla.training.mazes.held_out import held_out_accuracy

NEEDED = {"origin_after_path_start": 0.99, "rand_path_token": 0.97, "first_path_choice": 0.80}
ALONG_TRAINING = sorted((Path(__file__).parent / "data").glob("step_*.zanj"))


@pytest.mark.slow
def test_accuracy_on_mazes_it_never_saw():
    reached = held_out_accuracy(BUNDLED, n_mazes=1000, seed=1)
    assert all(share.n == 1000 for share in reached.values())
    assert {task: reached[task].value >= least for task, least in NEEDED.items()} == dict.fromkeys(NEEDED, True), (
        reached
    )


def test_it_is_small():
    assert BUNDLED.stat().st_size <= 4e6


def test_five_checkpoints_along_its_training_load_and_learn():
    """The numbers of each are guarded by tests/baselines/test_saved_models.py."""
    assert len(ALONG_TRAINING) == 5
    texts, accuracies = None, []
    for path in [*ALONG_TRAINING, BUNDLED]:
        maze = dla.load_maze_model(path)
        batch = maze.prompts(texts, task="first_path_choice", n_mazes=None if texts else 50)
        texts = texts or [" ".join(batch.text(i).tokens) for i in range(len(batch))]
        result = dla.attribute(maze.model, batch, dla.correct_vs_other(batch, others="cells"))
        accuracies.append(result.accuracy.value)
    assert accuracies[0] < accuracies[-2] == accuracies[-1]
