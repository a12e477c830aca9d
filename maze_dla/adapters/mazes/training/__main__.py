"""`python -m maze_dla.adapters.mazes.training --out DIR`: train the bundled checkpoint, or go on where it stopped."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from maze_dla.adapters.mazes.training.batches import Vocabulary
from maze_dla.adapters.mazes.training.corridors import CorridorPool, generate_corridors, is_held_out, symmetries
from maze_dla.adapters.mazes.training.decoder import Decoder, DecoderConfig
from maze_dla.adapters.mazes.training.held_out import held_out_accuracy
from maze_dla.adapters.mazes.training.loop import TrainingPlan, TrainingState, train
from maze_dla.adapters.mazes.training.save import save_checkpoint
from maze_dla.adapters.mazes.vocabulary import legacy_tokenizer

GRID_N, N_CTX, N_CORRIDORS = 5, 256, 60_000
LAYERS, D_MODEL, D_HEAD = 6, 64, 16


def main() -> None:
    """Train, keep checkpoints along the way, and measure the last one on held-out mazes."""
    parser = argparse.ArgumentParser(prog="python -m maze_dla.adapters.mazes.training", description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True, help="where checkpoints and the state to resume from go")
    parser.add_argument("--steps", type=int, default=TrainingPlan.steps, help="default: %(default)s")
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    plan = TrainingPlan(steps=chosen.steps)
    tokens = list(legacy_tokenizer("AOTP_UT_uniform", GRID_N).token_arr)
    vocabulary = Vocabulary.from_tokens(tokens, GRID_N)
    torch.manual_seed(plan.seed)
    state = TrainingState.start(Decoder(DecoderConfig(LAYERS, D_MODEL, D_HEAD, len(tokens), N_CTX)), plan)
    resume = chosen.out / "state.pt"
    if resume.exists():
        state.restore(resume)
    for measured in train(state, plan, _pools(plan.seed), vocabulary, GRID_N):
        state.save(resume)
        print("  ".join(f"{name} {value:.4g}" for name, value in measured.items()), flush=True)
        if state.step in plan.keep_at or state.step == plan.steps:
            save_checkpoint(state.model, tokens, GRID_N, plan, measured, chosen.out / f"step_{state.step:05d}.zanj")
    for task, share in held_out_accuracy(chosen.out / f"step_{plan.steps:05d}.zanj").items():
        print(f"{task:<30}{share}")


def _pools(seed: int) -> tuple[CorridorPool, CorridorPool]:
    """The corridors to train on, and the tenth that is held out."""
    tables = symmetries(GRID_N)
    corridors = generate_corridors(N_CORRIDORS, GRID_N, seed=seed)
    held_out = [is_held_out(c, tables) for c in corridors]
    seen = [c for c, held in zip(corridors, held_out, strict=True) if not held]
    unseen = [c for c, held in zip(corridors, held_out, strict=True) if held]
    return CorridorPool.group(seen), CorridorPool.group(unseen)


if __name__ == "__main__":
    main()
