"""Accuracy on mazes that training never sees, in any orientation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from maze_dla.adapters.mazes.library import generate, tokens_of
from maze_dla.adapters.mazes.load import load_maze_model
from maze_dla.adapters.mazes.model import MazeModel
from maze_dla.adapters.mazes.tasks import ONE_PER_MAZE
from maze_dla.analysis import logit_lens
from maze_dla.engine.metrics import logit
from maze_dla.engine.prompts import PromptBatch
from maze_dla.results.statistics import Proportion
from maze_dla.training.mazes.corridors import corridor_cells, is_held_out, symmetries


def held_out_mazes(maze: MazeModel, n_mazes: int, seed: int) -> list[list[str]]:
    """Solved hallway mazes as tokens, all from the tenth of corridors that training leaves out."""
    tables = symmetries(maze.grid_n)
    made = generate(maze.dataset_config, 12 * n_mazes + 200, seed)
    kept = [m for m in made if is_held_out(corridor_cells(m), tables)][:n_mazes]
    return tokens_of(kept, maze.vocabulary.tokenizer, seed)


def accuracy(model: Any, batch: PromptBatch) -> Proportion:
    """The share of prompts whose most likely next token is right."""
    found = logit_lens(model, batch, logit(batch)).accuracy
    assert found is not None
    return found


def held_out_accuracy(checkpoint: Path, n_mazes: int = 1000, seed: int = 1) -> dict[str, Proportion]:
    """The accuracy of a checkpoint on every task that asks one thing of a maze, over held-out mazes."""
    maze = load_maze_model(checkpoint)
    tokens = held_out_mazes(maze, n_mazes, seed)
    return {task: accuracy(maze.model, maze.prompts(tokens, task=task, seed=seed)) for task in ONE_PER_MAZE}
