"""The numbers of every prompt on disk, in Parquet files of one batch each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from maze_dla.errors import InputError, optional_module
from maze_dla.files import drafted, locked, output_folder
from maze_dla.results.base import PromptResult

NAME = "shard-{:05d}.parquet"


class ShardWriter:
    """Writes one file for each result into a folder that holds none yet.

    Columns are prompt (its number in the whole run), target, the columns of the prompts (maze, task, ... by which to
    cluster), correct and preferred where they are known, and one for each number that the result holds for every
    prompt; arrays are flattened into lists, shapes and labels stand in the schema's metadata under "maze_dla". What
    prompts have in different numbers (activations at all positions) are lists of different lengths.
    """

    def __init__(self, folder: Path) -> None:
        """Begin in a folder.

        Raises:
            InputError: it holds shards already.
        """
        self._folder = folder
        if old := sorted(folder.glob("*.parquet")):
            raise InputError(
                f"{folder}: holds {len(old)} shards already ({old[0].name}, ...), expected an empty folder"
            )
        self._n_files = self._n_prompts = 0

    @classmethod
    @contextmanager
    def open(cls, folder: str | Path) -> Iterator[ShardWriter]:
        """A writer into a folder, made if it is missing, which no other run can write into meanwhile.

        Raises:
            InputError: it is a file, cannot be written, holds shards already, or another run is writing into it.
        """
        with output_folder(folder) as place, locked(place):
            yield cls(place)

    def write(self, result: PromptResult) -> Path:
        """The result's prompts as one more file; it appears whole or not at all.

        Raises:
            InputError: the file cannot be written, or another run has written one of this name.
        """
        parquet = _pyarrow("pyarrow.parquet")
        file = self._folder / NAME.format(self._n_files)
        with drafted(file, is_new=True) as written:
            parquet.write_table(_table(result, self._n_prompts), written)
        self._n_files, self._n_prompts = self._n_files + 1, self._n_prompts + len(result)
        return file


def _table(result: PromptResult, first: int) -> Any:
    pa = _pyarrow("pyarrow")
    columns: dict[str, Any] = {
        "prompt": pa.array(range(first, first + len(result)), pa.int64()),
        "target": pa.array(result.targets, pa.string()),
    }
    numbers = result.per_prompt()
    own = {*columns, *numbers, *result.lists()}
    if taken := [name for name in result.columns if name in own]:
        raise InputError(f"shards have a number {taken[0]!r} of their own: give the column of that name another one")
    columns |= {name: pa.array(v.numpy() if isinstance(v, Tensor) else v) for name, v in result.columns.items()}
    answered = {"correct": result.correct, "preferred": result.preferred}
    columns |= {name: pa.array(values.numpy()) for name, values in answered.items() if values is not None}
    for name, values in numbers.items():
        values = values.float() if values.dtype == torch.bfloat16 else values  # which Parquet does not know
        flat = values.reshape(len(result), -1).numpy()
        one = pa.array(flat.reshape(-1))
        columns[name] = one if values.ndim == 1 else pa.FixedSizeListArray.from_arrays(one, flat.shape[1])
    for name, rows in result.lists().items():
        columns[name] = pa.array([row.flatten().numpy() for row in rows])
    described = {
        "shapes": {name: list(values.shape[1:]) for name, values in numbers.items()},
        "labels": result.axis_labels,
        "info": {key: str(value) for key, value in result.info.items()},
    }
    return pa.table(columns).replace_schema_metadata({"maze_dla": json.dumps(described)})


def _pyarrow(module: str) -> Any:
    """pyarrow, or one of its modules.

    Raises:
        MissingPackageError: it is not installed.
    """
    return optional_module(module, "Parquet files need pyarrow", "'pyarrow<26'")
