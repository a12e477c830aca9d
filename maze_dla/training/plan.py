"""How a model is trained: the plan of its steps, and one of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class StepPlan:
    """How long and how hard; the learning rate warms up, then falls on a straight line to zero."""

    steps: int
    learning_rate: float
    weight_decay: float
    warm_up: int
    clip: float = 1.0
    seed: int = 0
    measure_every: int = 250

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        return self.learning_rate * min((step + 1) / self.warm_up, 1 - step / self.steps)

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """AdamW on all of a model's weights."""
        return torch.optim.AdamW(model.parameters(), self.learning_rate, (0.9, 0.98), weight_decay=self.weight_decay)

    def descend(self, model: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor, step: int) -> float:
        """Take a step, counted from 0, down the gradient of a loss; returns the loss."""
        for group in optimizer.param_groups:
            group["lr"] = self.rate(step)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), self.clip)
        optimizer.step()
        return loss.item()
