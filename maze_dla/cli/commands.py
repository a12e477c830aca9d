"""`maze-dla`: arguments in, a table and files out, an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from maze_dla.cli.bench import add_bench
from maze_dla.cli.compare import add_compare
from maze_dla.cli.ioi import add_ioi
from maze_dla.cli.parser import BAD_INPUT, DONE, INTERRUPTED, OneLineParser
from maze_dla.cli.report import add_report
from maze_dla.cli.train import add_train
from maze_dla.errors import MazeDlaError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0 done, 2 bad input, 130 interrupted."""
    parser = OneLineParser(
        prog="maze-dla", description="Which layers, heads, neurons and cells write the next step of a path?"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=OneLineParser)
    for add in (add_report, add_ioi, add_compare, add_train, add_bench):
        add(commands)
    try:
        chosen = parser.parse_args(arguments)
    except SystemExit as stop:  # argparse leaves by itself after --help and after an error
        return int(stop.code or 0)
    try:
        return chosen.run(chosen)
    except MazeDlaError as problem:
        print(f"maze-dla: error: {' '.join(str(problem).split())}", file=sys.stderr)
        return BAD_INPUT
    except BrokenPipeError:  # whoever reads what is printed has seen enough
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123 (closed when the process ends)
        return DONE
    except KeyboardInterrupt:
        print("maze-dla: interrupted, nothing was replaced", file=sys.stderr)
        return INTERRUPTED
