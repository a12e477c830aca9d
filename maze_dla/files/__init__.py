"""Writing files: whole or not at all, and nowhere but in the folder that was named.

A file is written under a fresh name in its own folder and then renamed. So nobody reads half of it, a failure leaves
the old one as it was, and a link of its name is replaced, not followed.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from maze_dla.errors import InputError, MazeDlaError, check_path

PREFIX = ".maze_dla-"  # of folders that are there while something is written
LONGEST_NAME = 255  # bytes


def output_path(path: str | Path, error: type[MazeDlaError] = InputError) -> Path:
    """A path that something can be written at, as far as its words show; nothing is opened, which a pipe would block.

    Raises:
        InputError: no path.
        error: it is empty, too long, holds a null byte, or its folder cannot be looked into.
    """
    check_path(path, "where to write")
    if not str(path):
        raise error("the path to write at is empty: name a file or a folder, '.' for the current one")
    try:
        if any(len(os.fsencode(name)) > LONGEST_NAME for name in Path(path).parts):  # also in folders yet to be made
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):  # the one can be made, of the other whoever makes folders can tell
        pass
    except (OSError, ValueError) as problem:  # a ValueError where no file system has such names
        raise error(f"{path}: cannot be written ({getattr(problem, 'strerror', None) or problem})") from None
    return Path(path)


@contextmanager
def writing(path: str | Path, error: type[MazeDlaError] = InputError, what: str = "") -> Iterator[None]:
    """Errors of the file system, a full disk for one, as one of ours that names the path."""
    try:
        yield
    except OSError as problem:
        raise error(f"{path}: cannot be written{what} ({problem.strerror or problem})") from problem


@contextmanager
def made_folder(folder: Path) -> Iterator[None]:
    """The folder, made with its parents where missing; all that was made and is still empty at the end is removed."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        for path in missing:
            with suppress(OSError):  # not empty, so something came of it
                path.rmdir()


@contextmanager
def output_folder(out: str | Path) -> Iterator[Path]:
    """A folder, as `made_folder`, once it is known that files can be put there.

    Raises:
        InputError: it is a file, or cannot be made or written.
    """
    folder = output_path(out)
    with ExitStack() as stack:
        with writing(folder, what=" as a folder"):
            stack.enter_context(made_folder(folder))
            with draft_folder(folder):
                pass
        yield folder


@contextmanager
def drafted_folder(folder: Path, owned: Iterable[str] = ()) -> Iterator[Path]:
    """A fresh folder inside another one, whose files move there, as by `put_in_place`, when its block ends.

    Raises:
        InputError: the folder cannot be written; nothing was replaced.
    """
    with writing(folder), draft_folder(folder) as name:
        yield Path(name)
        put_in_place(Path(name), folder, owned)


def draft_folder(folder: Path) -> TemporaryDirectory[str]:
    """A fresh folder inside another one, removed when its block ends."""
    return TemporaryDirectory(dir=folder, prefix=PREFIX, ignore_cleanup_errors=True)


@contextmanager
def drafted(path: str | Path, error: type[MazeDlaError] = InputError, *, is_new: bool = False) -> Iterator[Path]:
    """A fresh path to write a file at, which takes its place when the block ends without an error.

    Args:
        path: where the file goes; its folder is made if it is missing.
        error: the class to raise.
        is_new: refuse to replace a file of this name.

    Raises:
        error: the folder or the file cannot be written; nothing was replaced.
    """
    file = output_path(path, error)
    check_replaceable(file, error)
    with writing(file, error), made_folder(file.parent), draft_folder(file.parent) as name:
        written = Path(name) / f"written{file.suffix}"
        yield written
        (_take_free_name if is_new else Path.replace)(written, file)


def write_file(path: str | Path, content: bytes | str) -> None:
    """Write a file, as `drafted`; text as UTF-8."""
    with drafted(path) as written:
        written.write_bytes(content.encode() if isinstance(content, str) else content)


def put_in_place(draft: Path, folder: Path, owned: Iterable[str] = ()) -> None:
    """Move all files of a draft, which lies in the folder, into the folder: all of them or, on any failure, none.

    Args:
        draft: a folder with the finished files.
        folder: where they go; it is locked meanwhile.
        owned: names that only files of the same kind have; those that the draft lacks are removed from the folder.

    Raises:
        InputError: the folder cannot be written, or holds something else than a file under one of the names.
    """
    new = sorted(file.name for file in draft.iterdir())
    old = sorted({name for name in {*new, *owned} if os.path.lexists(folder / name)})
    for name in new:
        check_replaceable(folder / name)
    with writing(folder), locked(folder, wait=True), draft_folder(folder) as before:
        try:
            for name in old:
                _second_name(folder / name, Path(before) / name)
            for name in new:
                (draft / name).replace(folder / name)
            for name in {*old} - {*new}:
                (folder / name).unlink()
        except BaseException:  # also an interruption: what was there is put back
            for name in {*old, *new}:
                if os.path.lexists(Path(before) / name):
                    (Path(before) / name).replace(folder / name)
                elif name in new and not os.path.lexists(draft / name):
                    (folder / name).unlink(missing_ok=True)
            raise


@contextmanager
def locked(folder: str | Path, *, wait: bool = False) -> Iterator[None]:
    """The folder held by one run alone, until the block ends or the process does, however it ends.

    Without effect where the system or the file system knows no such locks.

    Raises:
        InputError: another run holds it, unless that is to be waited for.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{folder}: another run is writing into this folder, name another one") from None
        except OSError:  # some network file systems
            pass
        yield
    finally:
        os.close(handle)


def check_replaceable(file: Path, error: type[MazeDlaError] = InputError) -> None:
    """Refuse a folder or a device that stands where a file is to go.

    Raises:
        error: naming it.
    """
    if file.exists() and not file.is_file():
        what = "a folder" if file.is_dir() else "no ordinary file"
        raise error(f"{file}: cannot be written as a file: it is {what}")


def _take_free_name(written: Path, file: Path) -> None:
    try:
        os.link(written, file)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        os.close(os.open(file, os.O_CREAT | os.O_EXCL))
        written.replace(file)


def _second_name(file: Path, other: Path) -> None:
    """The same file, or the same link, under another name; a copy where there are no hard links."""
    try:
        os.link(file, other, follow_symlinks=False)
    except (OSError, NotImplementedError):
        shutil.copy2(file, other, follow_symlinks=False)
