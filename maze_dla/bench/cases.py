"""Cases: the methods that are compared for each shape and number of prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from maze_dla.bench.memory import free_memory
from maze_dla.bench.methods import (
    can_project_neurons,
    neurons_projected,
    ours,
    plain_forward,
    tutorial,
    tutorial_for_each_task,
    tutorial_with_pos_slice,
)
from maze_dla.bench.models import N_TASKS, BenchModel, random_prompts, task_prompts
from maze_dla.bench.timing import Method

BATCH_SIZE, SMALL_BATCH_SIZE = 100, 16
ALL_METHODS_UP_TO = 1000
SHARE_OF_FREE = 0.8
PLAIN, TUTORIAL, OURS = "plain forward", "tutorial way", "maze_dla"
SLICED = f"{TUTORIAL}, with pos_slice"
HOOKED, SOURCES = f'{OURS}, forward="hooked"', f"{OURS}, with sources"


@dataclass(frozen=True)
class Case:
    """Methods to be timed in turns: the first is the plain forward pass, and one may be the tutorial's."""

    title: str
    shape: str
    n: int
    methods: tuple[Method, ...]
    notes: tuple[str, ...] = ()


def cases_of(model: Any, shape: BenchModel, sizes: Sequence[int], with_tasks: bool) -> list[Case]:
    """One case for each number of prompts and, on request, one of all seven tasks for the smallest.

    Where the tutorial's way fits into memory for none of the sizes, a case of as many as fit, up to 100, comes first.
    """
    fitting = prompts_that_fit(model, shape)
    first = min(sizes)
    part = min(fitting, BATCH_SIZE)
    chosen = [part, *sizes] if 0 < fitting < first else sizes
    cases = [_case(model, shape, n, fitting) for n in chosen]
    return [*cases, _tasks_case(model, shape, first, fitting)] if with_tasks else cases


def prompts_that_fit(model: Any, shape: BenchModel) -> int:
    """For about how many prompts of a shape the tutorial's way has the memory, with something to spare.

    Counted are the activations that it caches, the results of all heads at all positions that it adds to them, and the
    most that it holds beside them: three more arrays of all heads (their stack, centred, and scaled), or two layers'
    products of z with W_O (TransformerLens 2 and 3), or a layer's neurons where all prompts end together.
    """
    s = shape.spec
    vector = 4 * s.d_model
    results = shape.longest * s.n_layers * s.n_heads * vector
    products = shape.longest * s.n_heads * s.d_head * vector
    neurons = s.d_mlp * vector if shape.shortest == shape.longest else 0
    held = 1.3 * _cached_bytes(model, shape.longest) + results + max(3 * results, 2 * products, 4 * neurons)
    return int(SHARE_OF_FREE * free_memory(model.W_U.device) / held)


def _cached_bytes(model: Any, n_tokens: int) -> int:
    """The bytes that `run_with_cache` keeps of one prompt; entries that share their memory count once."""
    tokens = torch.zeros(1, n_tokens, dtype=torch.long, device=model.W_U.device)
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens)
    storages = [value.untyped_storage() for value in cache.values()]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def _case(model: Any, shape: BenchModel, n: int, fitting: int) -> Case:
    batch = random_prompts(shape, n)
    methods = _forward_methods(model, batch.tokens)
    notes: tuple[str, ...] = ()
    if n <= fitting:
        methods.append(Method(TUTORIAL, partial(tutorial, model, batch)))
        methods.append(Method(SLICED, partial(tutorial_with_pos_slice, model, batch)))
        if shape.shortest == shape.longest and can_project_neurons():
            faster = partial(tutorial_with_pos_slice, model, batch, neurons_projected)
            methods.append(Method(f"{SLICED} and project_output_onto", faster))
    else:
        notes += (_does_not_fit(n, fitting),)
    methods.append(Method(OURS, partial(ours, model, batch)))
    if n <= ALL_METHODS_UP_TO:
        methods.append(Method(HOOKED, partial(ours, model, batch, forward="hooked")))
        methods.append(Method(SOURCES, partial(ours, model, batch, sources=True)))
    lengths = str(shape.longest) if shape.shortest == shape.longest else f"{shape.shortest} to {shape.longest}"
    return Case(f"{shape.spec.name}: {n:,} prompts of {lengths} tokens", shape.spec.name, n, tuple(methods), notes)


def _tasks_case(model: Any, shape: BenchModel, n: int, fitting: int) -> Case:
    batch = task_prompts(shape, n)
    methods = _forward_methods(model, batch.sequences)[:1]
    notes: tuple[str, ...] = ("The plain forward pass is one of the longest prompt of each maze alone.",)
    if n <= fitting:
        methods.append(Method(f"{SLICED}, once for each task", partial(tutorial_for_each_task, model, batch)))
    else:
        notes += (_does_not_fit(n, fitting),)
    methods.append(Method(f"{OURS}, all tasks in one pass", partial(ours, model, batch)))
    title = f"{shape.spec.name}: all seven tasks on the same {n:,} mazes ({N_TASKS * n:,} prompts)"
    return Case(title, shape.spec.name, n, tuple(methods), notes)


def _forward_methods(model: Any, tokens: torch.Tensor) -> list[Method]:
    n = len(tokens)
    chosen = [BATCH_SIZE, *([SMALL_BATCH_SIZE] if SMALL_BATCH_SIZE < n <= ALL_METHODS_UP_TO else [])]
    return [Method(f"{PLAIN}, {min(size, n)} at once", partial(plain_forward, model, tokens, size)) for size in chosen]


def _does_not_fit(n: int, fitting: int) -> str:
    return f"The tutorial way is not run on {n:,} prompts: the memory that is free holds about {fitting:,} of them."
