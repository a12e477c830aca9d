"""`maze-dla report`: a maze checkpoint's next step."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from maze_dla.cli.parser import DONE, Commands, add_out, add_prompt, add_seed, count, print_report


def add_report(commands: Commands) -> None:
    """Describe the command's arguments."""
    text = "Attribute a checkpoint's next step to its parts: an HTML report, pictures and the result."
    report = commands.add_parser("report", help=text, description=text)
    report.add_argument(
        "checkpoint",
        nargs="*",
        metavar="CHECKPOINT",
        help="a .zanj checkpoint (default: the bundled one); several get a report each, in folders beside each other "
        "and with the same scales",
    )
    report.add_argument(
        "--task",
        default="first_path_choice",
        help="what is to be predicted, every_path_step for all of the path (default: %(default)s)",
    )
    report.add_argument(
        "--n-mazes", type=count, metavar="N", help="how many mazes (default: 100 generated, or all given)"
    )
    report.add_argument(
        "--metric",
        help="the correct token's logit minus that of the others: all tokens, cells, neighbors (the legal wrong moves) "
        "or forward (these without stepping back); or logit, the correct token's alone (default: neighbors where a "
        "step is asked for, else all)",
    )
    report.add_argument("--reduce", default="mean", help="mean or sum over the others (default: %(default)s)")
    report.add_argument("--dataset", metavar="FILE", help="a saved .zanj data set (default: mazes are generated)")
    add_seed(report)
    report.add_argument("--no-bos", action="store_true", help="without the extra BOS in front of each prompt")
    report.add_argument(
        "--padding",
        type=padding_of,
        metavar="longest|N",
        help="<PADDING> in front of each prompt, up to the longest or to N tokens, as models of 2023 saw it in "
        "training (default: none)",
    )
    report.add_argument(
        "--contrast",
        metavar="CHANGE",
        help="also read the same mazes with another target, origin or passage, and show which parts depend on it",
    )
    report.add_argument(
        "--causal",
        action="store_true",
        help="also show what the answer hangs on: patching between the same mazes with another target (or as "
        "--contrast), ablation of every head and MLP, and a circuit",
    )
    add_prompt(report)
    add_out(report, "maze_dla_report")
    report.set_defaults(run=_report)


def _report(chosen: argparse.Namespace) -> int:
    from maze_dla.errors import InputError
    from maze_dla.files import output_folder

    if chosen.reduce not in ("mean", "sum"):  # also where the metric has nothing to reduce
        raise InputError(f"reduce is 'mean' or 'sum', got {chosen.reduce!r}")
    with output_folder(chosen.out):
        return _write_reports(chosen)


def _write_reports(chosen: argparse.Namespace) -> int:
    """A report in the folder itself, or of several checkpoints one in a folder of each one's name."""
    from maze_dla.analysis import attribute, logit_lens
    from maze_dla.report.causal import NoPairs
    from maze_dla.report.write import write_report

    asked = [_asked(chosen, checkpoint) for checkpoint in chosen.checkpoint or [None]]
    folders = [chosen.out] if len(asked) == 1 else _folders(chosen.out, chosen.checkpoint)
    together = asked if len(asked) > 1 else []
    beside = [attribute(maze, batch, metric, neurons="mean", sources="kinds") for maze, batch, metric, _ in together]
    beside += [logit_lens(maze, batch, metric, scale="own") for maze, batch, metric, _ in together]
    for (maze, batch, metric, left_out), folder in zip(asked, folders, strict=True):
        pairs = None if chosen.contrast is None else _pairs(chosen, maze, chosen.contrast)
        causal = _causal(chosen, maze, pairs)
        more: dict[str, Any] = {"prompt": chosen.prompt, "beside": beside, "pairs": pairs, "causal": causal}
        report = write_report(maze, batch, metric, folder, **more)
        notes = [f"{left_out} prompts have no legal wrong move and were left out."] if left_out else []
        notes += [f"No patching: {causal.why}."] if isinstance(causal, NoPairs) else []
        print_report(report, *notes)
    return DONE


def _asked(chosen: argparse.Namespace, checkpoint: str | None) -> tuple[Any, Any, Any, int]:
    """The model of a checkpoint, its prompts, their metric, and how many prompts have none."""
    from maze_dla.adapters.mazes.load import load_maze_model
    from maze_dla.analysis.metrics import metric_by_name

    maze = load_maze_model(checkpoint, prepend_bos=not chosen.no_bos, device=chosen.device)
    batch = maze.prompts(
        chosen.dataset, task=chosen.task, n_mazes=chosen.n_mazes, seed=chosen.seed, padding=chosen.padding
    )
    name = ("neighbors" if batch.asks_for_steps else "all") if chosen.metric is None else chosen.metric
    kept, metric = metric_by_name(batch, name, chosen.reduce)
    return maze, kept, metric, len(batch) - len(kept)


def _pairs(chosen: argparse.Namespace, maze: Any, change: Any) -> Any:
    """The prompts with their counterfactuals."""
    return maze.pairs(
        chosen.dataset,
        task=chosen.task,
        change=change,
        n_mazes=chosen.n_mazes,
        seed=chosen.seed,
        padding=chosen.padding,
    )


def _causal(chosen: argparse.Namespace, maze: Any, pairs: Any) -> Any:
    """The pairs to patch, where that is asked for: those of the contrast, else of the first change that the task
    has, target before all others; or why there are none.
    """  # fmt: skip
    from maze_dla.adapters.mazes.counterfactuals import CHANGES
    from maze_dla.errors import InputError, PromptError
    from maze_dla.report.causal import NoPairs

    if not chosen.causal or pairs is not None:
        return chosen.causal
    refused = []
    for change in CHANGES:
        try:
            return _pairs(chosen, maze, change)
        except (InputError, PromptError) as problem:
            refused.append(str(problem))
    return NoPairs(refused[0])


def _folders(out: Path, checkpoints: list[str]) -> list[Path]:
    """A folder for each checkpoint, named after its file.

    Raises:
        InputError: two files of one name.
    """
    from maze_dla.errors import InputError

    names = [Path(checkpoint).stem for checkpoint in checkpoints]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise InputError(f"two checkpoints have the name {twice!r}: give them different names, or one report each")
    return [out / name for name in names]


def padding_of(given: str) -> int | str:
    """A number where one is given; words are left to `prompts`, which knows which it takes."""
    return count(given) if given.isdecimal() else given
