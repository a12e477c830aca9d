"""A metric pulled back into the residual stream."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from maze_dla.engine.metrics import LinearMetric
from maze_dla.engine.model import ModelWeights
from maze_dla.engine.precision import at_least_single


def pull_back(
    weights: ModelWeights, metric: LinearMetric
) -> tuple[Float[Tensor, "prompt d_model"], Float[Tensor, " prompt"]]:
    """Direction and constant with metric = residual . direction / scale + constant, for a norm frozen at `scale`.

    The direction is W_U c after the weight and the centring of the final norm; the constant holds the norm's bias
    and b_U, in logits.
    """
    read_out = metric.direction(weights.W_U)
    constant = weights.final_norm.constant(read_out)
    if weights.b_U is not None:
        constant = constant + metric.constant(weights.b_U)
    return weights.final_norm.pull_back(read_out), constant


def project(
    bias: Float[Tensor, " d_model"] | None, direction: Float[Tensor, "prompt d_model"]
) -> Float[Tensor, " prompt"]:
    """A bias along each prompt's direction; zero where there is none."""
    return direction.new_zeros(len(direction)) if bias is None else direction @ at_least_single(bias)
