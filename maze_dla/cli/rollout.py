"""`maze-dla rollout`: does a maze checkpoint solve mazes?"""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from typing import Any

from maze_dla.cli.parser import DONE, Commands, add_seed, count, out_file
from maze_dla.cli.printing import say

WORDS = (
    "A walk is solved if it is a shortest path from origin to target, with <PATH_END> after it; exact if it is the "
    "data set's own solution; valid if no step goes through a wall. A first wrong step is the first token that is "
    "wrong where the walk then stands; step 1 is the first move. Brackets are 95% intervals."
)


def add_rollout(commands: Commands) -> None:
    """Describe the command's arguments."""
    text = "Let checkpoints walk through mazes by themselves: how many they solve, beside random walkers."
    rollout = commands.add_parser("rollout", help=text, description=f"{text} {WORDS}")
    rollout.add_argument(
        "checkpoint", nargs="*", metavar="CHECKPOINT", help="a .zanj checkpoint, or several (default: the bundled one)"
    )
    rollout.add_argument(
        "--n-mazes", type=count, metavar="N", help="how many mazes (default: 100 generated, or all given)"
    )
    rollout.add_argument("--dataset", metavar="FILE", help="a saved .zanj data set (default: mazes are generated)")
    rollout.add_argument(
        "--temperature", type=float, metavar="T", help="draw each step at this temperature (default: the likeliest)"
    )
    rollout.add_argument("--n-samples", type=count, default=1, metavar="N", help="walks for each maze, where drawn")
    rollout.add_argument(
        "--max-steps", type=count, metavar="N", help="tokens of a walk at most (default: up to the end of the context)"
    )
    add_seed(rollout)
    rollout.add_argument("--no-bos", action="store_true", help="without the extra BOS in front of each prompt")
    rollout.add_argument("--device", help="cpu, cuda or mps (default: cpu)")
    rollout.add_argument(
        "--out", type=out_file, metavar="FILE.csv", help="also write the table, one row a walk, to a file"
    )
    rollout.set_defaults(run=_rollout)


def _rollout(chosen: argparse.Namespace) -> int:
    import pandas as pd

    from maze_dla.files import drafted

    with nullcontext() if chosen.out is None else drafted(chosen.out) as draft:  # refused before anything is run
        results = [_walks(chosen, checkpoint) for checkpoint in chosen.checkpoint or [None]]
        if draft is not None:
            tables = [result.table.assign(checkpoint=str(result.info.get("checkpoint", "?"))) for result in results]
            pd.concat(tables).to_csv(draft, index_label="walk_number")
    for result in results:
        say(*repr(result).split("\n"))
    if chosen.out is not None:
        say(f"written: {chosen.out}")
    return DONE


def _walks(chosen: argparse.Namespace, checkpoint: str | None) -> Any:
    """The rollout of a checkpoint."""
    from maze_dla.adapters.mazes.load import load_maze_model

    maze = load_maze_model(checkpoint, prepend_bos=not chosen.no_bos, device=chosen.device)
    return maze.rollout(
        chosen.dataset,
        n_mazes=chosen.n_mazes,
        seed=chosen.seed,
        n_samples=chosen.n_samples,
        temperature=chosen.temperature,
        max_steps=chosen.max_steps,
    )
