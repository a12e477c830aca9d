"""The training loop: resumable, measured on corridors that it never sees."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm

from maze_dla.files import write_file
from maze_dla.training.mazes.batches import TrainingBatch, Vocabulary, make_batch
from maze_dla.training.mazes.corridors import CorridorPool, symmetries
from maze_dla.training.mazes.decoder import Decoder
from maze_dla.training.mazes.resume import read_state
from maze_dla.training.plan import StepPlan


@dataclass(frozen=True)
class TrainingPlan(StepPlan):
    """How long and how hard, on how many mazes a step, and which steps' checkpoints are kept."""

    steps: int = 9_500
    mazes: int = 32
    whole_paths: int = 1
    first_steps: int = 8
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.01
    warm_up: int = 300
    keep_at: tuple[int, ...] = field(default=(250, 1000, 3000, 6000, 9_500))


@dataclass
class TrainingState:
    """A training run's state, to go on where it stopped."""

    model: Decoder
    optimizer: torch.optim.Optimizer
    rng: np.random.Generator
    step: int = 0

    @classmethod
    def start(cls, model: Decoder, plan: TrainingPlan) -> TrainingState:
        """A run at its first step."""
        return cls(model, plan.optimizer(model), np.random.default_rng(plan.seed))

    def save(self, path: Path) -> None:
        """Write the state; the file appears whole or not at all.

        Raises:
            InputError: it cannot be written; the one before it is as it was.
        """
        content = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rng": self.rng.bit_generator.state,
            "step": self.step,
        }
        content_in_memory = io.BytesIO()  # torch hides why a file could not be written
        torch.save(content, content_in_memory)
        write_file(path, content_in_memory.getvalue())

    def restore(self, path: Path) -> None:
        """Go on from a saved state.

        Raises:
            CheckpointError: a file that is no state of such a run; nothing of it was run, and this one is as it was.
        """
        saved = read_state(path, self.model, self.optimizer, self.rng)
        self.model.load_state_dict(saved.model)
        self.optimizer.load_state_dict(saved.optimizer)
        self.rng.bit_generator.state = saved.rng
        self.step = saved.step


def batch_loss(model: Decoder, batch: TrainingBatch) -> Tensor:
    """The weighted mean of the loss over the batch's predictions."""
    logits = model(batch.tokens, batch.positions, batch.visible)
    losses = F.cross_entropy(logits.transpose(1, 2), batch.targets, reduction="none")
    return (losses * batch.weights).sum() / (batch.weights.sum() * len(losses))


@torch.no_grad()
def first_choice_accuracy(model: Decoder, pool: CorridorPool, vocab: Vocabulary, tables: np.ndarray) -> float:
    """The share of right first steps over pairs of held-out corridors, lengths in their natural proportions."""
    rng = np.random.default_rng(1)
    right = []
    for _ in range(24):
        batch = make_batch(pool.sample(32, rng, tables), vocab, rng, n_whole=0, n_short=8).to(model.device)
        at_origin = torch.nonzero(batch.tokens[0] == vocab.ids["<PATH_START>"])[:, 0] + 1
        predicted = model(batch.tokens, batch.positions, batch.visible)[:, at_origin].argmax(-1)
        right.append((predicted == batch.targets[:, at_origin]).float().mean().item())
    return math.fsum(right) / len(right)


def train(
    state: TrainingState,
    plan: TrainingPlan,
    pools: tuple[CorridorPool, CorridorPool],
    vocab: Vocabulary,
    grid_n: int,
) -> Iterator[dict[str, float]]:
    """Train to the end of the plan on the first pool; yield the measurements on the second as they are made."""
    tables = symmetries(grid_n)
    losses: list[float] = []
    bar = tqdm(total=plan.steps, initial=state.step, desc="training", disable=None)
    while state.step < plan.steps:
        cells = pools[0].sample(plan.mazes, state.rng, tables)
        batch = make_batch(cells, vocab, state.rng, n_whole=plan.whole_paths, n_short=plan.first_steps)
        batch = batch.to(state.model.device)
        loss = batch_loss(state.model, batch)
        losses.append(plan.descend(state.model, state.optimizer, loss, state.step))
        state.step += 1
        bar.update()
        if state.step % plan.measure_every == 0 or state.step == plan.steps:
            accuracy = first_choice_accuracy(state.model, pools[1], vocab, tables)
            yield {
                "step": state.step,
                "loss": math.fsum(losses) / len(losses),
                "first_path_choice": accuracy,
            }
            losses.clear()
    bar.close()
