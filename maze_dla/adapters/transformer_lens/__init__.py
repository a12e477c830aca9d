"""Models of TransformerLens, seen through the engine's protocol."""

from maze_dla.adapters.transformer_lens.engines import reader
from maze_dla.adapters.transformer_lens.view import TransformerLensModel, residual_model

__all__ = ["TransformerLensModel", "reader", "residual_model"]
