"""`maze-dla`: arguments in, a table and files out, an exit code."""

from __future__ import annotations

from collections.abc import Sequence

from maze_dla.cli.baseline import add_baseline
from maze_dla.cli.bench import add_bench
from maze_dla.cli.compare import add_compare
from maze_dla.cli.ioi import add_ioi
from maze_dla.cli.parser import BAD_INPUT, DONE, INTERRUPTED, OneLineParser
from maze_dla.cli.printing import complain, print_no_more, visible_warnings
from maze_dla.cli.report import add_report
from maze_dla.cli.rollout import add_rollout
from maze_dla.cli.stopping import Stopped, files_at, signals_as_errors
from maze_dla.cli.train import add_train
from maze_dla.errors import MazeDlaError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code.

    0 done; 1 changed, of `baseline check`; 2 bad input; 130 interrupted, 143 terminated.
    """
    out, before = None, {}
    try:
        with signals_as_errors(), visible_warnings():
            try:
                chosen = _parser().parse_args(arguments)
            except SystemExit as stop:  # argparse leaves by itself after --help and after an error
                return int(stop.code or 0)
            out = getattr(chosen, "out", None)
            before = files_at(out)
            return chosen.run(chosen)
    except (MazeDlaError, OSError) as problem:
        if isinstance(problem, BrokenPipeError):  # whoever reads what is printed has seen enough
            print_no_more()
            return DONE
        complain(f"maze-dla: error: {problem}")
        return BAD_INPUT
    except KeyboardInterrupt as stop:
        replaced = "nothing was replaced" if files_at(out) == before else f"what is in {out} already is whole"
        complain(f"maze-dla: interrupted, {replaced}")
        return stop.exit_code if isinstance(stop, Stopped) else INTERRUPTED


def _parser() -> OneLineParser:
    parser = OneLineParser(
        prog="maze-dla", description="Which layers, heads, neurons and cells write the next step of a path?"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=OneLineParser)
    for add in (add_report, add_rollout, add_ioi, add_compare, add_baseline, add_train, add_bench):
        add(commands)
    return parser
