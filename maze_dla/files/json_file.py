"""JSON from files that may be damaged: size, depth and number of containers are checked before it is parsed."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
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
    """The content of a JSON text.

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
    with reading(file, error, _seen(member)):
        return _decoder(finite, made).decode(_checked(content, on_disk))


def parse_json_lines(
    content: bytes | bytearray,
    file: str | Path,
    error: type[MazeDlaError],
    member: str = "",
    *,
    on_disk: int = 0,
    made: Callable[[dict[str, Any]], Any] = dict,
) -> list[Any]:
    """The content of each line of a text, as `parse_json`; its limits are for all lines together."""
    with reading(file, error, _seen(member)):
        text, decode = _checked(content, on_disk), _decoder(False, made).decode
        if (lines := text.count("\n")) > (most := _most_containers(on_disk)):
            raise ValueError(f"it has {lines} lines, at most {most} are read")
        return [decode(line) for line in text.split("\n") if line.strip()]


def _seen(member: str) -> str:
    return f"member {member} is not valid JSON" if member else "cannot be read as JSON"


def _decoder(finite: bool, made: Callable[[dict[str, Any]], Any]) -> json.JSONDecoder:
    def once_each(pairs: list[tuple[str, Any]]) -> Any:
        item = dict(pairs)
        if len(item) < len(pairs):
            key = Counter(key for key, _ in pairs).most_common(1)[0][0]
            raise ValueError(f"key {shortened(repr(key), 80)} is there twice")
        return made(item)

    return json.JSONDecoder(object_pairs_hook=once_each, parse_constant=_refused if finite else None)


def _refused(constant: str) -> Any:
    raise ValueError(f"{constant} is no number of JSON")


def _most_containers(on_disk: int) -> int:
    return max(JSON_CONTAINERS_FLOOR, JSON_CONTAINERS * on_disk)


def _checked(content: bytes | bytearray | str, on_disk: int) -> str:
    """The text, whose lists and objects are not too many and not too deep inside each other.

    Raises:
        ValueError: they are, or the bytes are not UTF-8.
    """
    brackets = _brackets(content.encode(errors="surrogatepass") if isinstance(content, str) else content)
    total = brackets.count(b"[") + brackets.count(b"{")
    if total > (most := _most_containers(on_disk)):
        raise ValueError(f"it has {total} lists and objects, at most {most} are read")
    opens = (np.frombuffer(brackets, np.uint8) & 2).astype(np.int8) - 1  # 1 for [ and {, -1 for ] and }
    if (deepest := int(opens.cumsum(dtype=np.int32).max(initial=0))) > JSON_DEPTH:
        raise ValueError(f"lists and objects {deepest} deep inside each other, at most {JSON_DEPTH} are read")
    return content if isinstance(content, str) else content.decode("utf-8-sig")


def _brackets(text: bytes | bytearray) -> bytes:
    r"""The brackets outside strings, in their order: `{"a[\"": [1]}` as `{[]}`."""
    without_escapes = text.replace(rb"\\", b"").replace(rb"\"", b"")
    return STRING.sub(b"", without_escapes.translate(None, NO_STRUCTURE)).replace(b'"', b"")
