"""Muon in float32: momentum whose matrices are made orthogonal before they are applied.

Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks". torch has the same, but runs its
iteration in bfloat16, which is slow on most CPUs; here matrices of one shape go through it together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic iteration, from the source above


def orthogonalize(matrices: Float[Tensor, "n rows columns"], steps: int = 5) -> Float[Tensor, "n rows columns"]:
    """The nearest half-orthogonal matrices, roughly: all singular values near one."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Muon for the matrices inside the blocks; embeddings, biases and norms belong to another optimizer."""

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float = 0.02, momentum: float = 0.95, weight_decay: float = 0.01
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Apply one update to every matrix that has a gradient."""
        for group in self.param_groups:
            by_shape = defaultdict(list)
            for p in group["params"]:
                by_shape[p.shape].append(p)
            for shape, params in by_shape.items():
                updates = torch.stack([self._nesterov(p, group["momentum"]) for p in params])
                updates = orthogonalize(updates) * max(1.0, shape[0] / shape[1]) ** 0.5
                for p, update in zip(params, updates, strict=True):
                    p.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-group["lr"])

    def _nesterov(self, p: nn.Parameter, momentum: float) -> Tensor:
        state = self.state[p]
        assert p.grad is not None
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(p)
        buffer = state["momentum"].lerp_(p.grad, 1 - momentum)
        return p.grad.lerp(buffer, momentum)
