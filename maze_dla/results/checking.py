"""What a saved result must satisfy: shapes that fit each other, numbers that are numbers, sums that hold."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from maze_dla.results.tolerances import tolerance_of

SHAPE = re.compile(r"""(Float|Int|Bool)\[Tensor, ['"]([^'"]*)['"]\]""")  # annotations are kept as text
LENGTHS = {"prompt_tokens": "prompt", "targets": "prompt", "layer_labels": "component", "labels": "depth"}


def check_result(result: Any) -> None:
    """Refuse a result that no run can have made.

    Raises:
        ValueError: naming the field.
    """
    sizes = _check_shapes(result)
    for name, axis in LENGTHS.items():
        if name in vars(result) and len(getattr(result, name)) != sizes[axis]:
            raise ValueError(f"{name}: {len(getattr(result, name))} of them for {sizes[axis]} ({axis})")
    if "means" in vars(result):
        _check_streamed(result)
    elif "layers" in vars(result):
        _check_attribution(result)
    elif "top_probs" in vars(result):
        _check_token_lens(result)
    elif "values" in vars(result):
        _check_finite("values", result.values)
        _check_sum(result, "values: the last depth is the metric", result.metric, result.values[:, -1])


def _check_shapes(result: Any) -> dict[str, int]:
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
        if "*position" in axes:
            at = axes.index("*position")
            axes[at : at + 1] = ["position"] * (value.ndim - len(axes) + 1)
        if value.ndim != len(axes) or any(sizes.setdefault(a, n) != n for a, n in zip(axes, value.shape, strict=True)):
            raise ValueError(f"{f.name}: shape {tuple(value.shape)} does not fit ({', '.join(axes)}) with {sizes}")
    return sizes


def _kind(value: Tensor) -> str:
    return "Float" if value.is_floating_point() else "Bool" if value.dtype == torch.bool else "Int"


def _check_attribution(result: Any) -> None:
    for name, value in vars(result).items():
        may_be_unknown = name == "neuron_variance" and len(result) == 1
        if isinstance(value, Tensor) and value.is_floating_point() and not may_be_unknown:
            _check_finite(name, value)
    parts = result.layers.double().sum(1) + result.constant.double()
    _check_sum(result, "layers and constant sum to the metric", result.metric, parts)
    _check_sum(result, "gap is the metric minus its parts", result.metric.double() - parts, result.gap)
    for name, bias, written in (("heads", "attn_bias", "attn_out"), ("neurons", "mlp_bias", "mlp_out")):
        columns = [i for i, label in enumerate(result.layer_labels) if label.endswith(written)]
        values = getattr(result, name)
        if values is not None and values.numel() and len(columns) == values.shape[1]:
            both = values.double().sum(2) + getattr(result, bias).double()
            _check_sum(result, f"{name} and {bias} sum to their layers", result.layers[:, columns], both)
    for name in ("sources", "sources_by_kind"):
        if getattr(result, name) is not None:
            _check_sum(result, f"{name} sum to heads", result.heads, getattr(result, name).double().sum(-1))


def _check_streamed(result: Any) -> None:
    if result.n < 1 or any(not 0 <= c <= result.n for c in (result.n_correct, result.n_preferred) if c is not None):
        raise ValueError(f"n_correct: {result.n_correct} (preferred: {result.n_preferred}) of {result.n} prompts")
    for name, mean in result.means.items():
        if (variance := result.variances.get(name)) is None or variance.shape != mean.shape:
            raise ValueError(f"variances: {name} has none of shape {tuple(mean.shape)}")
        _check_finite(f"means of {name}", mean)
        if result.n > 1:
            _check_finite(f"variances of {name}", variance)
            if (variance < 0).any():
                raise ValueError(f"variances: {name} has negative ones")
        if (labels := result.axis_labels.get(name)) is not None and len(labels) != mean.shape[-1]:
            raise ValueError(f"axis_labels: {len(labels)} for {mean.shape[-1]} of {name}")


def _check_token_lens(result: Any) -> None:
    here = result.target_rank >= 0  # padding has none
    for name in ("top_probs", "entropy", "kl"):
        _check_finite(name, getattr(result, name)[here])
    if ((result.top_probs[here] < 0) | (result.top_probs[here] > 1.001)).any():
        raise ValueError("top_probs: some are no probabilities")
    if unnamed := set(result.top_ids[here].unique().tolist()) - set(result.token_names):
        raise ValueError(f"token_names: none for token {min(unnamed)}")


def _check_finite(name: str, value: Tensor) -> None:
    if not value.isfinite().all():
        raise ValueError(f"{name}: {int((~value.isfinite()).sum())} values that are NaN or infinite")


def _check_sum(result: Any, what: str, whole: Tensor, parts: Tensor) -> None:
    """As close as a run in this precision is allowed to be, beside the largest part of each prompt."""
    precision = getattr(torch, str(result.info.get("precision")), result.metric.dtype)
    tolerance, rounding = tolerance_of(precision), float(result.info.get("rounding", 0.0))
    every = torch.cat([result.layers, result.constant[:, None]], 1) if "layers" in vars(result) else result.values
    size = every.double().abs().amax(1).maximum(result.metric.double().abs()).clamp_min(1e-12)
    gap = (
        (whole.double() - parts.double()).flatten(1).abs().amax(1)
        if whole.ndim > 1
        else (whole.double() - parts.double()).abs()
    )
    worst = (gap / (size + rounding)).argmax()
    if not gap[worst] <= 2 * tolerance * size[worst] + rounding:
        raise ValueError(f"{what}: not for prompt {int(worst)}, by {float(gap[worst]):.3g}")
