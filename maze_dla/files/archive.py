"""Zip archives of which each member is read once, after a look at what the archive declares."""

from __future__ import annotations

import io
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from maze_dla.errors import MazeDlaError, shortened
from maze_dla.files.boundary import reading, regular_file
from maze_dla.files.limits import ARCHIVE_DIRECTORY, MIB, UNFOLDED, UNFOLDED_FLOOR, megabytes, size_on_disk

METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # all others unfold without bounds, and nobody here writes them
ENCRYPTED = 0x1  # a member's flag


@contextmanager
def opened_archive(path: str | Path, error: type[MazeDlaError], expected: str) -> Iterator[Archive]:
    """An archive, whose members are read once it is known that together they are within the limits.

    Args:
        path: the file.
        error: the class to raise.
        expected: what it should be, in the words of the message: "a .zanj file".

    Raises:
        error: no such file, a folder or pipe, empty, not a zip, cut off, a member that is there twice, or larger
            inside than `files.limits` allow; file and member named.
    """
    file = regular_file(path, error, expected)
    with reading(file, error):
        stream = _Bounded(io.FileIO(file))
    with stream, reading(file, error, "not a zip file, or cut off"), zipfile.ZipFile(stream) as opened:
        stream.largest = None
        yield Archive(opened, file, error)


def can_be_read(file: Path) -> bool:
    """Whether an archive that was just written is within the limits of `opened_archive`: what is alike shrinks most."""
    with zipfile.ZipFile(file) as archive:
        return sum(member.file_size for member in archive.infolist()) <= _most(size_on_disk(file))


def _most(on_disk: int) -> int:
    """How many bytes all members of a file of this size may have."""
    return max(UNFOLDED_FLOOR, UNFOLDED * on_disk)


class _Bounded(io.BufferedReader):
    """A file of which no large piece is read at once while the archive's directory is."""

    largest: int | None = ARCHIVE_DIRECTORY

    def read(self, size: int | None = -1, /) -> bytes:
        if self.largest is not None and size is not None and size > self.largest:
            raise ValueError(f"its list of members has {megabytes(size)}, at most {megabytes(self.largest)} are read")
        return super().read(size)


class Archive:
    """The members of one archive, each of them read once."""

    def __init__(self, opened: zipfile.ZipFile, file: Path, error: type[MazeDlaError]) -> None:
        self._opened, self.file, self.error = opened, file, error
        self.on_disk = size_on_disk(file)
        self._used: set[str] = set()
        self.names = opened.namelist()
        """The names of the members."""
        if twice := [name for name, n in Counter(self.names).items() if n > 1]:
            raise error(f"{file}: member {shortened(twice[0])} is there twice, expected once")

    def check_size(self, names: Iterable[str], most: int, what: str) -> None:
        """Refuse members that together declare more than so many bytes."""
        members = [self._opened.NameToInfo[name] for name in names]
        if (total := sum(m.file_size for m in members)) > most:
            worst = max(members, key=lambda m: m.file_size)
            raise self.error(
                f"{self.file}: declares {megabytes(total)} of {what}, {megabytes(worst.file_size)} of it in member "
                f"{shortened(worst.filename)}; at most {megabytes(most)} are read of a file of "
                f"{megabytes(self.on_disk)}"
            )

    def member(self, name: Any) -> bytearray:
        """The content of a member, which is used once."""
        if not self._used:
            self.check_size(self.names, _most(self.on_disk), "members")
        shown = shortened(name)
        if not isinstance(name, str) or name not in self._opened.NameToInfo:
            raise self.error(f"{self.file}: member {shown} is missing")
        if name in self._used:
            raise self.error(f"{self.file}: member {shown} is referred to twice, expected once")
        self._used.add(name)
        info = self._opened.NameToInfo[name]
        with reading(self.file, self.error, f"member {shown} is damaged"):
            if info.flag_bits & ENCRYPTED:
                raise ValueError("it is encrypted")
            if info.compress_type not in METHODS:
                raise ValueError(f"compression method {info.compress_type}, expected deflated or stored")
            content, at = bytearray(info.file_size), 0
            with self._opened.open(info) as stream:
                while piece := stream.read(MIB):  # zipfile reads nothing beyond the size that is declared
                    content[at : at + len(piece)] = piece
                    at += len(piece)
            if at != info.file_size:
                raise ValueError(f"it ends after {at} of {info.file_size} bytes")
            return content
