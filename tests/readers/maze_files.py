"""The readers of maze files for the worker: each gives a digest of the content, the same for the same content."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from maze_dla.adapters.mazes.checkpoint import read_checkpoint
from maze_dla.adapters.mazes.datasets import maze_supply
from maze_dla.adapters.mazes.library import import_maze_dataset, legacy_tokenizer
from maze_dla.adapters.mazes.saved import read_dataset
from maze_dla.adapters.mazes.vocabulary import MazeVocabulary
from maze_dla.errors import MazeDlaError
from maze_dla.training.mazes.decoder import Decoder, DecoderConfig
from maze_dla.training.mazes.loop import TrainingPlan, TrainingState

TOKENIZER = legacy_tokenizer("AOTP_UT_uniform", 5)
VOCABULARY = MazeVocabulary(tuple(TOKENIZER.token_arr), TOKENIZER)
import_maze_dataset()  # so that no file pays for it


def read(path: Path) -> str:
    """The digest of a file, read as its folder's name says."""
    return READERS[path.parent.name](path)


def checkpoint(path: Path) -> str:
    found = read_checkpoint(path)
    weights = [found.state[name].numpy() for name in sorted(found.state)]
    return digest((found.spec, found.vocabulary.tokens, found.dataset_config["grid_n"]), weights)


def dataset(path: Path) -> str:
    mazes = read_dataset(path)
    return digest(len(mazes), (np.asarray(a, dtype=int) for m in mazes for a in (m.connection_list, m.solution)))


def text(path: Path) -> str:
    """Drawings and tokens as a caller gives them."""
    given = path.read_bytes().decode(errors="surrogateescape")
    supply = maze_supply(given, VOCABULARY, {}, None)
    lists = supply.tokens(0, supply.n_mazes, 0)
    return digest([VOCABULARY.encode(tokens, "prompt 0") for tokens in lists], ())


def state(path: Path) -> str:
    """A saved state of training; a refused one leaves the run as it was."""
    run = new_run()
    before = digest_of_run(run)
    try:
        run.restore(path)
    except MazeDlaError:
        if digest_of_run(run) != before:
            raise RuntimeError("half of the state was restored") from None
        raise
    return digest_of_run(run)


def new_run(seed: int = 0, steps: int = 0) -> TrainingState:
    """A run of a tiny model after some steps."""
    torch.manual_seed(seed)
    run = TrainingState.start(Decoder(DecoderConfig(1, 8, 4, 12, 16)), TrainingPlan(seed=seed))
    for _ in range(steps):
        run.optimizer.zero_grad()
        torch.stack([p.square().sum() for p in run.model.parameters()]).sum().backward()
        run.optimizer.step()
        run.rng.random()
        run.step += 1
    return run


def saved_run(run: TrainingState) -> bytes:
    with TemporaryDirectory() as folder:
        run.save(Path(folder) / "state.pt")
        return (Path(folder) / "state.pt").read_bytes()


def digest_of_run(run: TrainingState) -> str:
    kept: Any = SimpleNamespace(**run.optimizer.state_dict())
    numbers = [*run.model.state_dict().values(), *(v for weight in kept.state.values() for v in weight.values())]
    return digest((run.step, run.rng.bit_generator.state, kept.param_groups), (n.numpy() for n in numbers))


def digest(said: Any, arrays: Iterable[np.ndarray]) -> str:
    found = hashlib.sha256(repr(said).encode(errors="surrogateescape"))
    for array in arrays:
        found.update(f"{array.shape} {array.dtype}".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


READERS: dict[str, Callable[[Path], str]] = {
    "checkpoint": checkpoint,
    "dataset": dataset,
    "text": text,
    "state": state,
}
