"""Mazes as tokens: generated as the checkpoint's own were, read from a saved data set, or given as token lists."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from maze_dla.adapters.mazes.drawn import drawn_maze, is_drawn
from maze_dla.adapters.mazes.fast_dfs import (
    DepthFirst,
    TupleMaze,
    as_depth_first,
    draw,
    order_like,
    walks_cell_by_cell,
    write,
)
from maze_dla.adapters.mazes.lattice import MazeText
from maze_dla.adapters.mazes.library import generate, solved_maze, tokens_of
from maze_dla.adapters.mazes.randomness import Generators
from maze_dla.adapters.mazes.saved import maze_fault, read_dataset
from maze_dla.adapters.mazes.vocabulary import MazeVocabulary
from maze_dla.errors import DatasetError, InputError, PromptError, shortened, visible

TokenLists = list[list[str]]
N_GENERATED = 100  # mazes, where nothing else is said
GENERATION_ROUNDS = 6
SAMPLE = 4  # mazes that maze-dataset makes and writes itself, to compare with
MOST_TRIES = 50  # mazes generated for each one that passes the config's filters
ENDING = ".zanj"  # of a data set's file
LONG = 5000  # mazes whose generation may show a progress bar


@dataclass(frozen=True)
class MazeSupply:
    """Mazes with their paths, which `tokens(first, stop, seed)` writes as lists of tokens, any part of them.

    The seed is that of generated mazes and of the order in which adjacency lists are written.
    """

    n_mazes: int
    tokens: Callable[[int, int, int], TokenLists]
    name: str | None = None

    def origin(self, seed: int) -> str:
        """Where the mazes come from."""
        return self.name if self.name is not None else f"generated, seed {seed}"


def maze_supply(given: Any, vocabulary: MazeVocabulary, config: Mapping[str, Any], n_mazes: int | None) -> MazeSupply:
    """Where mazes come from; given ones are read and checked here, others are generated when they are asked for.

    Args:
        given: None (generate), the path of a `.zanj` data set, a `MazeDataset`, a `SolvedMaze` or a drawing or a list
            of them, or token lists (each a list of tokens or one string with spaces).
        vocabulary: its tokenizer writes the mazes of a data set.
        config: the data set's config in the checkpoint, for generating more of the same.
        n_mazes: how many; None for 100 generated ones, or all that are given.

    Raises:
        InputError: fewer than one maze asked for, or something that is no origin of mazes.
        DatasetError: a file that is no data set, an empty one, one that contradicts itself, mazes whose paths jump or
            cross walls, or a tokenizer that is not known.
        PromptError: token lists whose paths jump or cross walls, or begin or end elsewhere than the text says.
    """
    if n_mazes is not None and n_mazes < 1:
        raise InputError(f"n_mazes is at least 1, got {n_mazes}")
    if given is None:
        tokenizer = _tokenizer(vocabulary)
        return MazeSupply(
            n_mazes or N_GENERATED, lambda first, stop, seed: _made(config, tokenizer, stop - first, seed)
        )
    solved = _solved_mazes(given)
    if solved is None:
        lists = _first(_token_lists(given), n_mazes)
        _check_texts(lists, vocabulary)
        return MazeSupply(len(lists), lambda first, stop, seed: lists[first:stop], "token lists")
    mazes, name = _first(solved[0], n_mazes), solved[1]
    tokenizer = _tokenizer(vocabulary)
    return MazeSupply(len(mazes), lambda first, stop, seed: _written(mazes[first:stop], tokenizer, seed), name)


def _solved_mazes(given: Any) -> tuple[list[Any], str] | None:
    """Mazes of maze-dataset's class with their paths, and what they are called; None for anything else."""
    if isinstance(given, Path) or (isinstance(given, str) and _is_file_name(given)):
        return read_dataset(given), visible(Path(given).name)
    if (drawn := _drawn_mazes(given)) is not None:
        return drawn, "drawn mazes"
    if isinstance(given, str):
        return None
    if hasattr(given, "mazes"):
        name = str(getattr(getattr(given, "cfg", None), "name", "data set"))
        return _checked(list(given.mazes), name), name
    mazes = [given] if _is_maze(given) else given
    if isinstance(mazes, Sequence) and any(map(_is_maze, mazes)):
        return _checked(list(mazes), "solved mazes"), "solved mazes"
    return None


def _drawn_mazes(given: Any) -> list[Any] | None:
    """Mazes drawn as text, alone or in a list of nothing but drawings and mazes of maze-dataset's class; else None."""
    items = [given] if isinstance(given, str) else given
    if not isinstance(items, Sequence) or not any(map(is_drawn, items)):
        return None
    if strange := [i for i, item in enumerate(items) if not (is_drawn(item) or _is_maze(item))]:
        raise InputError(f"maze {strange[0]}: expected a drawing or a SolvedMaze, as the others are")
    return _checked([drawn_maze(item) if is_drawn(item) else item for item in items], "drawn mazes")


def _checked(mazes: list[Any], name: str) -> list[Any]:
    """The same mazes, each with a path that leads through it.

    Raises:
        InputError: something among them that is no maze or has no path.
        DatasetError: a path that jumps or crosses a wall, or arrays that fit no lattice; naming the maze and the step.
    """
    for i, maze in enumerate(mazes):
        if not _is_maze(maze) or getattr(maze, "solution", None) is None:
            seen = f"a {type(maze).__name__} without a path" if _is_maze(maze) else f"got {type(maze).__name__}"
            raise InputError(f"maze {i}: {seen}, expected a SolvedMaze")
        if (fault := maze_fault(maze)) is not None:
            raise DatasetError(f"{shortened(name)}: maze {i}, {fault}")
    return mazes


def _is_maze(item: Any) -> bool:
    return hasattr(item, "connection_list")


def _check_texts(lists: TokenLists, vocabulary: MazeVocabulary) -> None:
    """Refuse paths that no walk through the maze can be, where texts name each cell of the path.

    A text with a token that the vocabulary lacks is refused for that, when it is encoded.

    Raises:
        PromptError: naming the prompt and the step.
    """
    if not walks_cell_by_cell(vocabulary.tokenizer):
        return
    for i, tokens in enumerate(lists):
        if vocabulary.ids.keys() >= set(tokens) and (fault := MazeText(tuple(tokens)).fault()) is not None:
            raise PromptError(f"prompt {i}, {fault}")


def _generate(config: Mapping[str, Any], n_mazes: int, seed: int) -> list[Any]:
    """Mazes of the config's kind; its filters may throw some away, so ask for more until there are enough."""
    wanted, mazes = n_mazes, []
    try:
        asked = {**config, "applied_filters": _filters(config)}
        for _ in range(GENERATION_ROUNDS):
            mazes = generate(asked, wanted, seed)
            if len(mazes) >= n_mazes:
                return mazes[:n_mazes]
            wanted = min(int(1.2 * wanted * n_mazes / max(len(mazes), 1)) + 1, MOST_TRIES * n_mazes)
    except Exception as problem:  # maze-dataset raises whatever an unknown config leads to
        reason = shortened(problem)
        raise DatasetError(f"the checkpoint's data set config cannot be generated from ({reason})") from problem
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
    mazes = _drawn(kind, n_mazes, seed)
    if mazes[:SAMPLE] != [TupleMaze.of(maze) for maze in sample]:
        return _written(_generate(config, n_mazes, seed), tokenizer, seed)
    if (fast := _fast_writer(sample, tokenizer, seed)) is not None:
        return fast(mazes)
    return tokens_of([solved_maze(*maze.arrays(kind.grid_n)) for maze in mazes], tokenizer, seed)


def _drawn(kind: DepthFirst, n_mazes: int, seed: int) -> list[TupleMaze]:
    generators, numbers = Generators.seeded(seed), range(n_mazes)
    bar = numbers
    if n_mazes >= LONG:
        bar = tqdm(numbers, desc="generating mazes", unit="maze", disable=None, delay=2, leave=False)
    return [draw(kind, generators) for _ in bar]


def _written(mazes: Sequence[Any], tokenizer: Any, seed: int) -> TokenLists:
    """Mazes of maze-dataset as tokens, written by ourselves where those are, token for token, the ones it writes."""
    fast = None if len(mazes) <= SAMPLE else _fast_writer(mazes[:SAMPLE], tokenizer, seed)
    return tokens_of(mazes, tokenizer, seed) if fast is None else fast(map(TupleMaze.of, mazes))


def _fast_writer(mazes: Sequence[Any], tokenizer: Any, seed: int) -> Callable[[Iterable[TupleMaze]], TokenLists] | None:
    """A fast writer for a tokenizer, returned only if it writes these mazes as the tokenizer does."""
    order = order_like(tokenizer)
    if order is None:
        return None

    def fast(tuples: Iterable[TupleMaze]) -> TokenLists:
        generators = Generators.seeded(seed)
        return [write(maze, order(maze, generators)) for maze in tuples]

    return fast if fast(map(TupleMaze.of, mazes)) == tokens_of(mazes, tokenizer, seed) else None


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


def _token_lists(given: Any) -> TokenLists:
    items = [given] if isinstance(given, str) else given
    if isinstance(items, Sequence) and len(items) > 1 and all(isinstance(i, str) and " " not in i for i in items):
        raise InputError("a list of single tokens is one maze: wrap it in a list, or join the tokens with spaces")
    if not isinstance(items, Sequence):
        raise InputError(
            f"mazes come from a data set, its file, solved mazes or token lists, got {type(given).__name__}"
        )
    if strange := [i for i, item in enumerate(items) if not isinstance(item, Sequence)]:
        kind = type(items[strange[0]]).__name__
        raise InputError(f"prompt {strange[0]}: expected a string or a list of tokens, got {kind}")
    lists = [item.split() if isinstance(item, str) else list(item) for item in items]
    if wrong := [i for i, tokens in enumerate(lists) if not all(isinstance(t, str) for t in tokens)]:
        kind = next(type(t).__name__ for t in lists[wrong[0]] if not isinstance(t, str))
        raise InputError(f"prompt {wrong[0]}: expected tokens as strings, got {kind}")
    return lists


def _is_file_name(given: str) -> bool:
    """Whether a text names a file, and is neither a drawing nor tokens: by its end, or since there is such a file."""
    is_there = os.path.exists(given)  # noqa: PTH110 (Path.exists raises where a text is too long for a name)
    return given.endswith(ENDING) or is_there or not ("<" in given or is_drawn(given))
