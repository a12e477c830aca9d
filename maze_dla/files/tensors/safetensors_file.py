"""Files of safetensors: a table of names, kinds, shapes and places in JSON, and the numbers one after another.

Source: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import sys
from math import prod
from pathlib import Path
from typing import Any

import torch

from maze_dla.errors import MazeDlaError, shortened, whole_number
from maze_dla.files.boundary import reading, regular_file
from maze_dla.files.json_file import parse_json
from maze_dla.files.limits import size_on_disk
from maze_dla.files.tensors.stored import LARGEST, Span, Storage, StoredTensor, TensorFile

LONGEST_TABLE = 4 * 2**20  # bytes, of some 40,000 tensors
MOST_AXES = 64
KINDS = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2", "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8",
    "U64": "uint64", "U32": "uint32", "U16": "uint16", "BOOL": "bool", "C64": "complex64",
}  # fmt: skip


def read_safetensors_file(path: Path, error: type[MazeDlaError]) -> dict[str, StoredTensor]:
    """The tensors of a file by their names, of which nothing is read yet.

    Raises:
        error: naming the file, and where it can the tensor: no such file, cut off, a table that is damaged, or tensors
            that lie outside the file, upon each other, or apart.
    """
    size = size_on_disk(regular_file(path, error))
    with reading(path, error, "not a safetensors file, or cut off"):
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if not 2 <= length <= min(size - 8, LONGEST_TABLE):
                raise ValueError(f"its table has {length} bytes, the file {size}; expected at most {LONGEST_TABLE}")
            table = parse_json(stream.read(length), path, error, "table")
        file = TensorFile(path)
        file.is_swapped = sys.byteorder != "little"
        return _tensors(table, file, 8 + length, size)


def _tensors(table: Any, file: TensorFile, start: int, size: int) -> dict[str, StoredTensor]:
    if not isinstance(table, dict):
        raise ValueError(f"its table is a {type(table).__name__}, expected an object")
    tensors = {name: _tensor(name, said, file, start) for name, said in table.items() if name != "__metadata__"}
    end = start
    for name, span in sorted(file.spans.items(), key=lambda item: (item[1].offset, item[1].size)):
        if span.offset != end:
            raise ValueError(f"{shortened(name, 100)} begins at byte {span.offset}, what is before it ends at {end}")
        end += span.size
    if end != size:
        raise ValueError(f"its tensors end at byte {end}, the file has {size}")
    return tensors


def _tensor(name: str, said: Any, file: TensorFile, start: int) -> StoredTensor:
    said = said if isinstance(said, dict) else {}
    kind, shape, place = said.get("dtype"), said.get("shape"), said.get("data_offsets")
    if not _are_sizes(shape) or not _are_sizes(place) or len(place) != 2 or not isinstance(kind, str):
        raise ValueError(f"{shortened(name, 100)} is no tensor with dtype, shape and data_offsets")
    dtype = getattr(torch, KINDS.get(kind, ""), None)
    if dtype is None and place[0] <= place[1]:
        file.spans[name] = Span(start + place[0], place[1] - place[0])
        return StoredTensor(None, tuple(shape), None, other=f"{shortened(kind, 40)} in {file.path}")
    count = prod(shape)
    if dtype is None or place[1] - place[0] != count * dtype.itemsize:
        needed = "" if dtype is None else f", expected {min(count * dtype.itemsize, 10**300):.12g}"
        sizes = "x".join(map(str, shape))
        said = f"{shortened(name, 100)} is {shortened(sizes, 100)} of {shortened(kind, 40)}"
        raise ValueError(f"{said} in {place[1] - place[0]} bytes{needed}")
    file.spans[name] = Span(start + place[0], place[1] - place[0])
    strides = tuple(prod(shape[i + 1 :]) for i in range(len(shape)))
    return StoredTensor(dtype, tuple(shape), Storage(file, name, dtype, count), 0, strides)


def _are_sizes(given: Any) -> bool:
    if not isinstance(given, list) or len(given) > MOST_AXES:
        return False
    return all(0 <= (-1 if (n := whole_number(item)) is None else n) <= LARGEST for item in given)
