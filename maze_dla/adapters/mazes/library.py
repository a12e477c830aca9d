"""The installed maze-dataset: what differs between its versions is known here and nowhere else."""

from __future__ import annotations

import warnings
from typing import Any

from maze_dla.container import NEW_KEY, OLD_KEY, rename_format_keys


def import_maze_dataset() -> Any:
    """maze-dataset, without its warning about a part that is not used here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import maze_dataset
        import maze_dataset.tokenization
    return maze_dataset


def has_modular_tokenizers() -> bool:
    """Whether it knows the tokenizers of 2024; before 1.0 it does not."""
    return hasattr(import_maze_dataset().tokenization, "MazeTokenizerModular")


def legacy_tokenizer(mode: str, max_grid_size: int | None) -> Any:
    """Its tokenizer of a mode, for lattices up to a size."""
    tokenization = import_maze_dataset().tokenization
    return tokenization.MazeTokenizer(
        tokenization_mode=tokenization.TokenizationMode[mode], max_grid_size=max_grid_size
    )  # fmt: skip


def solved_maze(connection_list: Any, solution: Any) -> Any:
    """Its maze with a path, from the arrays that it keeps them in."""
    return import_maze_dataset().SolvedMaze(connection_list=connection_list, solution=solution)


def with_its_format_key(item: Any) -> Any:
    """JSON from a `.zanj` file with the format key under the name that the installed libraries look for."""
    from muutils.json_serialize import util

    key = getattr(util, "_FORMAT_KEY", OLD_KEY)  # muutils before 0.8 has no name for it
    return rename_format_keys(item, NEW_KEY, key) if key != NEW_KEY else item
