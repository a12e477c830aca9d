"""Moving small tensors to where a model computes."""

from __future__ import annotations

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on its way to a device. Nobody waits for a GPU to have received it."""
    return tensor.to(device, non_blocking=device.type == "cuda")
