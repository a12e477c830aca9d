"""Damage to files, drawn from a seeded generator: to any bytes, and to JSON, `.npy` arrays and zips by their structure.

Each function takes what is to be damaged and a `random.Random`, and gives one `Damage`:

    for seed in range(60):
        damage = of_zip(content, Random(seed))
        file.write_bytes(damage.content)

Members of a zip are written anew with the right checksums, so that the damage reaches who reads the member.
Damage that leaves a valid file with other values in it is told apart by `is_value`: any content may come of it.
"""

from __future__ import annotations

import copy
import io
import json
import warnings
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np

LONG, HUGE = "x" * 5000, 10**4000
DEEP: Any = "[deep]"  # stands for lists that are nested too deep to be written by json itself
TOO_LONG = "[long]"  # and for an integer of 5,000 digits
IN_TEXT = {
    f'"{DEEP}"': "[" * 5000 + "]" * 5000,
    f'"{TOO_LONG}"': "9" * 5000,
}
ODD_VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    -5,
    1,
    7,
    10**9,
    2**63,
    2**64 + 1,
    HUGE,
    0.5,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "0",
    "load",
    "Tensor",
    LONG,
    "nul\0 and \n and \ud800",
    [],
    [[]],
    [1, [2]],
    [1, "x"],
    {},
    {"": 0},
    {"arrays": []},
    {"arrays": {"a": 3}},
    {"json": "[1"},
    {"json": 3},
    {"json": "{}"},
    {"json": "[[1, 2, 3]]"},
    {"kind": "LensResult", "fields": {}},
    {"kind": [], "fields": 3},
    {"results": {}},
    {"$ref": "x", "__muutils_format__": "torch.Tensor:external"},
    {"__muutils_format__": "numpy.ndarray:array_list_meta", "shape": [10**9], "dtype": "float32", "data": [1.0]},
    {"__muutils_format__": "numpy.ndarray:array_list_meta", "shape": [2, 2], "dtype": "O", "data": [[1, 2], [3]]},
    DEEP,
    TOO_LONG,
)
ODD_NAMES = ("", "..", "../x.npy", "/etc/x.npy", "a\\b", "x" * 300, "x" * 5000, "folder/", "\u202enpy", "a\nb", "con:")
ODD_DTYPES = ("|O", "O", "<U5", "|S9", "<M8[s]", "|V8", "<f3", "<i16", "<f16", ">f4", "<c8", "|b1", "<f8", "x", "load")
ODD_SHAPES = (
    "()",
    "(0,)",
    "(-1,)",
    "(1000000000000,)",
    "(3, 0, 1000000000)",
    "(2.5,)",
    "(1e9,)",
    "(True,)",
    "(5,) * 9",
)


@dataclass(frozen=True)
class Damage:
    """A damaged file, or part of one."""

    content: bytes
    what: str  # was done
    is_value: bool = False  # a valid file may have come of it, with other values


def of_bytes(content: bytes, random: Random) -> Damage:
    """Bits flipped, the end cut off, and pieces left out, repeated, moved, zeroed or replaced by noise."""
    way = random.choice(("flip", "flips", "cut", "left out", "repeated", "moved", "zeroed", "noise"))
    start = random.randrange(len(content) + 1)
    end = min(len(content), start + random.choice((1, 2, 8, 64, 512, 4096)))
    before, piece, after = content[:start], content[start:end], content[end:]
    if way in ("flip", "flips"):
        changed = bytearray(content)
        for _ in range(1 if way == "flip" else random.randrange(2, 30)):
            if changed:
                changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
        return Damage(bytes(changed), way)
    return Damage(
        {
            "cut": before,
            "left out": before + after,
            "repeated": before + piece + piece + after,
            "moved": after + piece + before,
            "zeroed": before + bytes(len(piece)) + after,
            "noise": before + random.randbytes(len(piece)) + after,
        }[way],
        f"{way} at {start}",
    )


def of_json(content: bytes, random: Random) -> Damage:
    """One value, key or item of a JSON text replaced, left out, repeated or renamed; also values within it."""
    item = json.loads(content)
    box = [item]
    holder, key = _any_place(box, random)
    old = holder[key]
    if isinstance(old, str) and old[:1] in ("[", "{") and random.random() < 0.7:  # a JSON text within
        inner = of_json(old.encode(errors="surrogatepass"), random)
        holder[key] = inner.content.decode(errors="surrogatepass")
        return Damage(_written(box[0]), f"within the text at {key}: {inner.what}", inner.is_value)
    way = random.choice(("replaced", "replaced", "replaced", "left out", "repeated", "renamed"))
    if way == "replaced" or holder is box:
        new = copy.deepcopy(random.choice(ODD_VALUES))
        holder[key] = new
        plain = not isinstance(old, list | dict) and not isinstance(new, list | dict) and new is not DEEP
        return Damage(_written(box[0]), f"{key!r:.40} replaced by {new!r:.60}", is_value=plain)
    if way == "left out":  # as optional parts are
        del holder[key]
    elif isinstance(holder, list):
        holder.insert(key, copy.deepcopy(old))
    else:
        name = random.choice((*ODD_NAMES, f"{key}_", *holder)) if way == "renamed" else f"{key} again"
        holder[name] = holder.pop(key) if way == "renamed" else old
    return Damage(_written(box[0]), f"{key!r:.40} {way}", is_value=True)


def of_npy(content: bytes, random: Random) -> Damage:
    """The head of an array damaged: dtype, order, shape, version, length, any byte of it; or its numbers cut off."""
    start = 10 + int.from_bytes(content[8:10], "little")
    head, numbers = content[10:start].decode("latin-1"), content[start:]
    array = np.load(io.BytesIO(content))
    way = random.choice(("dtype", "shape", "order", "bytes", "bytes", "bytes", "head", "cut", "more", "version"))
    if way == "dtype":
        head = head.replace(array.dtype.str, random.choice(ODD_DTYPES))
    elif way == "shape":
        transposed = str(array.shape[::-1])
        head = head.replace(str(array.shape), random.choice((*ODD_SHAPES, transposed)))
    elif way == "order":
        head = head.replace("False", random.choice(("True", "None", "2", "[[[")))
    elif way == "head":
        head = random.choice(("", "{", "(" * 3000, "9" * 4000, "{'a': 1}", head * 2, head + "\0", "__import__('os')\n"))
    changed = content[:8] + len(head).to_bytes(2, "little") + head.encode("latin-1") + numbers
    if way == "bytes":
        changed = of_bytes(content[: start + 4], random).content + numbers[4:]
    elif way == "cut":
        changed = content[: random.randrange(len(content))]
    elif way == "more":
        changed = content + bytes(random.choice((1, 4, 1000)))
    elif way == "version":
        changed = content[:6] + random.randbytes(2) + content[8:]
    return Damage(changed, f"array's {way}", is_value=_is_array(changed))


Part = Callable[[bytes, Random], Damage]
PARTS: dict[str, Part] = {".json": of_json, ".npy": of_npy, ".jsonl": of_bytes}


def of_zip(content: bytes, random: Random, parts: Mapping[str, Part] = PARTS, skip: Iterable[str] = ()) -> Damage:
    """One member damaged as its kind is, or left out, emptied, repeated, renamed or swapped for another; checksums fit.

    Args:
        content: the zip.
        random: what draws.
        parts: how members are damaged, by the end of their names.
        skip: members that nobody reads, which are left alone.
    """
    members = members_of(content)
    name = random.choice([n for n in members if n not in {*skip}])
    way = random.choice(("part",) * 8 + ("bytes", "left out", "emptied", "repeated", "renamed", "swapped"))
    part = next((part for end, part in parts.items() if name.endswith(end)), of_bytes)
    if way in ("part", "bytes"):
        damage = (part if way == "part" else of_bytes)(members[name], random)
        valid = damage.is_value or way == "bytes" or part is of_bytes  # noise may fall on numbers and texts
        return Damage(zip_of({**members, name: damage.content}), f"{name}: {damage.what}", valid)
    pairs = list(members.items())
    at = [n for n, _ in pairs].index(name)
    if way == "left out":
        pairs.pop(at)
    elif way == "repeated":
        pairs.append(pairs[at])
    elif way == "swapped":
        other = random.randrange(len(pairs))
        pairs[at], pairs[other] = (name, pairs[other][1]), (pairs[other][0], pairs[at][1])
    else:
        pairs[at] = (name, b"") if way == "emptied" else (random.choice((*ODD_NAMES, *members)), pairs[at][1])
    return Damage(zip_of(pairs), f"{name} {way}", is_value=way == "swapped")


def members_of(content: bytes) -> dict[str, bytes]:
    """What the members of a zip hold."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zip_of(members: Mapping[str, bytes] | list[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip of these members; a list may hold a name twice."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method, compresslevel=1) as archive:
        for name, content in members.items() if isinstance(members, Mapping) else members:
            info = zipfile.ZipInfo("x")
            info.filename, info.compress_type = name, method  # without the checks that its own maker has
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about a name that is there twice
                archive.writestr(info, content)
    return buffer.getvalue()


def _any_place(box: list[Any], random: Random) -> tuple[Any, Any]:
    """A holder and the key of one of its values, the higher ones more often than their number would have it."""
    holder: Any = box
    key: Any = 0
    while isinstance(holder[key], list | dict) and holder[key] and random.random() < 0.85:
        holder = holder[key]
        key = random.choice(list(holder)) if isinstance(holder, dict) else random.randrange(len(holder))
    return holder, key


def _written(item: Any) -> bytes:
    text = json.dumps(item)
    for stand_in, meant in IN_TEXT.items():
        text = text.replace(stand_in, meant)
    return text.encode(errors="surrogatepass")


def _is_array(content: bytes) -> bool:
    """Whether numpy reads plain numbers from it, as a valid array with perhaps other values."""
    try:
        return np.load(io.BytesIO(content)).dtype.kind in "biufc"
    except BaseException:  # numpy raises whatever the damage leads to
        return False
