"""Global state that libraries set: generators that they draw from, and what they change beside."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

CUBLAS = "CUBLAS_WORKSPACE_CONFIG"


@contextmanager
def global_state_kept() -> Iterator[None]:
    """Whatever is done to the global generators and to torch's determinism is undone afterwards.

    maze-dataset seeds all generators when it makes or reads a config; before 1.0 it also makes torch deterministic.
    """
    state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    own = own_generator()
    own_state = None if own is None else own.bit_generator.state
    deterministic = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    workspace = os.environ.get(CUBLAS)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.use_deterministic_algorithms(deterministic[0], warn_only=deterministic[1])
        os.environ.pop(CUBLAS, None)
        if workspace is not None:
            os.environ[CUBLAS] = workspace
        if own is not None:
            own.bit_generator.state = own_state
        random.setstate(state)
        np.random.set_state(numpy_state)  # noqa: NPY002


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed Python's, numpy's and maze-dataset's global generators for a while; afterwards they are as they were."""
    with global_state_kept():
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002 (maze-dataset draws from the global generator)
        if (own := own_generator()) is not None:
            own.bit_generator.state = np.random.default_rng(seed % 2**32).bit_generator.state
        yield


def own_generator() -> Any:
    """maze-dataset's own global generator, which it has since 1.0."""
    return getattr(sys.modules.get("maze_dataset.generation.generators"), "_NUMPY_RNG", None)
