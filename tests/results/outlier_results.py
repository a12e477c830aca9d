"""A result of `mlp_outliers` by hand: several lengths, several prompts of one maze, seeded numbers."""

from __future__ import annotations

from typing import Any

import torch

from maze_dla.results.outliers import MlpOutliersResult
from tests.results.causal_results import described, noise

LENGTHS = (5, 7, 3, 7)


def make_outliers(normed: bool = True, lengths: tuple[int, ...] = LENGTHS, **changes: Any) -> MlpOutliersResult:
    """Two layers, numbered 1 and 3; the increase at last positions is 0."""
    n, width = len(lengths), max(lengths)
    ends = torch.tensor(lengths)[:, None, None]
    beyond = (torch.arange(width) >= ends).expand(n, 2, width)
    increase = 0.1 * noise(n, 2, width, seed=1).double() * (torch.arange(width) < ends - 1)
    outlier = 0.5 + noise(n, 2, width, seed=2).double().abs()
    fields = {
        **described(list(lengths), 2),
        "metric": noise(n, seed=3),
        "loss": 2 + noise(n, seed=4).double().abs(),
        "loss_increase": increase.masked_fill(beyond, torch.nan),
        "outlier": outlier.masked_fill(beyond, torch.nan),
        "outlier_after": (outlier * (3 if normed else 1)).masked_fill(beyond, torch.nan),
        "norm": (outlier * 2).masked_fill(beyond, torch.nan),
        "layers": (1, 3),
        "normed": normed,
        "k": 4,
        "controls": 6,
        "seed": 0,
    }
    return MlpOutliersResult(**{**fields, **changes})
