"""Running a batch through a model, and the engine's own forward pass for pre-norm decoders."""
