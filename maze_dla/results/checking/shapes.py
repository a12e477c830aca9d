"""Shapes and names of a saved result, which fit each other."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from maze_dla.results.columns import checked_columns

SHAPE = re.compile(r"""(Float|Int|Bool)\[Tensor, ['"]([^'"]*)['"]\]""")  # annotations are kept as text
LENGTHS = {"prompt_tokens": "prompt", "targets": "prompt", "predicted": "prompt"}
NAMES = {"layer_labels": "component", "labels": "depth", "kinds": "kind"}  # one for each, no two alike


def check_shapes(result: Any) -> None:
    """Refuse arrays whose axes differ where they have one name, and names of another number than what they name.

    Raises:
        ValueError: naming the field.
    """
    sizes = _sizes(result)
    declared = {axis for f in fields(result) if (found := SHAPE.search(str(f.type))) for axis in found[2].split()}
    for name, axis in (LENGTHS | NAMES).items():
        if axis in declared and vars(result).get(name) is not None and len(getattr(result, name)) != sizes.get(axis, 0):
            raise ValueError(f"{name}: {len(getattr(result, name))} of them for {sizes.get(axis, 0)} ({axis})")
    for name in NAMES.keys() & vars(result).keys():
        check_names(name, getattr(result, name))
    if "columns" in vars(result):
        checked_columns(result.columns, sizes["prompt"])
    if "labels" in vars(result):
        check_depths("labels", result.labels)
    if (
        "scale" in vars(result)
        and result.scale not in ("final", "own")
        and (result.scale, hasattr(result, "of")) != (None, True)
    ):
        raise ValueError(f"scale: {result.scale!r}, expected 'final' or 'own'")


def check_names(name: str, names: Any) -> None:
    """Refuse names that are no text, or the same twice.

    Raises:
        ValueError: naming the field.
    """
    if not isinstance(names, tuple) or not all(isinstance(n, str) for n in names) or len(set(names)) < len(names):
        raise ValueError(f"{name}: expected different names, got {names!r:.200}")


def check_depths(name: str, labels: tuple[str, ...]) -> None:
    """Refuse depths that are not in their order, 0_pre, 0_mid, 1_pre, ..., final_post; some may be missing.

    Raises:
        ValueError: naming the field.
    """
    known = [*(f"{i}_{at}" for i in range(len(labels)) for at in ("pre", "mid")), "final_post"]
    if list(labels) != [label for label in known if label in labels] or "final_post" not in labels:
        raise ValueError(f"{name}: expected depths in order up to final_post, got {labels!r:.200}")


def check_finite(name: str, value: Tensor) -> None:
    """Refuse NaN and infinity.

    Raises:
        ValueError: naming the field.
    """
    if not value.isfinite().all():
        raise ValueError(f"{name}: {int((~value.isfinite()).sum())} values that are NaN or infinite")


def _sizes(result: Any) -> dict[str, int]:
    """The size of each axis, which is the same wherever its name stands."""
    sizes: dict[str, int] = {}
    for f in fields(result):
        declared, value = SHAPE.search(str(f.type)), getattr(result, f.name)
        if declared is None or declared[2] == "..." or (value is None and "None" in str(f.type)):
            continue
        kind, axes = declared[1], declared[2].split()
        if not isinstance(value, Tensor) or _kind(value) != kind:
            seen = value.dtype if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"{f.name}: {seen}, expected {kind}")
        for at, axis in [(i, a) for i, a in enumerate(axes) if a.startswith("*")]:
            n = value.ndim - len(axes) + 1
            axes[at : at + 1] = ["position"] * n if axis == "*position" else [f"{axis[1:]} {i}" for i in range(n)]
        if value.ndim != len(axes) or any(sizes.setdefault(a, n) != n for a, n in zip(axes, value.shape, strict=True)):
            raise ValueError(f"{f.name}: shape {tuple(value.shape)} does not fit ({', '.join(axes)}) with {sizes}")
    return sizes


def _kind(value: Tensor) -> str:
    return "Float" if value.is_floating_point() else "Bool" if value.dtype == torch.bool else "Int"
