"""`maze-dla compare`: results side by side."""

from __future__ import annotations

import argparse
from typing import Any

from maze_dla.cli.parser import DONE, Commands, add_out, add_seed, count
from maze_dla.cli.printing import say


def add_compare(commands: Commands) -> None:
    """Describe the command's arguments."""
    text = "Set results side by side on scale-free measures: a table, a picture and the numbers as CSV."
    compare = commands.add_parser("compare", help=text, description=text)
    compare.add_argument(
        "results",
        nargs="*",
        metavar="RESULT",
        help="results that `report` or `ioi` wrote (default: the bundled maze model beside IOI)",
    )
    compare.add_argument(
        "--model", metavar="NAME|FOLDER|FILE", help="without results: the model for IOI, as for `maze-dla ioi`"
    )
    compare.add_argument("--n-prompts", type=count, metavar="N", help="without results: prompts of each (default: 200)")
    add_seed(compare)
    add_out(compare, "maze_dla_comparison")
    compare.set_defaults(run=_compare)


def _compare(chosen: argparse.Namespace) -> int:
    from maze_dla.errors import InputError
    from maze_dla.files import output_folder
    from maze_dla.report.compare import read_results, write_comparison

    if chosen.results and (chosen.model is not None or chosen.n_prompts is not None):
        raise InputError("--model and --n-prompts are for a comparison without saved results")
    with output_folder(chosen.out):
        results = read_results(chosen.results) if chosen.results else _attribute_both(chosen)
        comparison, files = write_comparison(results, chosen.out)
    say(*str(comparison).split("\n"))
    say(
        "Shares are of means over prompts, with 95% intervals; by chance a small one can come out below zero. "
        "The lens is read at the final norm's recorded scale."
    )
    say(f"written: {', '.join(str(file) for file in files)}")
    return DONE


def _attribute_both(chosen: argparse.Namespace) -> list[Any]:
    """The bundled maze model on its first path choice against the legal wrong moves, and a GPT-2 model on IOI."""
    from maze_dla.adapters.gpt2.load import load_gpt2
    from maze_dla.adapters.mazes.load import load_maze_model
    from maze_dla.adapters.text.ioi import ioi_prompts
    from maze_dla.report.compare import attribute_kinds

    n_prompts = 200 if chosen.n_prompts is None else chosen.n_prompts
    maze, gpt2 = load_maze_model(device=chosen.device), load_gpt2(chosen.model, device=chosen.device)
    mazes = maze.prompts(task="first_path_choice", n_mazes=n_prompts, seed=chosen.seed)
    ioi = ioi_prompts(gpt2, n_prompts, seed=chosen.seed)
    return [attribute_kinds(maze, mazes, "neighbors"), attribute_kinds(gpt2, ioi, "logit_diff")]
