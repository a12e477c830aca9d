"""PyTorch's ambient settings are put back to their defaults for a while, and then again to what they were."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from maze_dla.results.torch_defaults import torch_defaults


@pytest.fixture(autouse=True)
def undone() -> Iterator[None]:
    yield
    torch.set_default_dtype(torch.float32)


def test_as_a_decorator_it_holds_for_each_call() -> None:
    @torch_defaults()
    def made() -> torch.Tensor:
        return torch.zeros(2) + 1

    torch.set_default_dtype(torch.float64)
    with torch.device("meta"), torch.inference_mode():
        for _ in range(2):
            values = made()
            assert (values.dtype, values.device.type, values.is_inference()) == (torch.float32, "cpu", False)
        assert torch.zeros(1).device.type == "meta"
    assert torch.get_default_dtype() == torch.float64


def test_an_error_puts_everything_back() -> None:
    torch.set_default_dtype(torch.bfloat16)
    with torch.autocast("cpu"), pytest.raises(KeyError), torch_defaults():
        raise KeyError
    assert torch.get_default_dtype() == torch.bfloat16
    assert torch.is_grad_enabled()


def test_the_dtype_stays_until_the_last_thread_leaves() -> None:
    inside, leave = threading.Event(), threading.Event()
    seen: list[torch.dtype] = []

    def long() -> None:
        with torch_defaults():
            inside.set()
            leave.wait(30)
            seen.append(torch.zeros(1).dtype)

    torch.set_default_dtype(torch.float64)
    with torch_defaults():
        other = threading.Thread(target=long)
        other.start()
        inside.wait(30)
    assert torch.get_default_dtype() == torch.float32  # the other one is still at work
    leave.set()
    other.join()
    assert seen == [torch.float32]
    assert torch.get_default_dtype() == torch.float64
