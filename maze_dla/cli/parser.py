"""The base of all commands: a parser whose errors are one line, and words for the terminal."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from maze_dla.cli.printing import complain, say
from maze_dla.errors import visible

if TYPE_CHECKING:
    from maze_dla.report.write import Report

DONE, BAD_INPUT, INTERRUPTED = 0, 2, 130
Commands = argparse._SubParsersAction


class OneLineParser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Refuse the arguments."""
        self.exit(BAD_INPUT, f"{self.prog}: error: {visible(message)} (see {self.prog} --help)\n")

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:  # pyright: ignore (it has overloads)
        """The arguments; those that the command does not know are refused with where to find those that it does."""
        chosen, unknown = self.parse_known_args(args, namespace)
        if unknown:
            program = f"{self.prog} {chosen.command}"
            words = visible(" ".join(unknown))
            self.exit(BAD_INPUT, f"{program}: error: unrecognized arguments: {words} (see {program} --help)\n")
        return chosen

    def _print_message(self, message: str, file: Any = None) -> None:
        for line in message.rstrip("\n").split("\n"):
            (complain if file is sys.stderr else say)(line)


def add_seed(parser: argparse.ArgumentParser) -> None:
    """`--seed`, for whatever a command samples."""
    parser.add_argument("--seed", type=int, default=0, help="seed of everything that is random (default: %(default)s)")


def add_out(parser: argparse.ArgumentParser, default: str) -> None:
    """`--out` and `--device`, which all reports have."""
    parser.add_argument("--device", help="cpu, cuda or mps (default: cpu)")
    parser.add_argument("--out", default=default, metavar="DIR", help="where to write (default: %(default)s)")


def add_prompt(parser: argparse.ArgumentParser) -> None:
    """`--prompt`, for whatever looks at one prompt closely."""
    parser.add_argument(
        "--prompt",
        type=int,
        metavar="N",
        help="which prompt to look at closely, from 0 (default: three, by rules that the page names)",
    )


def print_report(report: Report, *notes: str) -> None:
    """The facts of a report, what is to be said of it, and where it is."""
    width = max(len(name) for name, _ in report.facts)
    for name, value in report.facts:
        say(f"{name:<{width}}  {value}")
    for note in (*notes, report.result.warning):
        if note:
            say(note)
    say(f"written: {report.page}, {report.result_file} and {len(report.pictures)} pictures beside them")
