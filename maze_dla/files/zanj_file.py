"""The `.zanj` container: a zip with `__zanj__.json` and `.npy` members.

Read here without zanj's own loader, which turns files of another generation into plain dicts without a word and runs
whatever loader a format name asks for. Nothing is executed from a file: JSON and plain arrays only, never a pickle.
What the archive declares is compared with the limits before a member is read.
"""

from __future__ import annotations

import io
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from maze_dla.errors import MazeDlaError, shortened
from maze_dla.files.arrays import array_of, npy_array
from maze_dla.files.boundary import reading, regular_file
from maze_dla.files.json_file import parse_json, parse_json_lines
from maze_dla.files.limits import (
    ARCHIVE_DIRECTORY,
    JSON,
    JSON_FLOOR,
    MIB,
    UNFOLDED,
    UNFOLDED_FLOOR,
    megabytes,
    size_on_disk,
)

MAIN = "__zanj__.json"
OLD_KEY, NEW_KEY = "__format__", "__muutils_format__"  # zanj renamed it in 0.4
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # all others unfold without bounds, and zanj writes none of them
ENCRYPTED = 0x1  # a member's flag


def read_container(path: str | Path, error: type[MazeDlaError]) -> dict[str, Any]:
    """The content of a `.zanj` file of any generation, format keys renamed to the new one, arrays as numpy arrays.

    Args:
        path: the file.
        error: the class to raise, for what the caller wants to read from it.

    Raises:
        error: no such file, a folder or pipe, empty, not a zip, cut off, larger inside than `files.limits` allow, a
            member missing, broken or used twice; file and member named.
    """
    file = regular_file(path, error, "a .zanj file")
    with _archive(file, error) as archive:
        return _Reader(archive, file, error).content()


@contextmanager
def _archive(file: Path, error: type[MazeDlaError]) -> Iterator[zipfile.ZipFile]:
    with reading(file, error):
        stream = _Bounded(io.FileIO(file))
    with stream, reading(file, error, "not a zip file, or cut off"), zipfile.ZipFile(stream) as archive:
        stream.largest = None
        yield archive


class _Bounded(io.BufferedReader):
    """A file of which no large piece is read at once while the archive's directory is."""

    largest: int | None = ARCHIVE_DIRECTORY

    def read(self, size: int | None = -1, /) -> bytes:
        if self.largest is not None and size is not None and size > self.largest:
            raise ValueError(f"its list of members has {megabytes(size)}, at most {megabytes(self.largest)} are read")
        return super().read(size)


class _Reader:
    """Reads the members of one archive, each of them once."""

    def __init__(self, archive: zipfile.ZipFile, file: Path, error: type[MazeDlaError]) -> None:
        self.archive, self.file, self.error = archive, file, error
        self.on_disk = size_on_disk(file)
        self.used: set[str] = set()

    def content(self) -> dict[str, Any]:
        self._check_members()
        main = parse_json(self._member(MAIN), self.file, self.error, MAIN, on_disk=self.on_disk, made=_renamed)
        if not isinstance(main, dict):
            raise self.error(f"{self.file}: {MAIN} holds a {type(main).__name__}, expected an object")
        return self._resolved(main, "")

    def _check_members(self) -> None:
        """Refuse names that are there twice, and sizes beyond the limits, by what the archive declares."""
        members = self.archive.infolist()
        names = Counter(m.filename for m in members)
        if twice := [name for name, n in names.items() if n > 1]:
            raise self.error(f"{self.file}: member {shortened(twice[0])} is there twice, expected once")
        if MAIN not in names:
            raise self.error(f"{self.file}: a zip without {MAIN}, so not a .zanj file; it holds {_some(list(names))}")
        arrays = [m for m in members if m.filename.endswith(".npy")]
        texts = [m for m in members if not m.filename.endswith(".npy")]
        self._check_size(texts, max(JSON_FLOOR, JSON * self.on_disk), "JSON")
        self._check_size(texts + arrays, max(UNFOLDED_FLOOR, UNFOLDED * self.on_disk), "members")

    def _check_size(self, members: list[zipfile.ZipInfo], most: int, what: str) -> None:
        if (total := sum(m.file_size for m in members)) > most:
            worst = max(members, key=lambda m: m.file_size)
            raise self.error(
                f"{self.file}: declares {megabytes(total)} of {what}, {megabytes(worst.file_size)} of it in member "
                f"{shortened(worst.filename)}; at most {megabytes(most)} are read of a file of "
                f"{megabytes(self.on_disk)}"
            )

    def _member(self, name: Any) -> bytearray:
        """The content of a member, which is used once."""
        shown = shortened(name)
        if not isinstance(name, str) or name not in self.archive.NameToInfo:
            raise self.error(f"{self.file}: member {shown} is missing")
        if name in self.used:
            raise self.error(f"{self.file}: member {shown} is referred to twice, expected once")
        self.used.add(name)
        info = self.archive.NameToInfo[name]
        with reading(self.file, self.error, f"member {shown} is damaged"):
            if info.flag_bits & ENCRYPTED:
                raise ValueError("it is encrypted")
            if info.compress_type not in METHODS:
                raise ValueError(f"compression method {info.compress_type}, expected deflated or stored")
            content, at = bytearray(info.file_size), 0
            with self.archive.open(info) as stream:
                while piece := stream.read(MIB):  # zipfile reads nothing beyond the size that is declared
                    content[at : at + len(piece)] = piece
                    at += len(piece)
            if at != info.file_size:
                raise ValueError(f"it ends after {at} of {info.file_size} bytes")
            return content

    def _resolved(self, item: Any, at: str) -> Any:
        """The item with its arrays, external and inline; lists and objects are changed in place."""
        if isinstance(item, list):
            for i, value in enumerate(item):
                if isinstance(value, list | dict):
                    item[i] = self._resolved(value, at)
            return item
        kind = str(item.get(NEW_KEY, ""))
        if "$ref" in item and kind.endswith(":external"):
            return self._external(item["$ref"])
        if kind.endswith((":array_list_meta", ":zero_dim")):
            with reading(self.file, self.error, f"{at} in {MAIN} is no array"):
                return array_of(item)
        for key, value in item.items():
            if isinstance(value, list | dict):
                item[key] = self._resolved(value, f"{at}.{key}" if at else key)
        return item

    def _external(self, name: Any) -> Any:
        content = self._member(name)
        if name.endswith(".jsonl"):
            return parse_json_lines(content, self.file, self.error, name, on_disk=self.on_disk, made=_renamed)
        with reading(self.file, self.error, f"member {shortened(name)} is no plain array"):
            return npy_array(content)


def rename_format_keys(item: Any, old: str = OLD_KEY, new: str = NEW_KEY) -> Any:
    """The same JSON with one format key under another name at every level; by default zanj's old one as the new."""
    if isinstance(item, dict):
        return {new if k == old else k: rename_format_keys(v, old, new) for k, v in item.items()}
    return [rename_format_keys(v, old, new) for v in item] if isinstance(item, list) else item


def _renamed(item: dict[str, Any]) -> dict[str, Any]:
    return {NEW_KEY if k == OLD_KEY else k: v for k, v in item.items()} if OLD_KEY in item else item


def _some(names: list[str]) -> str:
    shown = ", ".join(shortened(name) for name in names[:3]) or "nothing"
    return f"{shown}, ..." if len(names) > 3 else shown
