"""Models of TransformerLens, seen through the engine's protocol."""

from maze_dla.adapters.transformer_lens.view import TransformerLensModel, residual_model

__all__ = ["TransformerLensModel", "residual_model"]
