"""Arrays as callers give them: of numpy, torch or lists, whole numbers of any kind."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maze_dla.errors import InputError, MazeDlaError, quoted

UNSIGNED = (torch.uint8, torch.uint16, torch.uint32, torch.uint64)
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, *UNSIGNED)
LARGEST = torch.iinfo(torch.int64).max


def check_values(what: str, given: Any, *, may_be_sparse: bool = False) -> None:
    """Refuse a tensor that has a shape and no values, or not one for each place, also where it stands in a list.

    Raises:
        InputError: as "targets has no values: it lies on the meta device".
    """
    is_list = isinstance(given, Collection) and not isinstance(given, Tensor) and getattr(given, "ndim", 1)
    for one in given if is_list else [given]:
        if isinstance(one, Tensor) and one.is_meta:
            raise InputError(f"{what} has no values: it lies on the meta device")
        if not isinstance(one, Tensor):
            continue
        kind = "nested" if one.is_nested else "quantized" if one.is_quantized else "sparse"
        if kind != "sparse" or (one.layout != torch.strided and not may_be_sparse):
            raise InputError(f"{what} is a {kind} tensor, expected a plain one")


def as_array(what: str, given: Any, takes: str, refusal: type[MazeDlaError] = InputError) -> Tensor:
    """A caller's values as a tensor on the CPU, whole numbers of any kind in 64 bits.

    Raises:
        InputError: it has no values, since it lies on the meta device.
        MazeDlaError: of the kind `refusal`: it makes no array, as "prompts are chosen by a mask, got int", or holds a
            number that 64 bits do not.
    """
    check_values(what, given)
    try:
        if hasattr(given, "__array__") and not isinstance(given, Tensor):
            given = np.require(given, requirements=["C", "W"])  # torch takes no others
        found = torch.as_tensor(given, device="cpu")
    except (TypeError, ValueError, RuntimeError):
        seen = f"{quoted(given, 60)}" if given is None or isinstance(given, list | tuple) else type(given).__name__
        raise refusal(f"{takes}, got {seen}") from None
    if found.dtype not in INTEGERS:
        return found
    numbers = found.long()
    if found.dtype == torch.uint64 and (numbers < 0).any():
        raise refusal(f"{what}: numbers are at most {LARGEST}, got {max(found.flatten().tolist())}")
    return numbers
