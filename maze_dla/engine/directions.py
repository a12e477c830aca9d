"""A metric pulled back into the residual stream."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from maze_dla.engine.metrics import LinearMetric
from maze_dla.engine.model import ResidualModel


def pull_back(
    model: ResidualModel, metric: LinearMetric
) -> tuple[Float[Tensor, "prompt d_model"], Float[Tensor, "prompt"]]:
    """Direction and constant with metric = residual . direction / scale + constant, for a norm frozen at `scale`.

    The direction is W_U c behind the weight and the centring of the final norm; the constant holds the norm's bias
    and b_U, in logits.
    """
    behind = metric.direction(model.W_U)
    constant = model.final_norm.constant(behind)
    if model.b_U is not None:
        constant = constant + metric.constant(model.b_U)
    return model.final_norm.pull_back(behind), constant
