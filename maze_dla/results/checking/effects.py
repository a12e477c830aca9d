"""Checks of the numbers of a saved ablation: the indirect effect is the sum of what it goes through."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from maze_dla.results.checking.shapes import check_finite, check_names
from maze_dla.results.checking.sums import Slack

ARRAYS = ("total", "direct", "later_heads", "later_mlps", "norm")


def check_effects(result: Any) -> None:
    """Refuse effects whose indirect part is not the sum of what it goes through, or whose names do not fit.

    Sums may be off by twice 1e-4 of the largest part of a prompt in float32, and by what logits are rounded to.

    Raises:
        ValueError: naming the field.
    """
    for name in ("metric", *ARRAYS):
        check_finite(name, getattr(result, name))
    _check_parts(result)
    for name in ("loss", "loss_after"):
        if (loss := getattr(result, name)) is not None and (loss.isnan() | (loss < -1e-4)).any():
            raise ValueError(f"{name}: some are negative or no numbers")
    if result.loss_after is not None and result.loss is None:
        raise ValueError("loss_after: without loss")
    slack = Slack.of(result.info, result.metric.dtype, size_of_effects(result))
    parts = result.indirect_by.by_route().sum(-1)
    what = "later_heads, later_mlps and norm sum to total - direct"
    slack.check(what, result.total.double() - result.direct.double(), parts, 2 * slack.rounding)


def size_of_effects(result: Any) -> Float[Tensor, " prompt"]:
    """The largest of each prompt's metric and effects by size, which gaps of sums are measured by."""
    arrays = [array for name in ARRAYS if (array := getattr(result, name))[0].numel()]
    sizes = [array.double().abs().flatten(1).amax(1) for array in arrays]
    return torch.stack([result.metric.double().abs(), *sizes]).amax(0)


def _check_parts(result: Any) -> None:
    axes, shape = result.part_axes, tuple(result.total.shape[1:])
    named = isinstance(axes, tuple) and all(isinstance(axis, str) for axis in axes) and len(set(axes)) == len(axes)
    if not named or len(axes) != len(shape):
        raise ValueError(f"part_axes: {axes!r:.80} of parts of shape {shape}")
    check_names("part_labels", result.part_labels)
    if len(result.part_labels) != math.prod(shape):
        raise ValueError(f"part_labels: {len(result.part_labels)} names for {math.prod(shape)} parts")
