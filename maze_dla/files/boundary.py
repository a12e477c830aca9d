"""The boundary between damaged files and callers: whatever reading one leads to is one typed error that names it."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from maze_dla.errors import InputError, MazeDlaError, shortened
from maze_dla.files.limits import PLAIN_FILE, megabytes


@contextmanager
def reading(file: str | Path, error: type[MazeDlaError], seen: str = "cannot be read") -> Iterator[None]:
    """Any exception in the block as `error`: "model.zanj: member x.npy is damaged (Bad CRC-32)".

    Errors of ours pass as they are, save that an argument which a check refuses is here a part of the file; so do
    interruptions.

    Args:
        file: what is read.
        error: the class to raise.
        seen: what is at fault, the member among it, in the words of the message.
    """
    try:
        yield
    except MazeDlaError as problem:
        if isinstance(problem, InputError) and not issubclass(InputError, error):
            raise error(f"{_named(file)}: {shortened(seen, 400)} ({_reason(problem)})") from problem
        raise
    except Exception as problem:  # a damaged file can lead to any: MemoryError, TokenError, RecursionError, ...
        raise error(f"{_named(file)}: {shortened(seen, 400)} ({_reason(problem)})") from problem


def regular_file(path: str | Path, error: type[MazeDlaError], expected: str = "a file") -> Path:
    """The path of an ordinary file that is not empty; nothing is opened, so a pipe does not block.

    Raises:
        error: nothing of that name, a folder, a pipe or device, empty, or a name that no file can have.
    """
    file = Path(path)
    with reading(path, error):
        try:
            found = file.stat()
        except (FileNotFoundError, NotADirectoryError):
            raise error(f"{_named(path)}: no such file") from None
    if stat.S_ISDIR(found.st_mode):
        raise error(f"{_named(path)}: a folder, expected {expected}")
    if not stat.S_ISREG(found.st_mode):
        raise error(f"{_named(path)}: no ordinary file but a pipe or device, expected {expected}")
    if not found.st_size:
        raise error(f"{_named(path)}: the file is empty")
    return file


def read_bytes(
    path: str | Path, error: type[MazeDlaError], expected: str = "a file", largest: int = PLAIN_FILE
) -> bytes:
    """The content of an ordinary file.

    Raises:
        error: as `regular_file`, or larger than `largest` bytes.
    """
    file = regular_file(path, error, expected)
    with reading(file, error), file.open("rb") as opened:
        content = opened.read(min(largest, file.stat().st_size) + 1)
    if len(content) > largest:
        size = megabytes(max(file.stat().st_size, len(content)))
        raise error(f"{_named(file)}: has {size}, at most {megabytes(largest)} are read as {expected}")
    return content


def _named(path: str | Path) -> str:
    return shortened(path, 400)


def _reason(problem: Exception) -> str:
    if isinstance(problem, MemoryError):
        return "it takes more memory than there is"
    if isinstance(problem, RecursionError):
        return "nested too deep"
    if isinstance(problem, OSError) and problem.strerror:
        return problem.strerror
    said, kind = shortened(problem, 400), type(problem).__name__
    plain = isinstance(problem, ValueError | OSError | RuntimeError) or type(problem).__module__ != "builtins"
    return (said if plain else f"{kind}: {said}") if said else kind
