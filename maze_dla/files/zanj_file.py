"""The `.zanj` container: a zip with `__zanj__.json` and `.npy` members.

Read here without zanj's own loader, which turns files of another generation into plain dicts without a word and runs
whatever loader a format name asks for. Nothing is executed from a file: JSON and plain arrays only, never a pickle.
What the archive declares is compared with the limits before a member is read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from maze_dla.errors import MazeDlaError, shortened
from maze_dla.files.archive import Archive, opened_archive
from maze_dla.files.arrays import array_of, npy_array
from maze_dla.files.boundary import reading
from maze_dla.files.json_file import parse_json, parse_json_lines
from maze_dla.files.limits import JSON, JSON_FLOOR

MAIN = "__zanj__.json"
OLD_KEY, NEW_KEY = "__format__", "__muutils_format__"  # zanj renamed it in 0.4


def read_container(path: str | Path, error: type[MazeDlaError]) -> dict[str, Any]:
    """The content of a `.zanj` file of any generation, format keys renamed to the new one, arrays as numpy arrays.

    Args:
        path: the file.
        error: the class to raise, for what the caller wants to read from it.

    Raises:
        error: no such file, a folder or pipe, empty, not a zip, cut off, larger inside than `files.limits` allow, a
            member missing, broken or used twice; file and member named.
    """
    with opened_archive(path, error, "a .zanj file") as archive:
        return _Reader(archive).content()


class _Reader:
    """Puts together what the members of one archive hold."""

    def __init__(self, archive: Archive) -> None:
        self.archive, self.file, self.error = archive, archive.file, archive.error

    def content(self) -> dict[str, Any]:
        names = self.archive.names
        if MAIN not in names:
            raise self.error(f"{self.file}: a zip without {MAIN}, so not a .zanj file; it holds {_some(names)}")
        texts = [name for name in names if not name.endswith(".npy")]
        self.archive.check_size(texts, max(JSON_FLOOR, JSON * self.archive.on_disk), "JSON")
        on_disk = self.archive.on_disk
        main = parse_json(self.archive.member(MAIN), self.file, self.error, MAIN, on_disk=on_disk, made=_renamed)
        if not isinstance(main, dict):
            raise self.error(f"{self.file}: {MAIN} holds a {type(main).__name__}, expected an object")
        if not isinstance(whole := self._resolved(main, ""), dict):
            raise self.error(f"{self.file}: {MAIN} is a {type(whole).__name__} as a whole, expected an object")
        return whole

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
        content = self.archive.member(name)
        if name.endswith(".jsonl"):
            on_disk = self.archive.on_disk
            return parse_json_lines(content, self.file, self.error, name, on_disk=on_disk, made=_renamed)
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
