"""How far sums may be from their whole, as a share of the largest part: by what a model computes in."""

from __future__ import annotations

import torch

TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-4}
HALF_TOLERANCE = 5e-2  # float16 and bfloat16 carry two to three digits


def tolerance_of(dtype: torch.dtype) -> float:
    """For sums in this precision."""
    return TOLERANCES.get(dtype, HALF_TOLERANCE)
