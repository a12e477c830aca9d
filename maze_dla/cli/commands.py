"""`maze-dla`: arguments in, a table and files out, an exit code."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from maze_dla.errors import MazeDlaError

DONE, BAD_INPUT = 0, 2
METRICS = ("all", "cells", "neighbors", "logit")


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Refuse the arguments."""
        self.exit(BAD_INPUT, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0 done, 2 bad input."""
    parser = _Parser(
        prog="maze-dla", description="Which layers, heads, neurons and cells write the next step of a path?"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    _add_report(commands)
    _add_train(commands)
    try:
        chosen = parser.parse_args(arguments)
    except SystemExit as stop:  # argparse leaves by itself after --help and after an error
        return int(stop.code or 0)
    try:
        return chosen.run(chosen)
    except MazeDlaError as problem:
        print(f"maze-dla: error: {' '.join(str(problem).split())}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("maze-dla: interrupted, nothing was replaced", file=sys.stderr)
        return 130


def _add_report(commands: argparse._SubParsersAction[_Parser]) -> None:
    text = "Attribute a checkpoint's next step to its parts: an HTML report, pictures and the result."
    report = commands.add_parser("report", help=text, description=text)
    report.add_argument(
        "checkpoint", nargs="?", metavar="CHECKPOINT", help="a .zanj checkpoint; default: the bundled one"
    )
    report.add_argument("--task", default="first_path_choice", help="what is to be predicted (default: %(default)s)")
    report.add_argument(
        "--n-mazes", type=int, metavar="N", help="how many mazes (default: 100 generated, or all given)"
    )
    report.add_argument(
        "--metric",
        default="all",
        help="the correct token's logit minus that of the others: all tokens, cells, or neighbors "
        "(the legal wrong moves); or logit, the correct token's alone (default: %(default)s)",
    )
    report.add_argument("--reduce", default="mean", help="mean or sum over the others (default: %(default)s)")
    report.add_argument("--dataset", metavar="FILE", help="a saved .zanj data set (default: mazes are generated)")
    report.add_argument("--seed", type=int, default=0, help="seed of everything that is random (default: %(default)s)")
    report.add_argument("--no-bos", action="store_true", help="without the extra BOS in front of each prompt")
    report.add_argument("--device", help="cpu, cuda or mps (default: cpu)")
    report.add_argument("--out", default="maze_dla_report", metavar="DIR", help="where to write (default: %(default)s)")
    report.set_defaults(run=_report)


def _report(chosen: argparse.Namespace) -> int:
    from maze_dla.report.write import report_folder

    with report_folder(chosen.out):
        return _write_report(chosen)


def _write_report(chosen: argparse.Namespace) -> int:
    from maze_dla.adapters.mazes.model import load_maze_model
    from maze_dla.report.write import write_report

    maze = load_maze_model(chosen.checkpoint, prepend_bos=not chosen.no_bos, device=chosen.device)
    batch = maze.prompts(chosen.dataset, task=chosen.task, n_mazes=chosen.n_mazes, seed=chosen.seed)
    batch, metric, left_out = _metric(batch, chosen.metric, chosen.reduce)
    report = write_report(maze, batch, metric, chosen.out)
    width = max(len(name) for name, _ in report.facts)
    for name, value in report.facts:
        print(f"{name:<{width}}  {value}")
    if left_out:
        print(f"{left_out} prompts have no legal wrong move and were left out.")
    if report.result.caution:
        print(report.result.caution)
    print(f"written: {report.page}, {report.result_file} and {len(report.pictures)} pictures beside them")
    return DONE


def _add_train(commands: argparse._SubParsersAction[_Parser]) -> None:
    text = "Train the bundled checkpoint again, or go on where a run in the folder stopped."
    train = commands.add_parser("train", help=text, description=text)
    train.add_argument("--out", required=True, metavar="DIR", help="where checkpoints and the state to resume from go")
    train.add_argument("--steps", type=int, default=9500, metavar="N", help="how long (default: %(default)s)")
    train.set_defaults(run=_train)


def _train(chosen: argparse.Namespace) -> int:
    from maze_dla.adapters.mazes.training.held_out import held_out_accuracy
    from maze_dla.adapters.mazes.training.loop import TrainingPlan
    from maze_dla.adapters.mazes.training.run import checkpoint_file, train_bundled
    from maze_dla.errors import InputError
    from maze_dla.report.write import writable_folder

    if chosen.steps < 1:
        raise InputError(f"steps is at least 1, got {chosen.steps}")
    out = writable_folder(chosen.out)
    for measured in train_bundled(out, TrainingPlan(steps=chosen.steps)):
        print("  ".join(f"{name} {value:.4g}" for name, value in measured.items()), flush=True)
    last = checkpoint_file(out, chosen.steps)
    for task, share in held_out_accuracy(last).items():
        print(f"{task:<30}{share}")
    print(f"written: {last}")
    return DONE


def _metric(batch, name: str, reduce: str):
    """The metric by its name, the prompts that have it, and how many have not."""
    from maze_dla.engine.metrics import correct_vs_other, logit
    from maze_dla.errors import InputError

    if name not in METRICS:
        raise InputError(f"unknown metric {name!r}, expected one of {', '.join(METRICS)}")
    if name == "logit":
        return batch, logit(batch), 0
    kept = batch.having(name) if name == "neighbors" else batch
    return kept, correct_vs_other(kept, name, reduce), len(batch) - len(kept)
