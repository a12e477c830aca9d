"""The methods of the engine for any model, written out.

A model is run in eval mode, for one run at a time, and is left as it was found.
"""

from maze_dla.analysis.activations import activations, write_activations
from maze_dla.analysis.attention import attention, head_scores
from maze_dla.analysis.causal import (
    ablate,
    component_mean,
    difference_of_means,
    find_circuit,
    keep_only,
    patch,
    steer,
    unembedding_direction,
)
from maze_dla.analysis.direct import attribute, contrast, logit_lens, predict, token_lens
from maze_dla.analysis.outliers import mlp_outliers
from maze_dla.analysis.running import as_residual_model
from maze_dla.analysis.separability import separability

__all__ = [
    "ablate",
    "activations",
    "as_residual_model",
    "attention",
    "attribute",
    "component_mean",
    "contrast",
    "difference_of_means",
    "find_circuit",
    "head_scores",
    "keep_only",
    "logit_lens",
    "mlp_outliers",
    "patch",
    "predict",
    "separability",
    "steer",
    "token_lens",
    "unembedding_direction",
    "write_activations",
]
