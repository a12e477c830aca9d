"""The peak of a call is seen, and that of an earlier one is not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from maze_dla.bench import memory
from maze_dla.bench.memory import UNKNOWN_FREE, free_memory, peak_of

CPU = torch.device("cpu")
MIB = 1 << 20


@pytest.fixture
def _measurable() -> None:
    if not memory._reset_resident_peak():
        pytest.skip("the peak of resident memory can be reset on Linux alone")


@pytest.mark.usefixtures("_measurable")
def test_a_tensor_of_64_mebibytes_is_seen() -> None:
    kept = []
    peak_of(lambda: torch.ones(256 * MIB // 4), CPU)  # an earlier and larger peak
    peak = peak_of(lambda: torch.ones(64 * MIB // 4), CPU)
    assert peak is not None
    assert 60 * MIB < peak < 80 * MIB
    held = peak_of(lambda: kept.append(torch.ones(64 * MIB // 4)), CPU)
    nothing = peak_of(lambda: None, CPU)  # what is held already does not count
    assert held is not None
    assert nothing is not None
    assert nothing < 16 * MIB < held


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_tensor_on_cuda_is_seen() -> None:
    device = torch.device("cuda")
    assert peak_of(lambda: torch.ones(64 * MIB // 4, device=device), device) == 64 * MIB
    assert free_memory(device) > 0


def test_where_the_kernel_does_not_say_nothing_is_claimed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    called = []
    monkeypatch.setattr(memory, "CLEAR_REFS", tmp_path / "nowhere" / "clear_refs")
    assert peak_of(lambda: called.append(1), CPU) is None
    assert peak_of(lambda: called.append(1), torch.device("mps")) is None
    assert len(called) == 2
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    assert free_memory(CPU) == UNKNOWN_FREE
    (tmp_path / "meminfo").write_text("MemTotal:  20 kB\nMemAvailable:   12 kB\n")
    assert free_memory(CPU) == 12 << 10
