"""PyTorch's ambient settings, put back to their defaults for a while: what a caller has set changes no number."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

DEVICE_TYPES = ("cpu", "cuda", "mps", "xpu")


class _Float32:
    """The default dtype, which all threads share: the first to enter sets it, the last to leave puts it back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._found = torch.float32

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            if self._users == 0:
                self._found = torch.get_default_dtype()
                _set_default_dtype(torch.float32)
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0:
                    _set_default_dtype(self._found)


def _set_default_dtype(dtype: torch.dtype) -> None:
    if torch.get_default_dtype() != dtype:
        torch.set_default_dtype(dtype)


_float32 = _Float32()


@contextmanager
def torch_defaults() -> Iterator[None]:
    """No gradients, no inference mode, no autocast, tensors in float32 on the CPU unless something else is asked for.

    Also a decorator: `@torch_defaults()`. Whatever the caller has set around it is there again afterwards.
    """
    with ExitStack() as undo:
        undo.enter_context(torch.inference_mode(False))
        undo.enter_context(torch.no_grad())
        undo.enter_context(_float32())
        for device_type in DEVICE_TYPES:
            if torch.is_autocast_enabled(device_type):
                undo.enter_context(torch.autocast(device_type, enabled=False))
        if torch.get_default_device().type != "cpu":
            undo.enter_context(torch.device("cpu"))
        yield
