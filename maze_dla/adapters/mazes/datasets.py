"""Mazes as tokens: generated as the checkpoint's own were, read from a saved data set, or given as token lists."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from maze_dla.adapters.mazes.library import import_maze_dataset, solved_maze, with_its_format_key
from maze_dla.adapters.mazes.plain import PlainMaze, as_depth_first, draw, writer_like
from maze_dla.adapters.mazes.randomness import global_state_kept, seeded
from maze_dla.adapters.mazes.vocabulary import MazeVocabulary
from maze_dla.container import read_container
from maze_dla.errors import DatasetError, InputError

TokenLists = list[list[str]]
GENERATION_ROUNDS = 6
SAMPLE = 4  # mazes that maze-dataset makes and writes itself, to compare with
MOST_TRIES = 50  # mazes generated for each one that passes the config's filters


@dataclass(frozen=True)
class MazeSource:
    """Mazes with their paths, which `tokens(first, behind, seed)` writes as lists of tokens, any part of them.

    The seed is that of generated mazes and of the order in which adjacency lists are written.
    """

    n_mazes: int
    tokens: Callable[[int, int, int], TokenLists]
    name: str | None = None

    def origin(self, seed: int) -> str:
        """Where the mazes come from."""
        return self.name if self.name is not None else f"generated, seed {seed}"


def maze_source(source: Any, vocabulary: MazeVocabulary, config: Mapping[str, Any], n_mazes: int | None) -> MazeSource:
    """Where mazes come from; given ones are read and checked here, others are generated when they are asked for.

    Args:
        source: None (generate), the path of a `.zanj` data set, a `MazeDataset`, or token lists (each a list of
            tokens or one string with spaces).
        vocabulary: its tokenizer writes the mazes of a data set.
        config: the data set's config in the checkpoint, for generating more of the same.
        n_mazes: how many; None for 100 generated ones, or all that are given.

    Raises:
        InputError: fewer than one maze asked for, or something that is no source of mazes.
        DatasetError: a file that is no data set, an empty one, or a tokenizer that is not known.
    """
    if n_mazes is not None and n_mazes < 1:
        raise InputError(f"n_mazes is at least 1, got {n_mazes}")
    is_file = isinstance(source, str | Path) and not _is_text(source)
    if source is not None and not is_file and not hasattr(source, "mazes"):
        lists = _first(_token_lists(source), n_mazes)
        return MazeSource(len(lists), lambda first, behind, seed: lists[first:behind], "token lists")
    if source is None:
        tokenizer = _tokenizer(vocabulary)
        return MazeSource(n_mazes or 100, lambda first, behind, seed: _made(config, tokenizer, behind - first, seed))
    if isinstance(source, str | Path):
        given, name = read_dataset(source), Path(source).name
    else:
        given, name = list(source.mazes), str(getattr(getattr(source, "cfg", None), "name", "data set"))
    mazes = _first(given, n_mazes)
    tokenizer = _tokenizer(vocabulary)
    return MazeSource(len(mazes), lambda first, behind, seed: _written(mazes[first:behind], tokenizer, seed), name)


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
        kept = _filters(base)
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


def _filters(config: Mapping[str, Any]) -> list[Any]:
    """The filters that can throw a maze away."""
    filters = config.get("applied_filters") or []
    return [f for f in filters if not isinstance(f, Mapping) or f.get("name") != "collect_generation_meta"]


def _made(config: Mapping[str, Any], tokenizer: Any, n_mazes: int, seed: int) -> TokenLists:
    """Generated mazes: drawn by ourselves where those are, maze for maze, the ones that maze-dataset generates."""
    kind = as_depth_first(config)
    if kind is None or _filters(config) or n_mazes <= SAMPLE:
        return _written(_generate(config, n_mazes, seed), tokenizer, seed)
    sample = _generate(config, SAMPLE, seed)
    with seeded(seed):
        bar = tqdm(range(n_mazes), desc="generating mazes", unit="maze", disable=None, delay=2, leave=False)
        mazes = [draw(kind) for _ in bar]
    if mazes[:SAMPLE] != [PlainMaze.of(maze) for maze in sample]:
        return _written(_generate(config, n_mazes, seed), tokenizer, seed)
    if (write := _writer(sample, tokenizer, seed)) is not None:
        with seeded(seed):
            return [write(maze) for maze in mazes]
    return _written_by_library([solved_maze(*maze.arrays(kind.grid_n)) for maze in mazes], tokenizer, seed)


def _written(mazes: Sequence[Any], tokenizer: Any, seed: int) -> TokenLists:
    """Mazes of maze-dataset as tokens, written by ourselves where those are, token for token, the ones it writes."""
    write = None if len(mazes) <= SAMPLE else _writer(mazes[:SAMPLE], tokenizer, seed)
    if write is None:
        return _written_by_library(mazes, tokenizer, seed)
    with seeded(seed):
        return [write(PlainMaze.of(maze)) for maze in mazes]


def _writer(mazes: Sequence[Any], tokenizer: Any, seed: int) -> Callable[[PlainMaze], list[str]] | None:
    """What writes as the tokenizer does, once it has written these mazes so."""
    write = writer_like(tokenizer)
    if write is None:
        return None
    with seeded(seed):
        ours = [write(PlainMaze.of(maze)) for maze in mazes]
    return write if ours == _written_by_library(mazes, tokenizer, seed) else None


def _written_by_library(mazes: Sequence[Any], tokenizer: Any, seed: int) -> TokenLists:
    with seeded(seed):  # the order of an adjacency list is random
        return [list(maze.as_tokens(tokenizer)) for maze in mazes]


def _tokenizer(vocabulary: MazeVocabulary) -> Any:
    """The vocabulary's tokenizer.

    Raises:
        DatasetError: there is none.
    """
    if vocabulary.tokenizer is None:
        raise DatasetError(
            "this version of maze-dataset does not know the checkpoint's tokenizer and cannot write mazes with it: "
            "give token lists, or install maze-dataset 1.0 or later"
        )
    return vocabulary.tokenizer


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
