"""Where a model becomes the engine's view of it, for one run at a time."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, get_args

from maze_dla.adapters.mazes.model import MazeModel
from maze_dla.adapters.transformer_lens.exclusive import exclusive
from maze_dla.adapters.transformer_lens.verified import VerifiedModel
from maze_dla.adapters.transformer_lens.view import Forward, view
from maze_dla.engine.model import ResidualModel
from maze_dla.errors import InputError

BATCH = "batch is a PromptBatch, such as that of maze.prompts()"
PAIRS = "pairs are PromptPairs, such as those of maze.pairs() or ioi_pairs()"
METRIC = "metric is a LinearMetric, such as correct_vs_other(batch)"


def as_residual_model(model: Any, forward: Forward = "auto") -> ResidualModel:
    """The engine's view of a `MazeModel` or of a model of TransformerLens; itself where it is one that runs hooks.

    A view names the model by the weights that it had when the view was made.

    Raises:
        InputError: an unknown forward pass.
        ModelError: something else, or a model whose residual stream is not a plain sum.
    """
    if forward not in get_args(Forward):
        raise InputError(f"forward is 'auto' or 'hooked', got {forward!r}")
    if isinstance(model, ResidualModel) and isinstance(model.forward, VerifiedModel):
        model = model.source  # looked at anew: hooks or weights may have changed since it was compared
    if isinstance(model, ResidualModel):
        return model
    return view(model.model if isinstance(model, MazeModel) else model, forward)


@contextmanager
def running(model: Any, forward: Forward, engine: Forward | None = None) -> Iterator[ResidualModel]:
    """The engine's view of a model that nobody else runs meanwhile, in torch's usual settings."""
    if engine is not None:
        if forward != "auto":
            raise InputError(
                f"engine= is the earlier name of forward=: give one of them, got {engine!r} and {forward!r}"
            )
        warnings.warn("engine= is now called forward=", DeprecationWarning, stacklevel=4)
        forward = engine
    itself = model.model if isinstance(model, MazeModel) else model
    with exclusive(itself.source if isinstance(itself, ResidualModel) else itself):
        yield as_residual_model(model, forward)
