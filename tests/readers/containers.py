"""Readers of containers and saved results, for the worker: all that a file holds as one text."""

from __future__ import annotations

import hashlib
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from maze_dla.errors import CheckpointError
from maze_dla.files.zanj_file import read_container
from maze_dla.results.loading import load_result


def container(path: Path) -> str:
    return digest(read_container(path, CheckpointError))


def results(path: Path) -> str:
    return digest(load_result(path))


def digest(item: Any) -> str:
    """A hash of an item with all that is in it, kinds included."""
    found = hashlib.blake2b(digest_size=8)
    _add(item, found)
    return found.hexdigest()


def _add(item: Any, found: Any) -> None:
    found.update(type(item).__name__.encode())
    if isinstance(item, Tensor):
        item = item.numpy()
    if isinstance(item, np.ndarray):
        found.update(f"{item.dtype}{item.shape}".encode())
        found.update(np.ascontiguousarray(item).reshape(-1).view(np.uint8))
    elif is_dataclass(item):
        for f in fields(item):
            found.update(f.name.encode())
            _add(getattr(item, f.name), found)
    elif isinstance(item, dict):
        for key, value in item.items():
            _add(key, found)
            _add(value, found)
    elif isinstance(item, list | tuple):
        found.update(str(len(item)).encode())
        for value in item:
            _add(value, found)
    else:
        found.update(repr(item).encode(errors="surrogatepass"))
