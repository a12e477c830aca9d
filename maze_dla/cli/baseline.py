"""`maze-dla baseline`: record what models say, and check later that they still say it."""

from __future__ import annotations

import argparse
from typing import Any

from maze_dla.cli.parser import BAD_INPUT, DONE, Commands, add_seed, count, out_file
from maze_dla.cli.printing import complain, say
from maze_dla.cli.report import padding_of

CHANGED = 1


def add_baseline(commands: Commands) -> None:
    """Describe the command's two commands and their arguments."""
    text = "Record a model's numbers in a file, and check later that it still gives them."
    baseline = commands.add_parser("baseline", help=text, description=text)
    inner = baseline.add_subparsers(dest="what", required=True, metavar="COMMAND")
    _add_record(inner)
    _add_check(inner)


def _add_record(inner: Any) -> None:
    text = "Write weights' hash, prompts, versions, accuracy, metric, layers, heads, lens and sources to a new file."
    record = inner.add_parser("record", help=text, description=text)
    record.add_argument(
        "checkpoint", nargs="*", metavar="CHECKPOINT", help="a .zanj checkpoint, or several (default: the bundled one)"
    )
    record.add_argument(
        "--task",
        nargs="+",
        default=["first_path_choice"],
        metavar="TASK",
        help="what is to be predicted, one or several tasks; ioi asks GPT-2 models (default: first_path_choice)",
    )
    record.add_argument("--metric", help="as of `report` (default: neighbors where a step is asked for, else all)")
    record.add_argument("--reduce", default="mean", help="mean or sum over the others (default: %(default)s)")
    record.add_argument(
        "--n-mazes", type=count, metavar="N", help="how many mazes, or prompts of ioi (default: 100, 8)"
    )
    add_seed(record)
    record.add_argument("--dataset", metavar="FILE", help="a saved .zanj data set (default: mazes are generated)")
    record.add_argument("--no-bos", action="store_true", help="without the extra BOS in front of each prompt")
    record.add_argument(
        "--padding", type=padding_of, metavar="longest|N", help="<PADDING> in front of each prompt, as of `report`"
    )
    record.add_argument("--dtype", help="float32, float64, float16 or bfloat16 (default: float32)")
    record.add_argument("--device", help="cpu, cuda or mps (default: cpu)")
    record.add_argument("-o", "--out", type=out_file, required=True, metavar="FILE.json", help="the new file")
    record.set_defaults(run=_record)


def _add_check(inner: Any) -> None:
    text = (
        "Ask the same again and compare. Exit code 0: all is as recorded; 1: something changed, and what; "
        "2: a file could not be checked."
    )
    check = inner.add_parser("check", help=text, description=text)
    check.add_argument("file", nargs="+", metavar="FILE", help="files that `record` wrote")
    check.add_argument("--checkpoint", help="where the model is now, for a file of one (default: as recorded)")
    check.add_argument("--dtype", help="check in this precision (default: as recorded)")
    check.add_argument("--device", help="cpu, cuda or mps (default: cpu)")
    check.add_argument(
        "--update",
        action="store_true",
        help="rewrite the files with what the models say now; exit code 1. Never a file of another model or task",
    )
    check.set_defaults(run=_check)


def _record(chosen: argparse.Namespace) -> int:
    from maze_dla.baselines.record import record_baseline

    written = record_baseline(
        chosen.out,
        chosen.checkpoint or None,
        dtype=_dtype(chosen.dtype),
        device=chosen.device,
        task=chosen.task,
        metric=chosen.metric,
        reduce=chosen.reduce,
        n_mazes=chosen.n_mazes,
        seed=chosen.seed,
        dataset=chosen.dataset,
        prepend_bos=False if chosen.no_bos else None,
        padding=chosen.padding,
    )
    say(f"written: {written}")
    return DONE


def _check(chosen: argparse.Namespace) -> int:
    from maze_dla.baselines.check import check_baseline
    from maze_dla.errors import InputError, MazeDlaError

    if chosen.checkpoint is not None and len(chosen.file) > 1:
        raise InputError("--checkpoint goes with one file")
    how: dict[str, Any] = {"update": chosen.update, "dtype": _dtype(chosen.dtype), "device": chosen.device}
    ended = [DONE]
    for file in chosen.file:
        try:
            check = check_baseline(file, chosen.checkpoint, **how)
        except MazeDlaError as problem:  # the other files are checked all the same
            complain(f"maze-dla: error: {problem}")
            ended.append(BAD_INPUT)
            continue
        say(*repr(check).split("\n"))
        ended.append(BAD_INPUT if check.problems else DONE if check.same and not check.updated else CHANGED)
    return max(ended)


def _dtype(name: str | None) -> Any:
    """A precision by its name.

    Raises:
        InputError: there is none of that name.
    """
    from maze_dla.errors import InputError
    from maze_dla.results.tolerances import PRECISIONS

    if name is not None and name not in PRECISIONS:
        raise InputError(f"unknown dtype {name!r:.40}, expected one of {', '.join(PRECISIONS)}")
    return None if name is None else PRECISIONS[name]
