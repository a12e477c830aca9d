"""Checks of the numbers of saved activations."""

from __future__ import annotations

import torch

from maze_dla.results.activations import AXES, ActivationResult
from maze_dla.results.checking.shapes import check_finite, check_names


def check_activations(result: ActivationResult) -> None:
    """Refuse axes that no site has, positions outside the prompts, and numbers that are none before a prompt's end.

    Raises:
        ValueError: naming the field.
    """
    check_finite("metric", result.metric)
    check_names("layer_labels", result.layer_labels)
    if tuple(result.axes) not in AXES or len(result.axes) != result.values.ndim - 1:
        raise ValueError(f"axes: {result.axes!r:.80} of values of shape {tuple(result.values.shape)}")
    if len(result.layer_labels) != result.values.shape[1]:
        raise ValueError(f"layer_labels: {len(result.layer_labels)} names for {result.values.shape[1]} layers")
    n_positions = result.values.shape[-2] if result.has_positions else 1
    lengths = torch.tensor([len(tokens) for tokens in result.prompt_tokens])[:, None]
    if result.positions.shape[1] != n_positions or (result.positions >= lengths).any() or (result.positions < -1).any():
        raise ValueError(f"positions: not {n_positions} of each prompt, or outside of it")
    held = result.positions >= 0
    rows = result.values.movedim(-2, 1) if result.has_positions else result.values[:, None]
    check_finite("values", rows[held])
    if not rows[~held].isnan().all():
        raise ValueError("values: numbers where there is no position")
