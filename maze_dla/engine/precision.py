"""Half precision, in which models store and numbers are not computed here."""

from __future__ import annotations

import torch
from torch import Tensor

HALF = (torch.float16, torch.bfloat16)


def at_least_single(values: Tensor) -> Tensor:
    """Half-precision numbers as float32, which holds them exactly; others as they are."""
    return values.float() if values.dtype in HALF else values
