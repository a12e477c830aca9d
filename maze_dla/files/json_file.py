"""JSON from files that may be damaged: size, depth and number of containers are checked before it is parsed."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from maze_dla.errors import MazeDlaError, shortened
from maze_dla.files.boundary import read_bytes, reading
from maze_dla.files.limits import JSON_CONTAINERS, JSON_CONTAINERS_FLOOR, JSON_DEPTH

STRING = re.compile(rb'"[^"]*"')
NO_STRUCTURE = bytes(sorted({*range(256)} - {*b'"[]{}'}))


def read_object(path: str | Path, error: type[MazeDlaError], *, finite: bool = False) -> dict[str, Any]:
    """The object that a JSON file holds.

    Raises:
        error: no such file, too large, not JSON, as `parse_json` says, or no object.
    """
    content = parse_json(read_bytes(path, error, "a JSON file"), path, error, finite=finite)
    if not isinstance(content, dict):
        raise error(f"{path}: holds a {type(content).__name__}, expected an object")
    return content


def parse_json(
    content: bytes | bytearray | str,
    file: str | Path,
    error: type[MazeDlaError],
    member: str = "",
    *,
    finite: bool = False,
    on_disk: int = 0,
    made: Callable[[dict[str, Any]], Any] = dict,
) -> Any:
    """What a JSON text says.

    Args:
        content: the text; bytes are UTF-8.
        file: where it is from.
        error: the class to raise.
        member: the part of the file that it is, for the message.
        finite: refuse NaN and Infinity, which JSON does not know and Python writes.
        on_disk: the size of the file, with which the number of containers may grow.
        made: what becomes of an object.

    Raises:
        error: naming file and member: no JSON, not UTF-8, a key twice, an integer of thousands of digits, lists and
            objects that are too many or too deep inside each other.
    """
    (item,) = parse_json_lines([content], file, error, member, finite=finite, on_disk=on_disk, made=made)
    return item


def parse_json_lines(
    lines: Sequence[bytes | bytearray | str],
    file: str | Path,
    error: type[MazeDlaError],
    member: str = "",
    *,
    finite: bool = False,
    on_disk: int = 0,
    made: Callable[[dict[str, Any]], Any] = dict,
) -> list[Any]:
    """What each of several JSON texts says, as `parse_json`; together they have its limits."""

    def once_each(pairs: list[tuple[str, Any]]) -> Any:
        item = dict(pairs)
        if len(item) < len(pairs):
            key = Counter(key for key, _ in pairs).most_common(1)[0][0]
            raise ValueError(f"key {shortened(repr(key), 80)} is there twice")
        return made(item)

    decoder = json.JSONDecoder(object_pairs_hook=once_each, parse_constant=_refused if finite else None)
    with reading(file, error, f"member {member} is not valid JSON" if member else "cannot be read as JSON"):
        texts = [line if isinstance(line, str) else line.decode("utf-8-sig") for line in lines]
        _check_structure(lines, max(JSON_CONTAINERS_FLOOR, JSON_CONTAINERS * on_disk))
        return [decoder.decode(text) for text in texts]


def _check_structure(lines: Sequence[bytes | bytearray | str], most: int) -> None:
    total = 0
    for line in lines:
        brackets = _brackets(line.encode(errors="surrogatepass") if isinstance(line, str) else line)
        total += brackets.count(b"[") + brackets.count(b"{")
        if total > most:
            raise ValueError(f"it has {total} lists and objects, at most {most} are read")
        opens = (np.frombuffer(brackets, np.uint8) & 2).astype(np.int8) - 1  # 1 for [ and {, -1 for ] and }
        if (deepest := int(opens.cumsum(dtype=np.int32).max(initial=0))) > JSON_DEPTH:
            raise ValueError(f"lists and objects {deepest} deep inside each other, at most {JSON_DEPTH} are read")


def _brackets(text: bytes | bytearray) -> bytes:
    r"""The brackets outside strings, in their order: `{"a[\"": [1]}` as `{[]}`."""
    without_escapes = text.replace(rb"\\", b"").replace(rb"\"", b"")
    return STRING.sub(b"", without_escapes.translate(None, NO_STRUCTURE)).replace(b'"', b"")


def _refused(constant: str) -> Any:
    raise ValueError(f"{constant} is no number of JSON")
