"""`maze-dla train`: the bundled models again."""

from __future__ import annotations

import argparse
from collections.abc import Generator, Mapping
from contextlib import closing
from pathlib import Path

from maze_dla.cli.parser import DONE, Commands, count, out_folder
from maze_dla.cli.printing import say


def add_train(commands: Commands) -> None:
    """Describe the command's arguments."""
    text = "Train a bundled model again; the maze model goes on where a run in the folder stopped."
    train = commands.add_parser("train", help=text, description=text)
    train.add_argument("model", nargs="?", default="maze", help="maze or ioi (default: %(default)s)")
    train.add_argument(
        "--out", type=out_folder, required=True, metavar="DIR", help="where checkpoints and the state to resume from go"
    )
    train.add_argument("--device", help="cpu, cuda or mps (default: cpu)")
    train.add_argument("--steps", type=count, metavar="N", help="how long (default: as the bundled model)")
    train.set_defaults(run=_train)


def _train(chosen: argparse.Namespace) -> int:
    from maze_dla.errors import InputError, check_whole
    from maze_dla.files import output_folder

    runs = {"maze": _train_maze, "ioi": _train_ioi}
    if chosen.model not in runs:
        raise InputError(f"unknown model {chosen.model!r}, expected one of {', '.join(runs)}")
    if chosen.steps is not None:
        check_whole("steps", chosen.steps, 1)
    with output_folder(chosen.out) as folder:
        runs[chosen.model](folder, chosen.steps, chosen.device)
    return DONE


def _train_maze(out: Path, steps: int | None, device: str | None) -> None:
    from maze_dla.training.mazes.held_out import held_out_accuracy
    from maze_dla.training.mazes.loop import TrainingPlan
    from maze_dla.training.mazes.run import checkpoint_file, train_bundled

    plan = TrainingPlan(steps=steps or TrainingPlan.steps)
    _print_measured(train_bundled(out, plan, device=device))
    last = checkpoint_file(out, plan.steps)
    for task, share in held_out_accuracy(last).items():
        say(f"{task:<30}{share}")
    say(f"written: {last}")


def _train_ioi(out: Path, steps: int | None, device: str | None) -> None:
    from maze_dla.training.gpt2.held_out import held_out_logit_diff
    from maze_dla.training.gpt2.run import TrainingPlan, train_bundled

    _print_measured(train_bundled(out, TrainingPlan(steps=steps or TrainingPlan.steps), device))
    positive, mean = held_out_logit_diff(out)
    say(f"held-out logit difference: {mean} logits, positive on {positive}")
    say(f"written: {out}")


def _print_measured(measurements: Generator[Mapping[str, float], None, None]) -> None:
    with closing(measurements):  # also when interrupted: a run in progress has a folder to remove
        for measured in measurements:
            say("  ".join(f"{name} {value:.4g}" for name, value in measured.items()))
