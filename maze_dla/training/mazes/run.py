"""The training run that makes the bundled checkpoint."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import torch

from maze_dla.adapters.mazes.library import legacy_tokenizer
from maze_dla.adapters.transformer_lens.build import check_placement
from maze_dla.errors import InputError
from maze_dla.files import locked
from maze_dla.training.mazes.batches import Vocabulary
from maze_dla.training.mazes.corridors import CorridorPool, generate_corridors, is_held_out, symmetries
from maze_dla.training.mazes.decoder import Decoder, DecoderConfig
from maze_dla.training.mazes.loop import TrainingPlan, TrainingState, train
from maze_dla.training.mazes.save import save_checkpoint

GRID_N, N_CTX, N_CORRIDORS = 5, 256, 60_000
LAYERS, D_MODEL, D_HEAD = 6, 64, 16


def train_bundled(
    out: Path, plan: TrainingPlan, n_corridors: int = N_CORRIDORS, device: str | None = None
) -> Generator[dict[str, float], None, None]:
    """Train in a folder, or go on where a run in that folder stopped; yield each measurement as it is made.

    The folder, which no other run may write into meanwhile, gets the checkpoints that the plan keeps, as
    `step_00250.zanj`, and `state.pt`, to resume from. Of one step the checkpoint is written first, so that a run
    which dies between the two makes it again.

    Raises:
        InputError: the folder cannot be written, another run is in it, its state is beyond the plan's last step, or the
            device cannot be used.
        CheckpointError: `state.pt` is no state of such a run.
    """
    tokens = list(legacy_tokenizer("AOTP_UT_uniform", GRID_N).token_arr)
    vocabulary = Vocabulary.from_tokens(tokens, GRID_N)
    state, resume = _start(plan, len(tokens), device), out / "state.pt"

    def keep(measured: dict[str, float]) -> None:
        if state.step in plan.keep_at or state.step == plan.steps:
            save_checkpoint(state.model, tokens, GRID_N, plan, measured, checkpoint_file(out, state.step))

    with locked(out):
        if resume.exists():
            state.restore(resume)
        if state.step > plan.steps:
            raise InputError(f"{resume}: a run of {state.step} steps already, more than the {plan.steps} asked for")
        if state.step and not checkpoint_file(out, state.step).exists():
            keep({"step": state.step})  # a longer run kept none here
        for measured in train(state, plan, _pools(n_corridors, plan.seed), vocabulary, GRID_N):
            keep(measured)
            state.save(resume)
            yield measured


def checkpoint_file(out: Path, step: int) -> Path:
    """Where the checkpoint of a step is kept."""
    return out / f"step_{step:05d}.zanj"


def _start(plan: TrainingPlan, d_vocab: int, device: str | None) -> TrainingState:
    check_placement(device, None)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        model = Decoder(DecoderConfig(LAYERS, D_MODEL, D_HEAD, d_vocab, N_CTX))
    return TrainingState.start(model if device is None else model.to(device), plan)


def _pools(n_corridors: int, seed: int) -> tuple[CorridorPool, CorridorPool]:
    """The corridors to train on, and the tenth that is held out."""
    tables = symmetries(GRID_N)
    corridors = generate_corridors(n_corridors, GRID_N, seed=seed)
    held_out = [is_held_out(c, tables) for c in corridors]
    seen = [c for c, held in zip(corridors, held_out, strict=True) if not held]
    unseen = [c for c, held in zip(corridors, held_out, strict=True) if held]
    return CorridorPool.group(seen), CorridorPool.group(unseen)
