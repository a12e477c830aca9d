"""Good maze files, and files that are damaged in ways that have a message of their own."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from maze_dla.adapters.mazes.library import has_modular_tokenizers, import_maze_dataset
from tests.adapters.mazes.small_files import (
    NEW,
    OLD,
    VOCABULARY,
    ZanjFile,
    damaged,
    inline_tensor,
    npy,
    random_state,
    small_checkpoint,
    small_tokenizer,
)
from tests.adapters.mazes.test_drawn import DRAWING, TOKENS
from tests.readers.maze_files import new_run, saved_run
from tests.readers.mutations import zip_of

RECORDED = Path(__file__).parents[1] / "stacks/data"
FORMS = ("full", "minimal", "minimal_soln_cat")


def bytes_of(file: ZanjFile) -> bytes:
    text = {"__zanj_meta__.json": b"{}", "__zanj__.json": json.dumps(file.main).encode()}
    return zip_of({**text, **file.members})


def checkpoint(**changes: Any) -> bytes:
    """The small checkpoint with entries of its config changed, as `damaged` does."""
    return bytes_of(damaged(**changes))


def with_tokenizer(**changes: Any) -> bytes:
    return bytes_of(small_checkpoint(tokenizer=small_tokenizer() | changes))


def with_weight(name: str, values: np.ndarray, **changes: Any) -> bytes:
    file = damaged(**changes)
    file.external(name, npy(values))
    return bytes_of(file)


def of_2024() -> bytes:
    """A checkpoint with a saved `MazeTokenizerModular`, with all its parts where the installed library has them."""
    tokenizer: Any = {OLD: "MazeTokenizerModular(SerializableDataclass)"}
    if has_modular_tokenizers():
        from muutils.json_serialize import json_serialize

        tokenizer = json_serialize(import_maze_dataset().tokenization.MazeTokenizerModular())
    return bytes_of(small_checkpoint(random_state(4096), key=NEW, tokenizer=tokenizer))


CONNECTIONS = np.zeros((2, 2, 2), dtype=bool)
CONNECTIONS[0, 0, 0] = CONNECTIONS[1, 0, 0] = True
PATH = np.array([[1, 0], [0, 0], [0, 1]])


def array(values: np.ndarray) -> dict[str, Any]:
    item = inline_tensor(values, NEW)
    return item | {NEW: "numpy.ndarray:array_list_meta"}


def saved_maze(**changes: Any) -> dict[str, Any]:
    maze = {NEW: "SolvedMaze(SerializableDataclass)", "connection_list": array(CONNECTIONS), "solution": array(PATH)}
    return maze | {"generation_meta": None} | changes


def data_set(mazes: Any = None, **config: Any) -> bytes:
    mazes = [saved_maze()] if mazes is None else mazes
    main = {NEW: "MazeDataset", "cfg": {"n_mazes": 1, "grid_n": 2, **config}, "mazes": mazes}
    return bytes_of(ZanjFile(main | {"generation_metadata_collected": None}))


def joined(connections: np.ndarray, lengths: np.ndarray, path: np.ndarray) -> bytes:
    """Mazes as arrays of all of them."""
    arrays = {"maze_connection_lists": connections, "maze_solution_lengths": lengths, "maze_solutions_concat": path}
    main: dict[str, Any] = {NEW: "MazeDataset:minimal_soln_cat", "generation_metadata_collected": None}
    main["cfg"] = {"n_mazes": len(connections), "grid_n": connections.shape[-1]}
    main |= {name: {NEW: "numpy.ndarray:external", "$ref": f"{name}.npy"} for name in arrays}
    return bytes_of(ZanjFile(main, {f"{name}.npy": npy(values) for name, values in arrays.items()}))


def changed_state(change: Callable[[dict[str, Any]], Any]) -> bytes:
    content = torch.load(io.BytesIO(saved_run(new_run(1, 2))), weights_only=True)
    change(content)
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def endless() -> torch.Tensor:
    """A tensor of 4 GB in a file of a few KB."""
    return torch.zeros(1).expand(10**9)


GOOD: dict[str, tuple[str, bytes]] = {
    "checkpoint of 2023": ("checkpoint", checkpoint()),
    "checkpoint with a tokenizer": ("checkpoint", with_tokenizer()),
    "checkpoint of 2024": ("checkpoint", of_2024()),
    **{f"dataset {form}": ("dataset", (RECORDED / f"dataset-newest-{form}.zanj").read_bytes()) for form in FORMS},
    "dataset classic": ("dataset", (RECORDED / "dataset-classic-full.zanj").read_bytes()),
    "drawing": ("text", DRAWING.encode()),
    "tokens": ("text", TOKENS.encode()),
    "state": ("state", saved_run(new_run(1, 2))),
}

LONG_CELL = f"({'9' * 5000},1)"
STATE = "no state of such a run"
CASES: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "a million layers": (
        "checkpoint",
        lambda: checkpoint(model_cfg__n_layers=10**6),
        "n_layers is 1000000, state_dict holds 38 weights",
    ),
    "a thousand layers": ("checkpoint", lambda: checkpoint(model_cfg__n_layers=1000), "n_layers is 1000, "),
    "layers and a half": (
        "checkpoint",
        lambda: checkpoint(model_cfg__n_layers=2.5),
        "n_layers is 2.5, expected a whole",
    ),
    "true layers": ("checkpoint", lambda: checkpoint(model_cfg__n_layers=True), "n_layers is True, expected a whole"),
    "a huge width": (
        "checkpoint",
        lambda: checkpoint(model_cfg__d_model=10**4000),
        "d_model is a number of 13288 bits",
    ),
    "a lattice of a million": (
        "checkpoint",
        lambda: checkpoint(dataset_cfg__grid_n=10**6),
        "grid_n is 1000000, expected a whole number from 1 to 4",
    ),
    "a negative lattice": ("checkpoint", lambda: checkpoint(dataset_cfg__grid_n=-5), "grid_n is -5, expected"),
    "a tokenizer of a million": (
        "checkpoint",
        lambda: with_tokenizer(max_grid_size=10**6),
        "maze_tokenizer.max_grid_size is 1000000, expected a whole number from 1 to 4",
    ),
    "a negative tokenizer": ("checkpoint", lambda: with_tokenizer(max_grid_size=-5), "max_grid_size is -5, expected"),
    "a tokenizer's text": ("checkpoint", lambda: with_tokenizer(max_grid_size="3"), "max_grid_size is '3', expected"),
    "no neurons": (
        "checkpoint",
        lambda: with_weight("blocks.0.mlp.W_in", np.zeros((16, 0), "f4")),
        "blocks.0.mlp.W_in has shape (16, 0), expected sizes of 1 and more",
    ),
    "attention masks of gigabytes": (
        "checkpoint",
        lambda: with_weight("pos_embed.W_pos", np.zeros((60_000, 16), "f4"), dataset_cfg__seq_len_max=60_000),
        "seq_len_max 60000 make attention masks of 7200000000 numbers, at most 67108864 are made",
    ),
    "a million tokens": (
        "checkpoint",
        lambda: checkpoint(dataset_cfg__token_arr=[f"t{i}" for i in range(500_000)] * 2),
        "the vocabulary has 1000000 tokens, embed.W_E has 20 rows",
    ),
    "a cell of 5,000 digits": (
        "checkpoint",
        lambda: checkpoint(dataset_cfg__token_arr=[LONG_CELL, *VOCABULARY[1:]]),
        "it has 5004 characters, at most 1000 are read",
    ),
    "a cell far away": (
        "checkpoint",
        lambda: checkpoint(dataset_cfg__token_arr=["(1000,1)", *VOCABULARY[1:]]),
        "no lattice has cells beyond 999",
    ),
    "a token that is a list": (
        "checkpoint",
        lambda: checkpoint(dataset_cfg__token_arr=[["a"], *VOCABULARY[1:]]),
        "token_arr has ['a'] as token 0: expected a text",
    ),
    "half a character": (
        "checkpoint",
        lambda: checkpoint(dataset_cfg__token_arr=[*VOCABULARY[:-1], "\ud800"]),
        "as token 19: it has characters that cannot be printed",
    ),
    "a name of 5,000 characters": ("checkpoint", lambda: checkpoint(name="x" * 5000), "name has 5000 characters"),
    "a long activation": ("checkpoint", lambda: checkpoint(model_cfg__act_fn="x" * 10**5), "unknown activation 'xxx"),
    "a maze that is text": ("dataset", lambda: data_set(mazes=["maze"]), "maze 0 is 'maze', expected a SolvedMaze"),
    "a maze that is nothing": ("dataset", lambda: data_set(mazes=[None]), "maze 0 is None, expected a SolvedMaze"),
    "a maze that is empty": ("dataset", lambda: data_set(mazes=[{}]), "maze 0 is None, expected a SolvedMaze"),
    "a maze of another class": (
        "dataset",
        lambda: data_set(mazes=[saved_maze(**{NEW: "MazeDatasetConfig(SerializableDataclass)"})]),
        "maze 0 is MazeDatasetConfig(SerializableDataclass), expected a SolvedMaze",
    ),
    "mazes that are no list": ("dataset", lambda: data_set(mazes={"a": 1}), "mazes is no list"),
    "float connections": (
        "dataset",
        lambda: data_set(mazes=[saved_maze(connection_list=array(CONNECTIONS.astype(float)))]),
        "maze 0, its connection_list is of float64, expected true and false",
    ),
    "connections of three planes": (
        "dataset",
        lambda: data_set(mazes=[saved_maze(connection_list=array(np.zeros((3, 2, 2), bool)))]),
        "maze 0, its connection_list has shape (3, 2, 2), expected (2, 2, 2)",
    ),
    "connections that are text": (
        "dataset",
        lambda: data_set(mazes=[saved_maze(connection_list="none")]),
        "the connection_list of a maze is no array of numbers",
    ),
    "a path outside": (
        "dataset",
        lambda: data_set(mazes=[saved_maze(solution=array(PATH + np.array([[0, 0], [0, 2**40], [0, 0]])))]),
        "step 1: the path is at (0, 1099511627776), outside a lattice of (2, 2)",
    ),
    "a path of fractions": (
        "dataset",
        lambda: data_set(mazes=[saved_maze(solution=array(PATH + 0.5))]),
        "its path is of shape (3, 2) and float64",
    ),
    "a path through a wall": (
        "dataset",
        lambda: data_set(mazes=[saved_maze(solution=array(PATH[[1, 2]] + [1, 0]))]),
        "step 1: the path goes from (1,0) to (1,1), between which the maze has no passage",
    ),
    "a path that jumps": (
        "dataset",
        lambda: data_set(mazes=[saved_maze(solution=array(PATH[[0, 2]]))]),
        "step 1: the path goes from (1,0) to (0,1), which are no neighbours on the lattice",
    ),
    "more mazes than memory": (
        "dataset",
        lambda: data_set(n_mazes=10**4000),
        "cfg.n_mazes says a number of 13288 bits",
    ),
    "a data set's huge lattice": ("dataset", lambda: data_set(grid_n=10**9), "expected (2, 1000000000, 1000000000)"),
    "a data set's negative lattice": (
        "dataset",
        lambda: data_set(grid_n=-5),
        "has shape (2, 2, 2), expected (2, -5, -5)",
    ),
    "millions of mazes of one cell": (
        "dataset",
        lambda: joined(np.zeros((3 * 10**6, 2, 1, 1), bool), np.ones(3 * 10**6, "i1"), np.zeros((3 * 10**6, 2), "i1")),
        "3000000 mazes in a file of 0.0 MB, at most 10000 are read of one",
    ),
    "a path that stands still for ever": (
        "dataset",
        lambda: joined(CONNECTIONS[None], np.array([2 * 10**7]), np.zeros((2 * 10**7, 2), "i1")),
        "its path has 20000000 cells, the lattice has 4",
    ),
    "a lattice full of passages": (
        "dataset",
        lambda: joined(np.ones((1, 2, 4000, 4000), bool), np.array([1]), np.zeros((1, 2), "i1")),
        "has a passage that leads out of the lattice",
    ),
    "lengths beyond 63 bits": (
        "dataset",
        lambda: joined(CONNECTIONS[None][[0, 0]], np.array([2**64 - 1, 5], "u8"), np.zeros((4, 2), "i1")),
        "file.zanj: ",
    ),
    "a text's cell of 5,000 digits": (
        "text",
        lambda: TOKENS.replace("(2,2)", LONG_CELL).encode(),
        "... [5006 characters] ...",
    ),
    "a state of no numbers": (
        "state",
        lambda: changed_state(lambda c: c.update(step="2")),
        "its step is '2', expected",
    ),
    "a state without its generator": ("state", lambda: changed_state(lambda c: c.pop("rng")), STATE),
    "a state of a huge weight": (
        "state",
        lambda: changed_state(lambda c: c["model"].update({next(iter(c["model"])): endless()})),
        "of shape (",
    ),
    "a state of a huge moment": (
        "state",
        lambda: changed_state(lambda c: c["optimizer"]["state"][3].update(exp_avg=endless())),
        "its optimizer 3's exp_avg is",
    ),
    "a state of an endless rate": (
        "state",
        lambda: changed_state(lambda c: c["optimizer"]["param_groups"][0].update(lr=float("inf"))),
        "its optimizer's lr is inf",
    ),
    "a state of another generator": (
        "state",
        lambda: changed_state(lambda c: c["rng"].update(bit_generator="MT19937")),
        "its random generator's state is none of PCG64",
    ),
}
