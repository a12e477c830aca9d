"""`maze-dla`: arguments in, a table and files out, an exit code."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from maze_dla.cli.baseline import add_baseline
from maze_dla.cli.bench import add_bench
from maze_dla.cli.compare import add_compare
from maze_dla.cli.ioi import add_ioi
from maze_dla.cli.parser import BAD_INPUT, DONE, INTERRUPTED, OneLineParser
from maze_dla.cli.printing import complain, print_no_more, visible_warnings
from maze_dla.cli.problems import check_current_folder, words_of
from maze_dla.cli.report import add_report
from maze_dla.cli.rollout import add_rollout
from maze_dla.cli.stopping import files_at, signals_as_errors
from maze_dla.cli.train import add_train


def run(arguments: Sequence[str] | None) -> int:
    """Run the command that the arguments name; returns the exit code, as `main`."""
    out, before = None, {}
    with signals_as_errors() as stopping, visible_warnings():
        try:
            chosen = _chosen(arguments)
            if isinstance(chosen, int):
                return chosen
            check_current_folder()
            out = getattr(chosen, "out", None)
            before = files_at(out)
            return chosen.run(chosen)
        except BaseException as problem:
            if stopping.stopped is None and not isinstance(problem, KeyboardInterrupt):
                return _refused(problem)
            _say_interrupted(out, before)  # also where an import made another error of the interruption
            return INTERRUPTED if stopping.stopped is None else stopping.stopped.exit_code


def _chosen(arguments: Sequence[str] | None) -> Namespace | int:
    """The arguments as they were understood, or an exit code after --help and after an error."""
    try:
        return _parser().parse_args(arguments)
    except SystemExit as stop:  # argparse leaves by itself
        return int(stop.code or 0)


def _refused(problem: BaseException) -> int:
    """Say in a line what is wrong; a bug is raised again, to be seen."""
    if isinstance(problem, BrokenPipeError):  # whoever reads what is printed has seen enough
        print_no_more()
        return DONE
    if (words := words_of(problem)) is None:
        raise problem
    complain(f"maze-dla: error: {words}")
    return BAD_INPUT


def _say_interrupted(out: Path | None, before: dict[str, tuple[int, int]]) -> None:
    replaced = "nothing was replaced" if files_at(out) == before else f"what is in {out} already is whole"
    complain(f"maze-dla: interrupted, {replaced}")


def _parser() -> OneLineParser:
    parser = OneLineParser(
        prog="maze-dla", description="Which layers, heads, neurons and cells write the next step of a path?"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=OneLineParser)
    for add in (add_report, add_rollout, add_ioi, add_compare, add_baseline, add_train, add_bench):
        add(commands)
    return parser
