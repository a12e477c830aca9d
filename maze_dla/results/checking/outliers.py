"""Checks of the numbers of a saved `mlp_outliers`."""

from __future__ import annotations

from typing import Any

import torch

from maze_dla.results.checking.shapes import check_finite
from maze_dla.results.checking.sums import after_the_end
from maze_dla.results.outliers import NUMBERS

ROUNDED = 1e-9  # of the activation's length


def check_outliers(result: Any) -> None:
    """Refuse numbers that no run can have found: padding elsewhere, negative lengths, an increase at the last position.

    Raises:
        ValueError: naming the field.
    """
    for name in ("metric", "loss"):
        check_finite(name, getattr(result, name))
    if (result.loss < -1e-4).any():
        raise ValueError("loss: some are negative")
    n_layers = result.outlier.shape[1]
    whole = isinstance(result.layers, tuple) and all(type(i) is int and i >= 0 for i in result.layers)
    if not whole or len(set(result.layers)) < len(result.layers) or len(result.layers) != n_layers:
        raise ValueError(f"layers: {result.layers!r:.80}, expected {n_layers} different numbers")
    for name in ("k", "controls", "seed"):
        if type(getattr(result, name)) is not int or getattr(result, name) < 0:
            raise ValueError(f"{name}: {getattr(result, name)!r:.40}, expected a whole number of at least 0")
    if type(result.normed) is not bool:
        raise ValueError(f"normed: {result.normed!r:.40}, expected true or false")
    _check_numbers(result)


def _check_numbers(result: Any) -> None:
    beyond = after_the_end(result, result.outlier.shape[-1])[:, None].expand_as(result.outlier)
    for name in NUMBERS:
        value = getattr(result, name)
        if not torch.equal(value.isnan(), beyond) or not torch.equal(value.isfinite(), ~beyond):
            raise ValueError(f"{name}: some are no numbers, or are numbers after a prompt's end")
        if name != "loss_increase" and (value < 0).any():
            raise ValueError(f"{name}: some are negative")
    last = torch.tensor([len(tokens) - 1 for tokens in result.prompt_tokens])
    if result.loss_increase[torch.arange(len(last)), :, last].any():
        raise ValueError("loss_increase: not 0 at a last position, which has no next token in the prompt")
    if (result.outlier > 2 * result.norm * (1 + ROUNDED)).any():
        raise ValueError("outlier: larger than the activation's length allows")
    if not result.normed and not torch.equal(result.outlier[~beyond], result.outlier_after[~beyond]):
        raise ValueError("outlier_after: not that before, though there is no norm inside the MLP")
