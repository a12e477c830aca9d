"""The methods of the engine for any model that an adapter can see.

`attribute`, `logit_lens` and `token_lens` take a TransformerLens model or the engine's own view of one. Arguments,
results and errors are those of the engine's functions of the same names.
"""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

from maze_dla.adapters.transformer_lens import residual_model
from maze_dla.engine import attribution, lens
from maze_dla.engine import token_lens as tokens

if TYPE_CHECKING:
    from maze_dla.engine.metrics import LinearMetric
    from maze_dla.engine.prompts import PromptBatch
    from maze_dla.results.attribution import AttributionResult
    from maze_dla.results.lens import LensResult, TokenLensResult


@wraps(attribution.attribute)
def attribute(model: Any, batch: PromptBatch, metric: LinearMetric, **options: Any) -> AttributionResult:
    """Split a metric over the parts of a model: `engine.attribution.attribute`."""
    return attribution.attribute(residual_model(model), batch, metric, **options)


@wraps(lens.logit_lens)
def logit_lens(model: Any, batch: PromptBatch, metric: LinearMetric, *scale: Any, **options: Any) -> LensResult:
    """The metric at every depth: `engine.lens.logit_lens`."""
    return lens.logit_lens(residual_model(model), batch, metric, *scale, **options)


@wraps(tokens.token_lens)
def token_lens(model: Any, batch: PromptBatch, *more: Any, **options: Any) -> TokenLensResult:
    """The next-token distribution at every depth: `engine.token_lens.token_lens`."""
    return tokens.token_lens(residual_model(model), batch, *more, **options)
