"""A result of separability by hand: the class can be told after layer 0, by nothing but the model as trained."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from maze_dla.results.separability import SeparabilityResult
from tests.results.causal_results import noise

DEPTHS = ("0_pre", "0_post", "1_post")


def make_separability(n: int = 48, *, shuffles: int = 20, models: int = 2, **changes: Any) -> SeparabilityResult:
    mazes = torch.arange(n) // 2
    y = mazes % 2
    random = (noise(n, 3, 4 + shuffles + models, seed=1) > 0).short()
    right = y.short()[:, None].expand(-1, 2)
    mistaken = torch.where(torch.arange(n)[:, None] % 12 == 0, 1 - right, right)
    permuted = torch.stack([permutation(y, i) for i in range(shuffles)], 1) if shuffles else random[:, 0, :0]
    fields = {
        "class_of": y,
        "classes": ("no", "yes"),
        "depths": DEPTHS,
        "folds": mazes % 4,
        "probe_classes": torch.cat([random[:, :1, 0], mistaken], 1),
        "baseline_classes": random[:, 0, 1:3],
        "shuffled_class_of": permuted.short(),
        "shuffled_classes": random[:, :, 4 : 4 + shuffles].transpose(1, 2).contiguous(),
        "random_classes": random[:, :, 4 + shuffles :].transpose(1, 2).contiguous(),
        "coordinates": noise(n, 3, 2, seed=2).double(),
        "explained": torch.tensor([[0.5, 0.2], [0.4, 0.3], [0.6, 0.1]], dtype=torch.double),
        "prompt_tokens": tuple((f"t{i}", "x") for i in range(n)),
        "info": {"model": "tiny", "question": "is it so", "unit": "maze"},
        "columns": {"maze": tuple(f"maze {m}" for m in mazes.tolist())},
    }
    return SeparabilityResult(**{**fields, **changes})


def permutation(y: Tensor, seed: int) -> Tensor:
    return y.view(-1, 2)[torch.randperm(len(y) // 2, generator=torch.Generator().manual_seed(seed))].flatten()
