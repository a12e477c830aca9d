"""Checks of a saved contrast: its halves are those of its two runs."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from maze_dla.results.checking.sums import Slack
from maze_dla.results.contrast import DEPENDENT, PARTS, SHARED, ContrastResult

ARRAYS = ("layers", "heads", "attn_bias", "mlp_bias", "neurons", "sources", "sources_by_kind")


def check_contrast(result: ContrastResult) -> None:
    """Refuse a contrast whose parts are of other prompts, or whose halves are not half difference and half sum.

    Raises:
        ValueError: naming the part and the field.
    """
    clean, corrupted = result.clean, result.corrupted
    for part in PARTS:
        one = getattr(result, part)
        if len(one) != len(clean) or one.heads.shape != clean.heads.shape:
            raise ValueError(f"{part}: {tuple(one.heads.shape)} heads, those of clean are {tuple(clean.heads.shape)}")
    for part in (DEPENDENT, SHARED):
        half = getattr(result, part)
        if half.info.get("part") != part or half.prompt_tokens != clean.prompt_tokens:
            raise ValueError(f"{part}: of part {half.info.get('part')!r}, or of other prompts than clean")
    lengths = [[len(tokens) for tokens in run.prompt_tokens] for run in (clean, corrupted)]
    if lengths[0] != lengths[1]:
        raise ValueError("corrupted: prompts of other lengths than clean")
    _check_halves(result)


def _check_halves(result: ContrastResult) -> None:
    """Every half is, by the scales of the two runs, that of the runs' contributions."""
    clean, corrupted = result.clean, result.corrupted
    s, t = clean.final_scale.double(), corrupted.final_scale.double()
    mean = (1 / s + 1 / t) / 2
    size = torch.cat([clean.layers, corrupted.layers, clean.metric[:, None], corrupted.metric[:, None]], 1)
    size = size.double().abs().amax(1) * torch.maximum(s / t, t / s)
    slack = Slack.of(result.dependent.info, clean.metric.dtype, size)
    for sign, half in ((-1, result.dependent), (1, result.shared)):
        part = half.info["part"]
        expected = (clean.metric.double() + sign * corrupted.metric.double()) / 2
        slack.check(f"{part}: metric is half of the runs'", half.metric, expected)
        constant = (clean.constant.double() + corrupted.constant.double()) / 2 * (sign > 0)
        slack.check(f"{part}: the constant stands in shared alone", half.constant, constant)
        for name in ARRAYS:
            arrays = [getattr(one, name) for one in (half, clean, corrupted)]
            if any((array is None) != (arrays[0] is None) for array in arrays):
                raise ValueError(f"{part}: {name} are missing in one of the results")
            if arrays[0] is not None and arrays[0].numel():
                values = arrays[0][:, :-1] if name == "layers" else arrays[0]
                parts = (_times(arrays[1], s * mean) + sign * _times(arrays[2], t * mean)) / 2
                slack.of_parts(parts).check(f"{part}: {name} are half of the runs'", values, parts)


def _times(values: Float[Tensor, "prompt ..."], factor: Float[Tensor, " prompt"]) -> Float[Tensor, "prompt ..."]:
    return values.double() * factor.view(-1, *[1] * (values.ndim - 1))
