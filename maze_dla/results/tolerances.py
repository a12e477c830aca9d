"""How far sums may be from their whole, as a share of the largest part: by what a model computes in."""

from __future__ import annotations

import torch

PRECISIONS = {str(d).removeprefix("torch."): d for d in (torch.float64, torch.float32, torch.float16, torch.bfloat16)}
TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-4}
HALF_TOLERANCE = 5e-2  # float16 and bfloat16 carry two to three digits

# a metric is a difference of logits and cannot be held to more than their rounding: at this share of their size a
# tolerance is 84 times that of one number in float32, and what a logit's own sum over d_model loses stays below it
ROUNDING_OF_LOGITS = 0.1


def tolerance_of(dtype: torch.dtype) -> float:
    """For sums in this precision."""
    return TOLERANCES.get(dtype, HALF_TOLERANCE)
