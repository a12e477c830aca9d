"""maze-dataset as it runs by itself: with global generators, which are seeded here and restored."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from maze_dla.adapters.mazes.randomness import own_generator


@contextmanager
def globally_seeded(seed: int) -> Iterator[None]:
    """Python's, numpy's and maze-dataset's global generators seeded for a while."""
    python, numpy, own = random.getstate(), np.random.get_state(), own_generator()  # noqa: NPY002
    state = None if own is None else own.bit_generator.state
    deterministic = torch.are_deterministic_algorithms_enabled()
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    if own is not None:
        own.bit_generator.state = np.random.default_rng(seed).bit_generator.state
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        if own is not None:
            own.bit_generator.state = state
        torch.use_deterministic_algorithms(deterministic)
