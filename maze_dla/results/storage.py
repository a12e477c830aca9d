"""Writing results to `.zanj` files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from torch import Tensor

from maze_dla.errors import ResultFileError, check_path
from maze_dla.files import drafted

FORMAT_VERSION = 1
PACKAGES = ("maze_dla", "torch", "transformer-lens", "transformers", "maze-dataset", "muutils", "zanj", "numpy")


def save_result(result: Any, path: str | Path) -> Path:
    """Write a result with the versions of the packages that made it; the file appears whole or not at all.

    Raises:
        InputError: no path.
        ResultFileError: the name does not end in `.zanj`, or the folder cannot be written.
    """
    from zanj import ZANJ

    check_path(path, "a result's file")
    file = Path(path)
    if file.suffix != ".zanj":
        raise ResultFileError(f"{file}: a result's file name ends in .zanj")
    content = {
        "kind": type(result).__name__,
        "format_version": FORMAT_VERSION,
        "versions": installed_versions(),
        "fields": {f.name: _plain(getattr(result, f.name)) for f in fields(result)},
    }
    with drafted(file, ResultFileError) as written:
        ZANJ().save(content, str(written))
    return file


def installed_versions() -> dict[str, str]:
    """The versions of the packages that a result depends on."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _plain(value: Any) -> Any:
    """Arrays for tensors; text for what nests, since zanj would split it into thousands of items."""
    if isinstance(value, Tensor):
        return value.cpu().numpy()
    if isinstance(value, Mapping) and any(isinstance(v, Tensor) for v in value.values()):
        return {"arrays": {name: array.cpu().numpy() for name, array in value.items()}}
    if isinstance(value, Mapping):
        return {"json": json.dumps(list(value.items()), default=_number)}
    if isinstance(value, tuple):
        return {"json": json.dumps(value, default=_number)}
    return value


def _number(value: Any) -> Any:
    """A plain number for one of numpy or torch; other things as text."""
    return value.item() if hasattr(value, "item") else str(value)
