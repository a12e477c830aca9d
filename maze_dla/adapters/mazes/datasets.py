"""Mazes as tokens: generated as the checkpoint's own were, read from a saved data set, or given as token lists."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from maze_dla.adapters.mazes.library import import_maze_dataset, with_its_format_key
from maze_dla.adapters.mazes.randomness import global_state_kept, seeded
from maze_dla.adapters.mazes.vocabulary import MazeVocabulary
from maze_dla.container import read_container
from maze_dla.errors import DatasetError, InputError

TokenLists = list[list[str]]
GENERATION_ROUNDS = 6
MOST_TRIES = 50  # mazes generated for each one that passes the config's filters


def maze_tokens(
    source: Any, vocabulary: MazeVocabulary, config: Mapping[str, Any], n_mazes: int | None, seed: int
) -> tuple[TokenLists, str]:
    """Mazes with their paths as lists of tokens, and a name for where they come from.

    Args:
        source: None (generate), the path of a `.zanj` data set, a `MazeDataset`, or token lists (each a list of
            tokens or one string with spaces).
        vocabulary: its tokenizer writes the mazes of a data set.
        config: the data set's config in the checkpoint, for generating more of the same.
        n_mazes: how many; None for 100 generated ones, or all that are given.
        seed: of the generator, and of the order in which adjacency lists are written.

    Raises:
        InputError: fewer than one maze asked for, or something that is no source of mazes.
        DatasetError: a file that is no data set, an empty one, or a config that cannot be generated from.
    """
    if n_mazes is not None and n_mazes < 1:
        raise InputError(f"n_mazes is at least 1, got {n_mazes}")
    if source is None:
        return _written(_generate(config, n_mazes or 100, seed), vocabulary, seed), f"generated, seed {seed}"
    if isinstance(source, str | Path) and not _is_text(source):
        return _written(_first(read_dataset(source), n_mazes), vocabulary, seed), Path(source).name
    if (mazes := getattr(source, "mazes", None)) is not None:
        name = getattr(getattr(source, "cfg", None), "name", "data set")
        return _written(_first(list(mazes), n_mazes), vocabulary, seed), str(name)
    return _first(_token_lists(source), n_mazes), "token lists"


def read_dataset(path: str | Path) -> list[Any]:
    """The mazes of a saved `.zanj` data set, written by any version of maze-dataset.

    Raises:
        DatasetError: not a data set of mazes, or one that maze-dataset refuses.
    """
    content = read_container(path, DatasetError)
    if "cfg" not in content or not ({"mazes", "maze_connection_lists"} & set(content)):
        raise DatasetError(f"{path}: no saved data set of mazes, it holds {', '.join(content)}")
    try:
        library = import_maze_dataset()
        with global_state_kept(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about a seed of the data set's own
            return list(library.MazeDataset.load(with_its_format_key(content)).mazes)
    except Exception as problem:  # maze-dataset raises whatever a damaged field leads to
        raise DatasetError(f"{path}: maze-dataset cannot load it ({type(problem).__name__}: {problem})") from problem


def _generate(config: Mapping[str, Any], n_mazes: int, seed: int) -> list[Any]:
    """Mazes of the config's kind; its filters may throw some away, so ask for more until there are enough."""
    library = import_maze_dataset()
    try:
        base = dict(config)
        kept = [f for f in base.get("applied_filters", []) if f.get("name") != "collect_generation_meta"]
        wanted = n_mazes
        mazes: list[Any] = []
        for _ in range(GENERATION_ROUNDS):
            with seeded(seed), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about a seed of our own
                cfg = library.MazeDatasetConfig.load(
                    with_its_format_key({**base, "applied_filters": kept, "n_mazes": wanted, "seed": seed})
                )
                made = library.MazeDataset.from_config(
                    cfg, load_local=False, save_local=False, do_download=False, do_generate=True, verbose=False
                )
            mazes = list(made.mazes)
            if len(mazes) >= n_mazes:
                return mazes[:n_mazes]
            wanted = min(int(1.2 * wanted * n_mazes / max(len(mazes), 1)) + 1, MOST_TRIES * n_mazes)
    except Exception as problem:  # maze-dataset raises whatever an unknown config leads to
        raise DatasetError(f"the checkpoint's data set config cannot be generated from ({problem})") from problem
    raise DatasetError(f"only {len(mazes)} of {wanted} mazes pass the config's filters, {n_mazes} were asked for")


def _written(mazes: Sequence[Any], vocabulary: MazeVocabulary, seed: int) -> TokenLists:
    if vocabulary.tokenizer is None:
        raise DatasetError(
            "this version of maze-dataset does not know the checkpoint's tokenizer and cannot write mazes with it: "
            "give token lists, or install maze-dataset 1.0 or later"
        )
    with seeded(seed):  # the order of an adjacency list is random
        return [list(maze.as_tokens(vocabulary.tokenizer)) for maze in mazes]


def _first(mazes: list[Any], n_mazes: int | None) -> list[Any]:
    if not mazes:
        raise DatasetError("the data set holds no mazes, expected at least one")
    if n_mazes is not None and n_mazes > len(mazes):
        raise InputError(f"{n_mazes} mazes asked for, the data set holds {len(mazes)}")
    return mazes[:n_mazes]


def _token_lists(source: Any) -> TokenLists:
    items = [source] if isinstance(source, str) else source
    if isinstance(items, Sequence) and len(items) > 1 and all(isinstance(i, str) and " " not in i for i in items):
        raise InputError("a list of single tokens is one maze: wrap it in a list, or join the tokens with spaces")
    if not isinstance(items, Sequence):
        raise InputError(f"mazes come from a data set, its file or token lists, got {type(source).__name__}")
    if strange := [i for i, item in enumerate(items) if not isinstance(item, Sequence)]:
        kind = type(items[strange[0]]).__name__
        raise InputError(f"prompt {strange[0]}: expected a string or a list of tokens, got {kind}")
    lists = [item.split() if isinstance(item, str) else list(item) for item in items]
    if wrong := [i for i, tokens in enumerate(lists) if not all(isinstance(t, str) for t in tokens)]:
        kind = next(type(t).__name__ for t in lists[wrong[0]] if not isinstance(t, str))
        raise InputError(f"prompt {wrong[0]}: expected tokens as strings, got {kind}")
    return lists


def _is_text(source: str | Path) -> bool:
    return isinstance(source, str) and "<" in source
