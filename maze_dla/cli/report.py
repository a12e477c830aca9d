"""`maze-dla report`: a maze checkpoint's next step."""

from __future__ import annotations

import argparse
from typing import Any

from maze_dla.cli.parser import DONE, Commands, add_out, add_prompt, add_seed, print_report

METRICS = ("all", "cells", "neighbors", "forward", "logit")


def add_report(commands: Commands) -> None:
    """Describe the command's arguments."""
    text = "Attribute a checkpoint's next step to its parts: an HTML report, pictures and the result."
    report = commands.add_parser("report", help=text, description=text)
    report.add_argument(
        "checkpoint", nargs="?", metavar="CHECKPOINT", help="a .zanj checkpoint; default: the bundled one"
    )
    report.add_argument(
        "--task",
        default="first_path_choice",
        help="what is to be predicted, every_path_step for all of the path (default: %(default)s)",
    )
    report.add_argument(
        "--n-mazes", type=int, metavar="N", help="how many mazes (default: 100 generated, or all given)"
    )
    report.add_argument(
        "--metric",
        default="all",
        help="the correct token's logit minus that of the others: all tokens, cells, neighbors "
        "(the legal wrong moves) or forward (these without stepping back); or logit, the correct token's alone "
        "(default: %(default)s)",
    )
    report.add_argument("--reduce", default="mean", help="mean or sum over the others (default: %(default)s)")
    report.add_argument("--dataset", metavar="FILE", help="a saved .zanj data set (default: mazes are generated)")
    add_seed(report)
    report.add_argument("--no-bos", action="store_true", help="without the extra BOS in front of each prompt")
    report.add_argument(
        "--padding",
        metavar="longest|N",
        help="<PADDING> in front of each prompt, up to the longest or to N tokens, as models of 2023 saw it in "
        "training (default: none)",
    )
    add_prompt(report)
    add_out(report, "maze_dla_report")
    report.set_defaults(run=_report)


def _report(chosen: argparse.Namespace) -> int:
    from maze_dla.files import output_folder

    with output_folder(chosen.out):
        return _write_report(chosen)


def _write_report(chosen: argparse.Namespace) -> int:
    from maze_dla.adapters.mazes.model import load_maze_model
    from maze_dla.report.write import write_report

    maze = load_maze_model(chosen.checkpoint, prepend_bos=not chosen.no_bos, device=chosen.device)
    batch = maze.prompts(
        chosen.dataset, task=chosen.task, n_mazes=chosen.n_mazes, seed=chosen.seed, padding=_padding(chosen.padding)
    )
    batch, metric, left_out = _metric(batch, chosen.metric, chosen.reduce)
    report = write_report(maze, batch, metric, chosen.out, prompt=chosen.prompt)
    print_report(report, f"{left_out} prompts have no legal wrong move and were left out." if left_out else "")
    return DONE


def _padding(given: str | None) -> Any:
    """A number where one is given; words are left to `prompts`, which knows which it takes."""
    return int(given) if given is not None and given.isdecimal() else given


def _metric(batch, name: str, reduce: str):
    """The metric by its name, the prompts that have it, and how many have not."""
    from maze_dla.engine.metrics import correct_vs_other, logit
    from maze_dla.errors import InputError

    if name not in METRICS:
        raise InputError(f"unknown metric {name!r}, expected one of {', '.join(METRICS)}")
    if name == "logit":
        return batch, logit(batch), 0
    kept = batch.having(name) if name in ("neighbors", "forward") else batch
    return kept, correct_vs_other(kept, name, reduce), len(batch) - len(kept)
