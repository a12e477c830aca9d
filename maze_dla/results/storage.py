"""Writing results to `.zanj` files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from torch import Tensor

from maze_dla.errors import ResultFileError, check_path
from maze_dla.files import drafted
from maze_dla.files.archive import can_be_read

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
        "format_version": FORMAT_VERSION,
        "versions": installed_versions(),
        **_content(result, file),
    }
    with drafted(file, ResultFileError) as written:
        ZANJ().save(content, str(written))
        if not can_be_read(written):  # numbers that are all alike, compressed as only bombs are
            ZANJ(compress=False).save(content, str(written))
    return file


def installed_versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """The version of each package, by default of those that a result depends on."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _content(result: Any, file: Path) -> dict[str, Any]:
    kept = {f.name: _storable(f.name, getattr(result, f.name), file) for f in fields(result)}
    return {"kind": type(result).__name__, "fields": kept}


def _storable(name: str, value: Any, file: Path) -> Any:
    """Arrays for tensors; text for what nests, since zanj would split it into thousands of items.

    A result within a result is saved as results are.
    """
    if is_dataclass(value):
        return _content(value, file)
    if name == "results":  # of groups
        return {"results": {str(i): _content(result, file) for i, result in enumerate(value)}}
    if isinstance(value, Tensor):
        return value.cpu().numpy()
    if name in ("means", "variances", "errors", "bucket_sums"):
        return {"arrays": {key: array.cpu().numpy() for key, array in value.items()}}
    if name == "info":
        return {"json": json.dumps([[key, _of_info(key, item, file)] for key, item in value.items()])}
    if name == "columns":
        return {"json": json.dumps([[key, *_of_column(held)] for key, held in value.items()])}
    if isinstance(value, Mapping):
        return {"json": json.dumps(list(value.items()))}
    return {"json": json.dumps(value)} if isinstance(value, tuple) else value


def _of_column(held: Tensor | tuple[str, ...]) -> tuple[str, list[Any]]:
    """The kind of a column's values, and the values."""
    if isinstance(held, Tensor):
        return str(held.dtype).removeprefix("torch."), held.tolist()
    return "text", list(held)


def _of_info(key: Any, value: Any, file: Path) -> Any:
    """A value that JSON gives back as it is: Python's numbers for numpy's and torch's, text for dtypes and the like."""
    if not isinstance(key, str):
        raise ResultFileError(f"{file}: info has the key {key!r:.60}, expected text")
    if isinstance(value, Mapping):
        return {name: _of_info(name, item, file) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_of_info(key, item, file) for item in value]
    if hasattr(value, "item") and hasattr(value, "shape"):
        if value.shape:
            shape = tuple(value.shape)
            raise ResultFileError(f"{file}: info {key!r} is an array of shape {shape}, expected text or a number")
        value = value.item()
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
