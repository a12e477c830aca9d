"""`maze-dla bench`: how fast, and in how much memory."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from maze_dla.cli.parser import DONE, Commands


def add_bench(commands: Commands) -> None:
    """Describe the command's arguments."""
    text = "Time an attribution beside a plain forward pass and beside the tutorial way, on random models."
    bench = commands.add_parser("bench", help=text, description=text)
    bench.add_argument("--shape", default="all", help="maze, gpt2 (as gpt2-small) or all (default: %(default)s)")
    bench.add_argument(
        "--prompts", type=int, nargs="+", metavar="N", help="how many (default: what fits in about a minute)"
    )
    bench.add_argument(
        "--rounds",
        type=int,
        metavar="N",
        help="timed runs of each way (default: 3, and 1 of what takes more than 3 seconds)",
    )
    bench.add_argument("--threads", type=int, metavar="N", help="threads for torch (default: as many as it takes)")
    bench.add_argument("--device", help="cpu, cuda or mps (default: cpu)")
    bench.add_argument("--out", metavar="FILE.json", help="also write every measurement to a file")
    bench.set_defaults(run=_bench)


def _bench(chosen: argparse.Namespace) -> int:
    from maze_dla.bench.run import SHAPES, run_bench
    from maze_dla.bench.table import as_json, as_text

    if chosen.out is not None:
        _check_writable(chosen.out)  # before anything is timed in vain
    shapes = tuple(SHAPES) if chosen.shape == "all" else (chosen.shape,)
    report = run_bench(shapes, chosen.prompts, rounds=chosen.rounds, n_threads=chosen.threads, device=chosen.device)
    print(as_text(report))
    if chosen.out is not None:
        _write(chosen.out, json.dumps(as_json(report), indent=1) + "\n")
        print(f"written: {chosen.out}")
    return DONE


def _check_writable(out: str) -> None:
    """Refuse a file that cannot be written, and leave one that is there as it is."""
    file = Path(out)
    was_there = file.exists()
    with _as_input_error(out), file.open("a"):
        pass
    if not was_there:
        file.unlink()


def _write(out: str, text: str) -> None:
    with _as_input_error(out):
        Path(out).write_text(text, encoding="utf-8")


@contextmanager
def _as_input_error(out: str) -> Iterator[None]:
    from maze_dla.errors import InputError

    try:
        yield
    except OSError as problem:
        raise InputError(f"{out}: cannot be written as a file ({problem.strerror or problem})") from problem
