"""The loss of a language model at every position: the cross entropy of the sequence's next token, in nats."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from maze_dla.engine.devices import to_device
from maze_dla.engine.model import ModelWeights, soft_capped
from maze_dla.engine.precision import at_least_single

MOST_LOGITS = 1 << 22  # that are held at once


def losses_of(
    weights: ModelWeights, residual: Float[Tensor, "token d_model"], following: Int[Tensor, " token"]
) -> Float[Tensor, " token"]:
    """The cross entropy of the token that follows each residual after the last block."""
    following, n = to_device(following, residual.device), max(MOST_LOGITS // weights.shape.d_vocab, 1)
    found = at_least_single(residual).new_empty(len(residual))
    for first in range(0, len(residual), n):
        some = residual[first : first + n]
        logits = soft_capped(weights.logits(some, weights.final_norm.scale(some)), weights.logit_cap)
        right = logits.gather(1, following[first : first + n, None])[:, 0]
        found[first : first + n] = logits.logsumexp(-1) - right
    return found


def next_token_losses(
    weights: ModelWeights,
    residual: Float[Tensor, "sequence position d_model"],
    tokens: Int[Tensor, "sequence position"],
) -> Float[Tensor, "sequence position"]:
    """The losses of sequences, of their residuals after the last block; NaN at the last position."""
    found = losses_of(weights, residual[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
    return torch.nn.functional.pad(found.view(len(tokens), tokens.shape[1] - 1), (0, 1), value=torch.nan)
