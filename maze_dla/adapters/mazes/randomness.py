"""Seeds for libraries that draw from the global generators."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed Python's, numpy's and maze-dataset's global generators for a while; afterwards they are as they were."""
    state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    own = getattr(sys.modules.get("maze_dataset.generation.generators"), "_NUMPY_RNG", None)  # since 1.0
    own_state = None if own is None else own.bit_generator.state
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 (maze-dataset draws from the global generator)
    if own is not None:
        own.bit_generator.state = np.random.default_rng(seed % 2**32).bit_generator.state
    try:
        yield
    finally:
        if own is not None:
            own.bit_generator.state = own_state
        random.setstate(state)
        np.random.set_state(numpy_state)  # noqa: NPY002
