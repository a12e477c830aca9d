"""`maze-dla bench`: how fast, and in how much memory."""

from __future__ import annotations

import argparse
import json
from contextlib import nullcontext

from maze_dla.cli.parser import DONE, Commands, count, out_file
from maze_dla.cli.printing import say


def add_bench(commands: Commands) -> None:
    """Describe the command's arguments."""
    text = "Time an attribution beside a plain forward pass and beside the tutorial way, on random models."
    bench = commands.add_parser("bench", help=text, description=text)
    bench.add_argument("--shape", default="all", help="maze, gpt2 (as gpt2-small) or all (default: %(default)s)")
    bench.add_argument(
        "--prompts", type=count, nargs="+", metavar="N", help="how many (default: what fits in about a minute)"
    )
    bench.add_argument(
        "--rounds",
        type=count,
        metavar="N",
        help="timed runs of each way (default: 3, and 1 of what takes more than 3 seconds)",
    )
    bench.add_argument("--threads", type=count, metavar="N", help="threads for torch (default: as many as it takes)")
    bench.add_argument("--device", help="cpu, cuda or mps (default: cpu)")
    bench.add_argument(
        "--causal", action="store_true", help="time patching and ablation instead, beside one forward pass per site"
    )
    bench.add_argument("--out", type=out_file, metavar="FILE.json", help="also write every measurement to a file")
    bench.set_defaults(run=_bench)


def _bench(chosen: argparse.Namespace) -> int:
    from maze_dla.bench.run import MODELS, run_bench
    from maze_dla.bench.table import as_json, as_text
    from maze_dla.files import drafted

    shapes = tuple(MODELS) if chosen.shape == "all" else (chosen.shape,)
    if chosen.causal:
        return _causal(chosen, shapes)
    with nullcontext() if chosen.out is None else drafted(chosen.out) as draft:  # refused before anything is timed
        report = run_bench(shapes, chosen.prompts, rounds=chosen.rounds, n_threads=chosen.threads, device=chosen.device)
        if draft is not None:
            draft.write_text(json.dumps(as_json(report), indent=1) + "\n", encoding="utf-8")
    say(*as_text(report).split("\n"))
    if chosen.out is not None:
        say(f"written: {chosen.out}")
    return DONE


def _causal(chosen: argparse.Namespace, shapes: tuple[str, ...]) -> int:
    """Patching and ablation."""
    from maze_dla.bench.interventions import interventions_as_text, run_interventions
    from maze_dla.errors import InputError

    for name in ("prompts", "device", "out"):
        if getattr(chosen, name) is not None:
            raise InputError(f"--{name} does not go with --causal")
    report = run_interventions(shapes, rounds=chosen.rounds, n_threads=chosen.threads)
    say(*interventions_as_text(report).split("\n"))
    return DONE
