"""Tensors as they lie in a file: found and checked by their sizes, read when all of them are known to be as said."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from maze_dla.errors import MazeDlaError, shortened
from maze_dla.files.boundary import reading

CHUNK = 4 * 2**20  # bytes that are read at once
SMALL = 64 * 2**20  # bytes; what is smaller may share its numbers as it likes
LARGEST = 2**48  # of all numbers that a tensor's place is given by
MOST_SHARED = 2  # times that tensors may be larger than what they lie in: a head tied to the embedding


@dataclass(frozen=True)
class Span:
    """Where bytes lie in a file, and their CRC-32 where the file tells it."""

    offset: int
    size: int
    checksum: int | None = None


class TensorFile:
    """A file and the spans of its storages by their keys."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.spans: dict[str, Span] = {}
        self.is_swapped = False  # numbers of the other byte order


@dataclass(frozen=True, eq=False)
class Storage:
    """The numbers that one or several tensors have in common; of no kind of its own where it counts bytes."""

    file: TensorFile
    key: str
    dtype: torch.dtype | None
    count: int

    @property
    def size(self) -> int:
        """How many bytes it has."""
        return self.count * (1 if self.dtype is None else self.dtype.itemsize)


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """A tensor in a file; `other` says what it is where it is no plain array, and then nothing else of it is known."""

    dtype: torch.dtype | None
    shape: tuple[int, ...]
    storage: Storage | None
    offset: int = 0
    stride: tuple[int, ...] = ()
    other: str = ""

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)


def read_tensors(tensors: Mapping[str, StoredTensor], error: type[MazeDlaError]) -> dict[str, Tensor]:
    """Tensors from their files; those that lie in one storage share it, as torch.load has it.

    Raises:
        error: naming the file and the tensor: a place outside its storage, a storage of another size than its record,
            more numbers than the storage has, a checksum that differs; nothing is read before the sizes are checked.
    """
    files: dict[TensorFile, dict[str, StoredTensor]] = {}
    for name, tensor in tensors.items():
        _check_place(name, tensor, error)
        if tensor.storage is not None:
            files.setdefault(tensor.storage.file, {})[name] = tensor
    for file, inside in files.items():
        _check_sharing(file, inside, error)
    read: dict[str, Tensor] = {}
    for file, inside in files.items():
        read |= _read_file(file, inside, error)
    return {name: read[name] for name in tensors}


def _check_place(name: str, tensor: StoredTensor, error: type[MazeDlaError]) -> None:
    storage = tensor.storage
    if storage is None or tensor.dtype is None:
        raise error(f"{shortened(name)} is {tensor.other}, expected plain numbers")
    where = f"{storage.file.path}: {shortened(name)}"
    numbers = (*tensor.shape, *tensor.stride, tensor.offset, storage.count)
    if min(numbers) < 0 or max(numbers) > LARGEST:
        raise error(f"{where} has a size, step or offset below 0 or above {LARGEST}")
    span = storage.file.spans.get(storage.key)
    if span is None or span.size != storage.size:
        there = "is missing" if span is None else f"has {span.size}"
        raise error(f"{where}: its record {shortened(storage.key, 60)} of {storage.size} bytes {there}")
    shape, count = "x".join(map(str, tensor.shape)), prod(tensor.shape)
    room = storage.size // tensor.dtype.itemsize
    last = tensor.offset + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride, strict=True))
    if count and (last >= room or count > room):
        why = f"reaches to number {last + 1}" if last >= room else "says the same numbers several times"
        raise error(
            f"{where} is {shortened(shape)}, {min(count, 10**300):.12g} numbers, and {why} of a record that has {room}"
        )


def _check_sharing(file: TensorFile, tensors: Mapping[str, StoredTensor], error: type[MazeDlaError]) -> None:
    """Refuse a small file whose tensors are large because all are the same numbers."""
    said = sum(prod(t.shape) * t.dtype.itemsize for t in tensors.values() if t.dtype is not None)
    there = sum({t.storage.key: t.storage.size for t in tensors.values() if t.storage is not None}.values())
    if said > max(SMALL, MOST_SHARED * there):
        raise error(
            f"{file.path}: its {len(tensors)} tensors have {said} bytes and lie in {there}: they share their numbers, "
            f"expected at most {MOST_SHARED} times as many bytes as there are"
        )


def _read_file(file: TensorFile, tensors: Mapping[str, StoredTensor], error: type[MazeDlaError]) -> dict[str, Tensor]:
    read, storages = {}, {}
    with reading(file.path, error), file.path.open("rb") as stream:
        for name, tensor in tensors.items():
            key, dtype = (tensor.storage.key, tensor.dtype) if tensor.storage else ("", None)
            if key not in storages:
                storages[key] = _read_span(stream, file, key, error)
            numbers = _as_numbers(storages[key], dtype, file.is_swapped)
            read[name] = numbers.as_strided(tensor.shape, tensor.stride, tensor.offset)
    return read


def _read_span(stream: BinaryIO, file: TensorFile, key: str, error: type[MazeDlaError]) -> bytearray:
    span = file.spans[key]
    content, at, found = bytearray(span.size), 0, 0
    view = memoryview(content)
    stream.seek(span.offset)
    while at < span.size:
        n = stream.readinto(view[at : at + CHUNK])  # pyright: ignore[reportAttributeAccessIssue] (of open's streams)
        if not n:
            raise error(f"{file.path}: cut off in the record {shortened(key, 60)}")
        found, at = zlib.crc32(view[at : at + n], found), at + n
    if span.checksum is not None and found != span.checksum:
        raise error(f"{file.path}: the record {shortened(key, 60)} is damaged (its checksum differs)")
    return content


def _as_numbers(content: bytearray, dtype: Any, is_swapped: bool) -> Tensor:
    whole = len(content) - len(content) % dtype.itemsize
    if not whole:
        return torch.empty(0, dtype=dtype)
    numbers = torch.frombuffer(content, dtype=torch.uint8, count=whole)
    if is_swapped and dtype.itemsize > 1:
        numbers = numbers.view(-1, dtype.itemsize).flip(1).reshape(-1)
    return numbers.view(dtype)


def swapped(order: str) -> bool:
    """Whether this machine has the other byte order."""
    return order != sys.byteorder
