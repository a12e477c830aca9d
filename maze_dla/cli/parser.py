"""The base of all commands: a parser whose errors are one line, and words for the terminal."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from maze_dla.cli.printing import complain, say
from maze_dla.errors import InputError, visible

if TYPE_CHECKING:
    from maze_dla.report.write import Report

DONE, BAD_INPUT, INTERRUPTED = 0, 2, 130
MOST, MOST_DIGITS = 10_000_000, 18  # what is counted, and digits of any number: it fits into 64 bits
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


def out_folder(text: str) -> Path:
    """The argument of `--out` as a folder that may be made, `~` being a home.

    Raises:
        argparse.ArgumentTypeError: no such home, or no path to write at.
    """
    from maze_dla.files import output_path

    path = os.path.expanduser(text)  # noqa: PTH111 (of pathlib, ./~name would be a home too)
    if text.startswith("~") and path == text:
        name = Path(text).parts[0]
        raise argparse.ArgumentTypeError(f"{text}: no home of {name}; a file of that name is ./{name}")
    try:
        return output_path(path)
    except InputError as problem:
        raise argparse.ArgumentTypeError(str(problem)) from None


def out_file(text: str) -> Path:
    """The argument of `--out` as a file that may be made or replaced: no folder, pipe, socket or device.

    Raises:
        argparse.ArgumentTypeError: something else stands there, or as `out_folder`.
    """
    from maze_dla.files import check_replaceable

    file = out_folder(text)
    try:
        check_replaceable(file)
    except InputError as problem:
        raise argparse.ArgumentTypeError(str(problem)) from None
    return file


def whole_number(text: str) -> int:
    """The argument of an option that takes a whole number, of as many digits as all of torch can take.

    Raises:
        argparse.ArgumentTypeError: it is none, or too large.
    """
    digits = text.strip().lstrip("+-").replace("_", "")
    if len(digits) <= MOST_DIGITS:
        try:
            return int(text)
        except ValueError:
            pass
    elif digits.isdecimal():
        raise argparse.ArgumentTypeError(f"at most {MOST_DIGITS} digits, got a number of {len(digits)}")
    raise argparse.ArgumentTypeError(f"invalid int value: {text!r}")


def count(text: str) -> int:
    """The argument of an option that says how many; what is too few, each command says.

    Raises:
        argparse.ArgumentTypeError: more than any machine can hold, or as `whole_number`.
    """
    if (number := whole_number(text)) > MOST:
        raise argparse.ArgumentTypeError(f"at most {MOST:,}, got {number}")
    return number


def add_seed(parser: argparse.ArgumentParser) -> None:
    """`--seed`, for whatever a command samples."""
    parser.add_argument(
        "--seed", type=whole_number, default=0, help="seed of everything that is random (default: %(default)s)"
    )


def add_out(parser: argparse.ArgumentParser, default: str) -> None:
    """`--out` and `--device`, which all reports have."""
    parser.add_argument("--device", help="cpu, cuda or mps (default: cpu)")
    parser.add_argument(
        "--out", type=out_folder, default=default, metavar="DIR", help="where to write (default: %(default)s)"
    )


def add_prompt(parser: argparse.ArgumentParser) -> None:
    """`--prompt`, for whatever looks at one prompt closely."""
    parser.add_argument(
        "--prompt",
        type=count,
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
