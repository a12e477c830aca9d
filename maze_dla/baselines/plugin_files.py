"""Where the baselines of a test are, and which files no test owns. Imports nothing heavy: every pytest run loads it."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

FOLDER = "baselines"
MARK = b'"format": "maze_dla baselines"'  # near the end of every file of baselines, whose keys are sorted
PLAIN = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*(\[[a-z0-9_.,=+-]*\])?")
UNSAFE = re.compile(r"[^A-Za-z0-9_.,=+-]")
LONGEST, DIGITS = 120, 12  # characters of a name without its ending, and of the hash in it


def folder_of_module(module: Path) -> Path:
    """The folder with the baselines of a test module: `baselines/<module>` beside it."""
    return module.parent / FOLDER / module.stem


def file_of_test(module: Path, names: Sequence[str]) -> Path:
    """The file with the baselines of one test.

    Args:
        module: the test's file.
        names: of its classes, from the outermost on, and of the test itself with its parameters in brackets.
    """
    return folder_of_module(module) / f"{safe_name(names)}.json"


def safe_name(names: Sequence[str]) -> str:
    """One name that every file system takes: `TestClass.test_name-parameters`.

    Where that is long or changes a character, or where parameters differ from others by upper case alone, which some
    file systems do not tell apart, the name is cut and a hash of the whole makes it one of its own.
    """
    whole = ".".join(names)
    shown = UNSAFE.sub("_", whole.replace("[", "-", 1).removesuffix("]"))
    if PLAIN.fullmatch(whole) and len(shown) <= LONGEST:
        return shown
    digest = hashlib.sha256(whole.encode(errors="surrogatepass")).hexdigest()[:DIGITS]
    return f"{shown[: LONGEST - DIGITS - 1]}-{digest}"


def files_of(folder: Path) -> list[Path]:
    """The files of baselines in a folder, known by what they hold; none where there is no folder."""
    try:
        with os.scandir(folder) as entries:
            found = [Path(entry.path) for entry in entries if entry.name.endswith(".json")]
    except OSError:
        return []
    return sorted(file for file in found if _holds_baselines(file))


def without_test(modules: Iterable[Path], owned: Iterable[Path]) -> list[Path]:
    """The files of baselines that belong to no test.

    Args:
        modules: test modules, each with all its tests.
        owned: the files of those tests.
    """
    known, used = set(modules), set(owned)
    found = [file for module in known for file in files_of(folder_of_module(module))]
    for parent in {module.parent for module in known}:
        found += _of_modules_that_are_gone(parent)
    return sorted({*found} - used)


def _of_modules_that_are_gone(parent: Path) -> list[Path]:
    """Files in folders beside which there is no test module of their name any more."""
    try:
        with os.scandir(parent / FOLDER) as entries:
            names = [entry.name for entry in entries if entry.is_dir()]
    except OSError:
        return []
    modules = [name for name in names if name.startswith("test_") or name.endswith("_test")]
    gone = [name for name in modules if not (parent / f"{name}.py").exists()]
    return [file for name in gone for file in files_of(parent / FOLDER / name)]


def _holds_baselines(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            opened.seek(max(0, opened.seek(0, os.SEEK_END) - 4 * len(MARK)))
            return MARK in opened.read()
    except OSError:
        return False
