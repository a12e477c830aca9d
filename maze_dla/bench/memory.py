"""How much memory a call needs above what was held before it, and how much there is."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

STATUS, CLEAR_REFS, MEMINFO = Path("/proc/self/status"), Path("/proc/self/clear_refs"), Path("/proc/meminfo")
RESET_PEAK = "5"  # see proc(5): the peak of the resident memory becomes what is resident now
UNKNOWN_FREE = 4 << 30


def peak_of(call: Callable[[], Any], device: torch.device) -> int | None:
    """The most memory in bytes that a call held above what was held before it; None where that cannot be measured.

    On CUDA by torch's own count; on the CPU by the kernel's count of resident memory, which Linux alone can reset.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return torch.cuda.max_memory_allocated(device) - before
    measurable = device.type == "cpu" and _reset_resident_peak()
    before = _kibibytes(STATUS, "VmRSS") if measurable else 0
    call()
    return max(_kibibytes(STATUS, "VmHWM") - before, 0) << 10 if measurable else None


def free_memory(device: torch.device) -> int:
    """Bytes that can still be taken; 4 GiB where nobody says."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        return _kibibytes(MEMINFO, "MemAvailable") << 10
    except OSError:
        return UNKNOWN_FREE


def _reset_resident_peak() -> bool:
    """Give back what is free, and let the peak start from here; whether that could be done."""
    try:
        ctypes.CDLL(None).malloc_trim(0)  # glibc's: freed memory would hide what a call takes
        CLEAR_REFS.write_text(RESET_PEAK)
        _kibibytes(STATUS, "VmHWM")
    except (OSError, AttributeError, TypeError):
        return False
    return True


def _kibibytes(file: Path, name: str) -> int:
    """A line of the kernel's tables.

    Raises:
        OSError: the file or the line is not there.
    """
    for line in file.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise OSError(f"{file} has no line {name}")
