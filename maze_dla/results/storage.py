"""Results in `.zanj` files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maze_dla.container import read_container
from maze_dla.errors import ResultFileError
from maze_dla.results.attribution import AttributionResult
from maze_dla.results.base import PromptResult
from maze_dla.results.lens import LensResult, TokenLensResult

FORMAT_VERSION = 1
KINDS: dict[str, type[PromptResult]] = {c.__name__: c for c in (AttributionResult, LensResult, TokenLensResult)}
PACKAGES = ("maze_dla", "torch", "transformer-lens", "maze-dataset", "muutils", "zanj", "numpy")


def save_result(result: PromptResult, path: str | Path) -> Path:
    """Write a result with the versions of the packages that made it; the file appears whole or not at all.

    Raises:
        ResultFileError: the name does not end in `.zanj`, or the folder cannot be written.
    """
    from zanj import ZANJ

    file = Path(path)
    if file.suffix != ".zanj":
        raise ResultFileError(f"{file}: a result's file name ends in .zanj")
    content = {
        "kind": type(result).__name__,
        "format_version": FORMAT_VERSION,
        "versions": installed_versions(),
        "fields": {f.name: _plain(getattr(result, f.name)) for f in fields(result)},
    }
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=file.parent, prefix=f".{file.stem}-") as folder:
            written = Path(folder) / file.name
            ZANJ().save(content, str(written))
            written.replace(file)
    except OSError as problem:
        raise ResultFileError(f"{file}: cannot be written ({problem.strerror or problem})") from problem
    return file


def load_result(path: str | Path) -> AttributionResult | LensResult | TokenLensResult:
    """Read a result that `save` wrote.

    Raises:
        ResultFileError: no such file, not a saved result, a result of a later version, a field missing.
    """
    content = read_container(path, ResultFileError)
    kind, saved = content.get("kind"), content.get("fields")
    if kind not in KINDS or not isinstance(saved, dict):
        raise ResultFileError(f"{path}: no saved result, it holds {', '.join(content)}")
    if content.get("format_version") != FORMAT_VERSION:
        raise ResultFileError(f"{path}: format version {content.get('format_version')}, expected {FORMAT_VERSION}")
    names = [f.name for f in fields(KINDS[kind])]
    if missing := [n for n in names if n not in saved]:
        raise ResultFileError(f"{path}: the {kind} lacks {', '.join(missing)}")
    return KINDS[kind](**{n: _restored(n, saved[n]) for n in names})  # type: ignore[return-value]


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
    if isinstance(value, Mapping):
        return {"json": json.dumps(list(value.items()))}
    if isinstance(value, tuple):
        return {"json": json.dumps(value)}
    return value


def _restored(name: str, value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return torch.from_numpy(np.array(value))
    if isinstance(value, dict) and set(value) == {"json"}:
        return _restored_text(name, json.loads(value["json"]))
    return value


def _restored_text(name: str, value: Any) -> Any:
    if name in ("info", "token_names"):
        return dict(value)
    return tuple(tuple(item) if isinstance(item, list) else item for item in value)
