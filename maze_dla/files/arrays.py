"""Arrays of plain numbers, from `.npy` content and from JSON; never a pickle, nothing evaluated.

numpy's own reader of the head of an array evaluates it as Python, and fails in a dozen ways where it is damaged.
"""

from __future__ import annotations

import re
from math import prod
from typing import Any

import numpy as np

from maze_dla.errors import shortened
from maze_dla.files.limits import AXES, EMPTY_AXIS, NPY_HEADER

MAGIC = b"\x93NUMPY"
LENGTH_BYTES = {b"\x01\x00": 2, b"\x02\x00": 4, b"\x03\x00": 4}  # how many say how long the header is, by version
HEADER = re.compile(
    r"\{'descr': '(?P<dtype>[^']*)', 'fortran_order': (?P<fortran>True|False), "
    r"'shape': \((?P<shape>[0-9, ]*)\), \}\s*"
)
NUMBERS = re.compile(r"[<>=|]?(?:b1|[iu][1248]|f(?:2|4|8|16))|bool|u?int(?:8|16|32|64)|float(?:16|32|64)")

WRITTEN_AS = {"b": {bool}, "i": {int}, "u": {int}, "f": {int, float}}  # in JSON


def npy_array(content: bytearray) -> np.ndarray:
    """The array of the content of a `.npy` file, in the very memory of the content where its alignment allows that.

    Raises:
        ValueError: no plain numbers, or another number of them than its shape says.
    """
    if content[:1] == b"\x80":
        raise ValueError("a pickle, of which nothing was run")
    width = LENGTH_BYTES.get(bytes(content[6:8]))
    if content[:6] != MAGIC or width is None:
        raise ValueError(f"it starts with {bytes(content[:8])!r}, expected the head of a .npy file")
    length = int.from_bytes(content[8 : 8 + width], "little")
    if length > NPY_HEADER:
        raise ValueError(f"its header has {length} bytes, at most {NPY_HEADER} are read")
    start = 8 + width + length
    header = content[8 + width : start].decode("latin-1")
    if (found := HEADER.fullmatch(header)) is None:
        raise ValueError(f"its header is {shortened(repr(header))}, expected dtype, order and shape")
    dtype = number_type(found["dtype"])
    shape = checked_shape([int(n) for n in found["shape"].split(",") if n.strip()])
    count = prod(shape)
    if count * dtype.itemsize != len(content) - start:
        raise ValueError(
            f"{shortened(shape)} of {dtype} takes {count * dtype.itemsize} bytes, it holds {len(content) - start}"
        )
    values = np.frombuffer(content, dtype, count, start) if count else np.zeros(0, dtype)
    order = "F" if found["fortran"] == "True" else "C"
    return np.require(values, requirements=["A"]).reshape(shape, order=order)


def array_of(item: dict[str, Any]) -> np.ndarray:
    """The array that JSON holds as its data, shape and dtype.

    Raises:
        KeyError: one of them is missing.
        TypeError, ValueError, OverflowError: they are no array of plain numbers.
    """
    dtype = number_type(str(item["dtype"]).removeprefix("torch."))
    shape = checked_shape(item["shape"])
    values = np.array(item["data"], dtype=object)  # so that no text is made as wide as the longest
    if odd := {*map(type, values.flat)} - WRITTEN_AS[dtype.kind]:
        raise ValueError(f"its data are no numbers of {dtype}, but {', '.join(sorted(t.__name__ for t in odd))}")
    return values.astype(dtype).reshape(shape)


def number_type(name: str) -> np.dtype:
    """The dtype of this name, of true and false, or of whole or floating numbers.

    Raises:
        ValueError: any other, among them objects, which are pickles, texts and records.
    """
    if NUMBERS.fullmatch(name) is None:
        pickled = ", a pickle, of which nothing was run" if name.endswith("O") else ""
        raise ValueError(f"its dtype is {shortened(repr(name), 80)}{pickled}; expected plain numbers")
    return np.dtype(name)


def checked_shape(given: Any) -> tuple[int, ...]:
    """A shape.

    Raises:
        ValueError: no list of sizes, too many of them, or sizes of nothing that go beyond any use.
    """
    whole = isinstance(given, list | tuple) and all(type(n) is int and n >= 0 for n in given)
    if not whole or len(given) > AXES:
        raise ValueError(f"its shape is {shortened(given)}, expected at most {AXES} sizes")
    if 0 in given and max(given) > EMPTY_AXIS:
        raise ValueError(f"its shape is {shortened(given)} without any values, at most {EMPTY_AXIS} rows are read")
    return tuple(given)
