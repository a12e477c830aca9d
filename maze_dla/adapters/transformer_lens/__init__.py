"""Models of TransformerLens 2, 3 and 4, as the engine sees them."""
