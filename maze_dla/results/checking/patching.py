"""Checks of the numbers of a saved patching."""

from __future__ import annotations

from typing import Any

import torch

from maze_dla.results.checking.shapes import check_finite, check_names
from maze_dla.results.checking.sums import after_the_end
from maze_dla.results.patching import AXES, DIRECTIONS, NOISE


def check_patching(result: Any) -> None:
    """Refuse a patching whose axes, lengths or padding do not fit its values, or whose metric is of the other run.

    Raises:
        ValueError: naming the field.
    """
    for name in ("metric", "clean", "corrupted"):
        check_finite(name, getattr(result, name))
    if result.direction not in DIRECTIONS or not isinstance(result.site, str):
        raise ValueError(f"direction: {result.direction!r:.80} of {result.site!r:.80}")
    edited = result.clean if result.direction == NOISE else result.corrupted
    if not torch.equal(result.metric, edited):
        raise ValueError(f"metric: not that of the run that {result.direction!r} edits")
    _check_axes(result)
    lengths = torch.tensor([len(tokens) for tokens in result.prompt_tokens])
    if not torch.equal(result.lengths.long(), lengths):
        raise ValueError("lengths: not those of prompt_tokens")
    _check_padding(result)
    _check_kinds(result)
    _check_estimate(result)


def _check_axes(result: Any) -> None:
    axes = result.axes
    known = isinstance(axes, tuple) and all(a in AXES for a in axes) and len(set(axes)) == len(axes) > 0
    if not known or len(axes) != result.values.ndim - 1 or "position" in axes[:-1]:
        raise ValueError(f"axes: {axes!r:.80} of values of shape {tuple(result.values.shape)}, a position is the last")
    check_names("neurons", result.neurons)
    if len(result.neurons) != (result.values.shape[-1] if axes[-1] == "neuron" else 0):
        raise ValueError(f"neurons: {len(result.neurons)} names of axes {axes} of {tuple(result.values.shape)}")


def _check_padding(result: Any) -> None:
    """NaN after a prompt's end, and nowhere else."""
    finite = result.values.isfinite()
    if not result.by_position:
        return check_finite("values", result.values)
    beyond = after_the_end(result, result.values.shape[-1])
    beyond = beyond.view(len(result), *[1] * (result.values.ndim - 2), -1).expand_as(finite)
    if not torch.equal(result.values.isnan(), beyond) or not torch.equal(finite, ~beyond):
        raise ValueError("values: some are no numbers, or are numbers after a prompt's end")
    return None


def _check_kinds(result: Any) -> None:
    if result.token_kinds is None:
        return
    beyond = after_the_end(result, result.token_kinds.shape[1])
    known = (result.token_kinds >= 0) & (result.token_kinds < len(result.kinds))
    if not torch.where(beyond, result.token_kinds == -1, known | (result.token_kinds == -1)).all():
        raise ValueError(f"token_kinds: not of {len(result.kinds)} kinds, -1 after a prompt's end")


def _check_estimate(result: Any) -> None:
    agreement, sampled = result.agreement, result.sampled
    counted = type(result.estimated) is bool and type(sampled) is int and sampled >= 0
    correlation = agreement is None or (isinstance(agreement, float) and not abs(agreement) > 1 + 1e-6)
    if not counted or not correlation or ((agreement is not None or sampled > 0) and not result.estimated):
        raise ValueError(f"agreement: {agreement!r:.40} at {sampled!r:.40} sites, estimated {result.estimated!r:.40}")
