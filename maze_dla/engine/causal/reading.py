"""The metric at the read positions of branches, from the final residual: no logits are computed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from maze_dla.engine.completeness import SumChecks
from maze_dla.engine.devices import to_device
from maze_dla.engine.direct.directions import pull_back
from maze_dla.engine.metrics import LinearMetric
from maze_dla.engine.model import ModelWeights
from maze_dla.engine.precision import at_least_single
from maze_dla.engine.sites import FINAL_RESIDUAL, FINAL_SCALE, LOGITS, Activations
from maze_dla.results.tolerances import ROUNDING_OF_LOGITS

AT_THE_END = (FINAL_RESIDUAL, FINAL_SCALE)


@dataclass(frozen=True, eq=False)
class MetricAtReads:
    """The metric of a micro-batch's prompts pulled back to the stream: direction and constant of each."""

    direction: Float[Tensor, "prompt d_model"]
    constant: Float[Tensor, " prompt"]

    @classmethod
    def of(cls, weights: ModelWeights, metric: LinearMetric) -> MetricAtReads:
        """That of a metric of just these prompts."""
        return cls(*pull_back(weights, metric))

    def __call__(self, found: Activations, prompts: Int[Tensor, " branch"] | None = None) -> Float[Tensor, " branch"]:
        """The metric of branches of these prompts, in logits; of the prompts themselves where none are named."""
        final, scale = (at_least_single(found[site]) for site in AT_THE_END)
        direction, constant = self.direction, self.constant
        if prompts is not None:
            at = to_device(prompts, final.device)
            direction, constant = direction.index_select(0, at), constant.index_select(0, at)
        return (final * direction).sum(-1) / scale + constant

    def check(
        self, checks: SumChecks, found: Activations, metric: LinearMetric, prompts: Int[Tensor, " prompt"]
    ) -> tuple[Float[Tensor, " prompt"], Float[Tensor, " prompt"]]:
        """The metric of the plain run from its logits, and the size of these, once both ways agree.

        Raises:
            CompletenessError: the metric is not what the final residual gives.
        """
        logits = at_least_single(found[LOGITS])
        whole, size = metric(logits), metric.size(logits)
        read = self(found)
        parts = torch.stack([read - self.constant, self.constant], 1)
        largest = parts.abs().amax(1).maximum(ROUNDING_OF_LOGITS * size)
        checks.add(whole, parts, largest, "metric = final residual + constant", prompts)
        return whole, size
