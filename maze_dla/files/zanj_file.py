"""The `.zanj` container: a zip with `__zanj__.json` and `.npy` members.

Read here without zanj's own loader, which turns files of another generation into plain dicts without a word and runs
whatever loader a format name asks for. Nothing is executed from a file: JSON and plain arrays only, never a pickle.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from maze_dla.errors import MazeDlaError

MAIN = "__zanj__.json"
OLD_KEY, NEW_KEY = "__format__", "__muutils_format__"  # zanj renamed it in 0.4


def read_container(path: str | Path, error: type[MazeDlaError]) -> dict[str, Any]:
    """The content of a `.zanj` file of any generation, format keys renamed to the new one, arrays as numpy arrays.

    Args:
        path: the file.
        error: the class to raise, for what the caller wants to read from it.

    Raises:
        error: no such file, a folder, empty, not a zip, cut off, a member missing or broken; file and member named.
    """
    file = Path(path)
    if not file.exists():
        raise error(f"{file}: no such file")
    if file.is_dir():
        raise error(f"{file}: a folder, expected a .zanj file")
    if file.stat().st_size == 0:
        raise error(f"{file}: the file is empty")
    try:
        with zipfile.ZipFile(file) as archive:
            if twice := [name for name, n in Counter(archive.namelist()).items() if n > 1]:
                raise error(f"{file}: member {twice[0]} is there twice, expected once")
            if MAIN not in archive.namelist():
                raise error(f"{file}: a zip without {MAIN}, so not a .zanj file; it holds {_some(archive.namelist())}")
            main = _parse_json(_member(archive, MAIN, file, error), file, error)
            if not isinstance(main, dict):
                raise error(f"{file}: {MAIN} holds a {type(main).__name__}, expected an object")
            return _resolve(main, archive, file, error)
    except (zipfile.BadZipFile, NotImplementedError) as problem:
        raise error(f"{file}: not a zip file, or cut off ({problem})") from problem
    except OSError as problem:
        raise error(f"{file}: cannot be read ({problem.strerror or problem})") from problem


def rename_format_keys(item: Any, old: str = OLD_KEY, new: str = NEW_KEY) -> Any:
    """The same JSON with one format key under another name at every level; by default zanj's old one as the new."""
    if isinstance(item, dict):
        return {new if k == old else k: rename_format_keys(v, old, new) for k, v in item.items()}
    return [rename_format_keys(v, old, new) for v in item] if isinstance(item, list) else item


def _member(archive: zipfile.ZipFile, name: str, file: Path, error: type[MazeDlaError]) -> bytes:
    try:
        return archive.read(name)
    except KeyError:
        raise error(f"{file}: member {name} is missing") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as problem:
        raise error(f"{file}: member {name} is damaged ({problem})") from problem


def _parse_json(content: bytes, file: Path, error: type[MazeDlaError]) -> Any:
    try:
        return json.loads(content, object_pairs_hook=_once_each)
    except (ValueError, RecursionError) as problem:
        raise error(f"{file}: member {MAIN} is not valid JSON ({problem})") from problem


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    item = dict(pairs)
    if len(item) < len(pairs):
        raise ValueError(f"key {Counter(key for key, _ in pairs).most_common(1)[0][0]!r} is there twice")
    return item


def _resolve(item: Any, archive: zipfile.ZipFile, file: Path, error: type[MazeDlaError], at: str = "") -> Any:
    """Old key to new key; external and inline arrays to numpy arrays."""
    if isinstance(item, list):
        return [_resolve(v, archive, file, error, at) for v in item]
    if not isinstance(item, dict):
        return item
    kind = str(item.get(NEW_KEY, item.get(OLD_KEY, "")))
    if "$ref" in item and kind.endswith(":external"):
        return _external(item["$ref"], kind, archive, file, error)
    if kind.endswith((":array_list_meta", ":zero_dim")):
        return _inline(item, file, at, error)
    return {
        NEW_KEY if k == OLD_KEY else k: _resolve(v, archive, file, error, f"{at}.{k}" if at else k)
        for k, v in item.items()
    }


def _external(name: Any, kind: str, archive: zipfile.ZipFile, file: Path, error: type[MazeDlaError]) -> Any:
    content = _member(archive, str(name), file, error)
    try:
        if str(name).endswith(".jsonl"):
            return [rename_format_keys(json.loads(line)) for line in content.splitlines() if line.strip()]
        return np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError, OSError, MemoryError, RecursionError) as problem:
        raise error(f"{file}: member {name} is no plain array ({problem})") from problem


def _inline(item: dict[str, Any], file: Path, at: str, error: type[MazeDlaError]) -> np.ndarray:
    try:
        dtype = np.dtype(str(item["dtype"]).removeprefix("torch."))
        return np.asarray(item["data"], dtype=dtype).reshape(item["shape"])
    except (KeyError, TypeError, ValueError, OverflowError, MemoryError) as problem:
        raise error(f"{file}: {at} in {MAIN} is no array ({problem})") from problem


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:3]) or "nothing"
    return f"{shown}, ..." if len(names) > 3 else shown
