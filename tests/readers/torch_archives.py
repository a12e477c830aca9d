"""Archives of torch.save made by hand: any pickle, any records, right checksums."""

from __future__ import annotations

import io
import pickletools
import zipfile
from random import Random
from typing import Any

import torch

from .mutations import members_of, of_bytes, zip_of

STORAGE = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu"
V2 = b"ctorch._utils\n_rebuild_tensor_v2\n"
INSERTED = (  # operations, harmless and not
    *(b"(", b")", b"]", b"}", b"N", b"\x88", b"0", b"1", b"2", b"t", b"\x85", b"\x86", b"\x87", b"a", b"e", b"s"),
    *(b"u", b"R", b"b", b"Q", b"\x81", b"h\x00", b"h\x07", b"q\x00", b"K\x01", b"M\xff\xff", b"J\xff\xff\xff\xff"),
    *(b"\x8a\x08" + b"\x7f" * 8, b"\x8a\xff" + b"\x7f" * 255, b"G" + b"\x7f\xf0" + bytes(6), b"X\x02\x00\x00\x00ab"),
    *(
        b"X\xff\xff\xff\x7f",
        b"cos\nsystem\n",
        b"ccollections\nOrderedDict\n",
        b"ctorch\nSize\n",
        b"I1\n",
        b"L9L\n",
        b"V\n",
    ),
    *(
        b"\x93",
        b"\x94",
        b"\x92",
        b"o",
        b"i",
        b"P0\n",
        b"\x8b\xff\xff\xff\x7f",
        b"\x8f",
        b"\x90",
        b"\x91",
        b"\x96",
        b".",
    ),
)


def archive(pickle: bytes, **records: bytes) -> bytes:
    """An archive with this pickle, and storages by their keys: `_0` is number 0."""
    members = {"a/data.pkl": pickle, "a/byteorder": b"little", "a/version": b"3\n"}
    members |= {f"a/data/{key.removeprefix('_')}": content for key, content in records.items()}
    return zip_of(members, zipfile.ZIP_STORED)


def number(n: int) -> bytes:
    """A whole number in a pickle."""
    content = n.to_bytes((n.bit_length() + 8) // 8, "little", signed=True)
    return b"\x8a" + bytes([len(content)]) + content


def numbers(*given: int) -> bytes:
    """A tuple of whole numbers in a pickle."""
    return b"(" + b"".join(map(number, given)) + b"t"


def tensor(count: int, shape: tuple[int, ...], stride: tuple[int, ...], offset: int = 0) -> bytes:
    """A tensor of the storage 0 in a pickle, whatever its sizes."""
    place = number(offset) + numbers(*shape) + numbers(*stride) + b"\x89N"
    return V2 + b"(" + STORAGE + number(count) + b"tQ" + place + b"tR"


def state_pickle(*tensors: bytes) -> bytes:
    """A state dict of tensors w0, w1, ... in a pickle."""
    items = b"".join(b"X" + len(n := f"w{i}".encode()).to_bytes(4, "little") + n + t for i, t in enumerate(tensors))
    return b"\x80\x02}(" + items + b"u."


def saved(content: Any, **options: Any) -> bytes:
    """What torch.save writes."""
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def of_pickle(pickle: bytes, random: Random) -> bytes:
    """A pickle with operations left out, repeated, exchanged or put in; or with bytes damaged."""
    if random.random() < 0.3:
        return of_bytes(pickle, random).content
    starts = [at for _, _, at in pickletools.genops(pickle) if at is not None]
    pieces = [pickle[a:b] for a, b in zip(starts, [*starts[1:], len(pickle)], strict=True)]
    for _ in range(random.choice((1, 1, 2, 5))):
        i, j = random.randrange(len(pieces)), random.randrange(len(pieces))
        way = random.choice(("left out", "repeated", "exchanged", "put in", "replaced"))
        if way == "left out":
            pieces.pop(i)
        elif way == "repeated":
            pieces.insert(i, pieces[i])
        elif way == "exchanged":
            pieces[i], pieces[j] = pieces[j], pieces[i]
        else:
            pieces[i : i + (way == "replaced")] = [random.choice(INSERTED)]
    return b"".join(pieces)


def of_archive(content: bytes, random: Random) -> bytes:
    """An archive whose pickle is damaged by its operations, with the right checksum."""
    members = members_of(content)
    name = next(n for n in members if n.endswith("/data.pkl"))
    return zip_of({**members, name: of_pickle(members[name], random)}, zipfile.ZIP_STORED)
