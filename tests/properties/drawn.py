"""Everything that the library draws at random, for one seed: as hashes, so that processes can be compared."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch

import maze_dla as dla

from .methods import flat

N_MAZES = 5


def everything_drawn(path: str, seed: int) -> dict[str, str]:
    """The hash of each result that a seed decides."""
    maze, gpt2 = _models(path)
    # a walk of a random model is long: a few steps show all
    rolled = maze.rollout(n_mazes=2, seed=seed, n_samples=2, temperature=1.0, max_steps=4)
    batch = maze.prompts(task="rand_path_token", n_mazes=N_MAZES, seed=seed)
    metric = dla.correct_vs_other(batch)
    vector = torch.linspace(-1, 1, maze.model.cfg.d_model)
    half = torch.arange(len(batch)) % 2
    results = {
        "prompts": batch,
        "rollout": rolled,
        "pairs": maze.pairs(task="first_path_choice", change="target", n_mazes=N_MAZES, seed=seed).corrupted,
        "ioi": dla.ioi_prompts(gpt2, 6, seed=seed),
        "ioi pairs": dla.ioi_pairs(gpt2, change="third_name", n_prompts=4, seed=seed).corrupted,
        "resampled": dla.ablate(maze, batch, metric, value="resample", seed=seed),
        "steered": dla.steer(maze, batch, metric, vector, layer=0, strengths=(1.0,), controls=2, seed=seed),
        "separable": dla.separability(
            maze, (batch, half.tolist()), folds=2, shuffles=2, random_models=1, seed=seed, site="resid_pre"
        ),
    }
    batches = maze.prompt_batches(n_mazes=4, batch_size=2, seed=seed)
    streamed = dla.stream(lambda part: dla.attribute(maze, part, dla.correct_vs_other(part)), batches)
    return {name: hashed(result) for name, result in {**results, "streamed": streamed}.items()}


@cache
def _models(path: str) -> tuple[Any, Any]:
    return dla.load_maze_model(path), dla.load_gpt2("bundled")


def hashed(result: Any) -> str:
    """A hash of every field, to the bit."""
    digest = hashlib.sha256()
    for name, value in sorted(flat(result).items()):
        digest.update(name.encode())
        digest.update(_bytes(value))
    return digest.hexdigest()


def _bytes(value: Any) -> bytes:
    if isinstance(value, torch.Tensor):
        return value.contiguous().numpy().tobytes()
    if isinstance(value, Mapping):
        return b"".join(str(name).encode() + _bytes(held) for name, held in value.items())
    return json.dumps(value, default=_plain).encode()


def _plain(value: Any) -> Any:
    """A list of what is one; of models and tokenizers their kind."""
    return list(value) if isinstance(value, Sequence) else type(value).__name__


def in_a_new_process(path: str, seeds: list[int]) -> list[dict[str, str]]:
    """The same where nothing has run before, and where whatever is global has another seed."""
    torch.set_num_threads(1)
    disturb(99)
    before = global_states()
    found = [everything_drawn(path, seed) for seed in reversed(seeds)][::-1]
    if global_states() != before:
        raise AssertionError("a global generator was touched")
    return found


def disturb(seed: int) -> None:
    """Seed all global generators."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)


def global_states() -> tuple[Any, ...]:
    """What all global generators are at."""
    name, keys, *rest = np.random.get_state()  # noqa: NPY002
    return random.getstate(), name, tuple(keys), tuple(rest), tuple(torch.get_rng_state().tolist())
