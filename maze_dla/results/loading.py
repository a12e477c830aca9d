"""Reading results from `.zanj` files."""

from __future__ import annotations

from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

from maze_dla.errors import ResultFileError, check_path, shortened
from maze_dla.files.boundary import reading
from maze_dla.files.json_file import parse_json
from maze_dla.files.limits import size_on_disk
from maze_dla.files.zanj_file import MAIN, read_container
from maze_dla.results.activations import ActivationResult
from maze_dla.results.attention import AttentionResult
from maze_dla.results.attribution import AttributionResult, ContributionResult
from maze_dla.results.checking import check_result
from maze_dla.results.circuits import CircuitResult
from maze_dla.results.contrast import ContrastResult
from maze_dla.results.distances import DistanceResult
from maze_dla.results.effects import EffectResult
from maze_dla.results.groups import GroupedResult
from maze_dla.results.head_scores import HeadScores
from maze_dla.results.lens import LensResult, TokenLensResult
from maze_dla.results.outliers import MlpOutliersResult
from maze_dla.results.patching import PatchResult
from maze_dla.results.rollout import RolloutResult
from maze_dla.results.separability import SeparabilityResult
from maze_dla.results.steering import SteerResult
from maze_dla.results.storage import FORMAT_VERSION
from maze_dla.results.streamed import StreamedResult
from maze_dla.results.torch_defaults import torch_defaults

Loaded = (
    AttributionResult
    | ContributionResult
    | ContrastResult
    | GroupedResult
    | LensResult
    | TokenLensResult
    | StreamedResult
    | PatchResult
    | EffectResult
    | CircuitResult
    | SteerResult
    | MlpOutliersResult
    | AttentionResult
    | HeadScores
    | DistanceResult
    | RolloutResult
    | ActivationResult
    | SeparabilityResult
)
KINDS: dict[str, type[Loaded]] = {c.__name__: c for c in get_args(Loaded)}


@torch_defaults()
def load_result(path: str | Path) -> Loaded:
    """Read a result that `save` wrote.

    Raises:
        InputError: no path.
        ResultFileError: no such file, not a saved result, a result of a later version, a field missing or damaged:
            shapes that do not fit each other, numbers that are none, sums that do not hold.
    """
    check_path(path, "a result's file")
    content = read_container(path, ResultFileError)
    kind, saved = content.get("kind"), content.get("fields")
    if not isinstance(kind, str) or kind not in KINDS or not isinstance(saved, dict):
        raise ResultFileError(f"{path}: no saved result, it holds {shortened(', '.join(content))}")
    if content.get("format_version") != FORMAT_VERSION:
        seen = shortened(content.get("format_version"), 80)
        raise ResultFileError(f"{path}: format version {seen}, expected {FORMAT_VERSION}")
    with reading(path, ResultFileError, f"a field of the {kind} is damaged"):
        result = _made(kind, saved, Path(path))
        check_result(result)
        return result


def _made(kind: str, saved: dict[str, Any], path: Path) -> Loaded:
    """A result of its saved fields, which may be results themselves.

    Raises:
        ResultFileError: fields are missing.
    """
    names = [f.name for f in fields(KINDS[kind]) if f.name in saved or f.default is f.default_factory is MISSING]
    if missing := [n for n in names if n not in saved]:
        raise ResultFileError(f"{path}: the {kind} lacks {', '.join(missing)}")
    inner = {n: value for n, value in saved.items() if isinstance(value, dict) and set(value) == {"kind", "fields"}}
    results: dict[str, Any] = {n: _made(value["kind"], value["fields"], path) for n, value in inner.items()}
    if isinstance(groups := saved.get("results"), dict) and set(groups) == {"results"}:
        of_groups = [groups["results"][str(i)] for i in range(len(groups["results"]))]
        results["results"] = tuple(_made(one["kind"], one["fields"], path) for one in of_groups)
    return KINDS[kind](**{n: results[n] if n in results else _restored(n, saved[n], path) for n in names})


def _restored(name: str, value: Any, path: Path) -> Any:
    if isinstance(value, np.ndarray):
        return torch.from_numpy(np.require(value, value.dtype.newbyteorder("="), ["C", "W"]))
    if isinstance(value, dict) and set(value) == {"arrays"}:
        return {key: _restored(key, array, path) for key, array in value["arrays"].items()}
    if isinstance(value, dict) and set(value) == {"json"}:
        text = value["json"]
        if not isinstance(text, str):
            raise ValueError(f"{name}: JSON is a text, got {type(text).__name__}")
        parsed = parse_json(text, path, ResultFileError, f"{name} in {MAIN}", on_disk=size_on_disk(path))
        return _restored_text(name, parsed)
    return value


def _restored_column(kind: str, held: list[Any]) -> Any:
    if kind == "text":
        if not all(isinstance(text, str) for text in held):
            raise ValueError("columns: one of text holds something else")
        return tuple(held)
    if not isinstance(dtype := getattr(torch, kind, None), torch.dtype):
        raise ValueError(f"columns: the kind {shortened(repr(kind), 80)}, expected text or a dtype")
    return torch.tensor(held, dtype=dtype)


def _restored_text(name: str, value: Any) -> Any:
    if not isinstance(value, list):
        raise ValueError(f"{name}: a {type(value).__name__}, expected a list")
    if name in ("info", "token_names"):
        return dict(value)
    if name == "columns":
        return {name: _restored_column(kind, held) for name, kind, held in value}
    if name == "axis_labels":
        return {key: tuple(names) for key, names in value}
    return tuple(tuple(item) if isinstance(item, list) else item for item in value)
