"""The whole benchmark: models, cases, what was measured, and on what."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from maze_dla.adapters.transformer_lens.build import check_placement
from maze_dla.bench.cases import Case, cases_of
from maze_dla.bench.methods import check_agreement, ours, tutorial, tutorial_with_pos_slice
from maze_dla.bench.models import GPT2, MAZE, BenchModel, random_model, random_prompts
from maze_dla.bench.startup import startup_seconds
from maze_dla.bench.timing import Measured, measure, threads
from maze_dla.errors import InputError, check_whole
from maze_dla.results.storage import installed_versions

MODELS: Mapping[str, BenchModel] = {"maze": MAZE, "gpt2": GPT2}
DEFAULT_SIZES: Mapping[str, tuple[int, ...]] = {"maze": (32,), "gpt2": (8,)}
ROUNDS, PATIENCE = 3, 3.0
PACKAGES = ("maze_dla", "torch", "transformer_lens")


@dataclass(frozen=True)
class Table:
    """The measurements of one case; the first row is the plain forward pass."""

    case: Case
    rows: tuple[Measured, ...]

    def named(self, start: str) -> Measured | None:
        """The first row whose name begins so."""
        return next((row for row in self.rows if row.name.startswith(start)), None)


@dataclass(frozen=True)
class BenchReport:
    """Facts, the number of rounds, tables, and the seconds that a fresh process takes to import and to help."""

    facts: Mapping[str, str]
    rounds: int
    tables: tuple[Table, ...]
    startup: tuple[float, float] | None


def run_bench(
    shapes: Sequence[str] = tuple(MODELS),
    sizes: Sequence[int] | None = None,
    *,
    rounds: int | None = None,
    n_threads: int | None = None,
    device: str | None = None,
    known: Mapping[str, BenchModel] = MODELS,
    startup: bool = True,
) -> BenchReport:
    """Time a plain forward pass, the tutorial's way and maze_dla in turns, on random models and prompts.

    A bar shows on a terminal.

    Args:
        shapes: names among `known`.
        sizes: numbers of prompts, for every shape; default: what fits in about a minute.
        rounds: how many timed runs each method has; default: 3, and 1 of a method that takes more than 3 seconds.
        n_threads: threads for torch, put back afterwards; default: as many as torch takes.
        device: what the models are on; default: the CPU.
        known: the shapes by name.
        startup: whether fresh processes are timed too.

    Raises:
        InputError: an unknown shape, a size or rounds below 1, threads outside 1..cores, or a device that cannot be
            used here.
        MazeDlaError: the tutorial's numbers and maze_dla's are not the same.
    """
    check_choice(shapes, sizes, rounds, n_threads, known)
    check_placement(device, None)
    place = torch.device(device or "cpu")
    timing = (ROUNDS, PATIENCE) if rounds is None else (rounds, inf)
    with threads(n_threads) as n:
        models = {name: _checked_model(known[name], device) for name in shapes}
        cases: list[Case] = []
        for name, model in models.items():
            cases += cases_of(model, known[name], sorted(set(sizes or DEFAULT_SIZES[name])), with_tasks=name == "maze")
        tables = _measure_all(cases, place, *timing)
    return BenchReport(
        {
            **facts_of(place, n),
            **{known[name].spec.name: _described(known[name], model) for name, model in models.items()},
        },
        timing[0],
        tables,
        startup_seconds() if startup else None,
    )


def check_choice(
    shapes: Sequence[str],
    sizes: Sequence[int] | None,
    rounds: int | None,
    n_threads: int | None,
    known: Mapping[str, BenchModel],
) -> None:
    """Refuse what cannot be timed.

    Raises:
        InputError: an unknown shape, a size or rounds below 1, or threads outside 1..cores.
    """
    if unknown := [name for name in shapes if name not in known]:
        raise InputError(f"unknown shape {unknown[0]!r}, expected one of {', '.join((*known, 'all'))}")
    if sizes is not None and min(sizes, default=0) < 1:
        raise InputError(f"a number of prompts is at least 1, got {min(sizes, default='none')}")
    if rounds is not None:
        check_whole("rounds", rounds, 1)
    cores = os.cpu_count() or 1
    if n_threads is not None and not 1 <= n_threads <= cores:
        raise InputError(f"threads is between 1 and this computer's {cores}, got {n_threads}")


def _checked_model(shape: BenchModel, device: str | None) -> Any:
    """A random model for which all methods find the same."""
    model = random_model(shape, device=device)
    batch = random_prompts(shape, 3)
    own = ours(model, batch)
    for method in (tutorial, tutorial_with_pos_slice):
        check_agreement(method(model, batch), own)
    return model


def _measure_all(cases: Sequence[Case], device: torch.device, rounds: int, patience: float) -> tuple[Table, ...]:
    total = sum(len(case.methods) for case in cases) * (rounds + 1)
    with tqdm(total=total, desc="timing", unit="run", disable=None, leave=False) as bar:
        measured = [measure(case.methods, rounds, device, patience, bar.update) for case in cases]
    return tuple(Table(case, tuple(rows)) for case, rows in zip(cases, measured, strict=True))


def facts_of(device: torch.device, n_threads: int) -> dict[str, str]:
    """The versions of packages, and what the benchmark ran on."""
    versions = [f"{name} {version}" for name, version in installed_versions(PACKAGES).items()]
    return {
        "versions": ", ".join([*versions, f"Python {platform.python_version()}"]),
        "ran on": f"{_device_name(device)}, torch with {n_threads} of {os.cpu_count()} threads, float32",
    }


def _described(shape: BenchModel, model: Any) -> str:
    return f"{shape}; random weights in a {type(model).__name__}"


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} ({device})"
    cpu = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else cpu} ({device})"
