"""The vocabulary of a maze model and the way it writes a maze."""

from __future__ import annotations

import pickle
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import zip_longest
from math import isqrt
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from maze_dla.adapters.mazes.lattice import cell_of
from maze_dla.adapters.mazes.library import has_modular_tokenizers, import_maze_dataset, legacy_tokenizer
from maze_dla.adapters.mazes.modular import modular_tokens, writes_as_before
from maze_dla.errors import CheckpointError, PromptError, shortened, shown_number
from maze_dla.files.boundary import reading
from maze_dla.files.zanj_file import NEW_KEY
from maze_dla.results.torch_defaults import torch_defaults

LARGEST_LATTICE = 1000  # rows and columns, as `cell_of` reads them
LONGEST_TOKEN = 1000  # characters
CELL = re.compile(r"\([0-9]+,[0-9]+\)")


@dataclass(frozen=True)
class MazeVocabulary:
    """Tokens by id, and maze-dataset's tokenizer where one is known, which writes mazes as tokens."""

    tokens: tuple[str, ...]
    tokenizer: Any = field(default=None, compare=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (self.tokens, pickle.dumps(self.tokenizer))

    @cached_property
    def ids(self) -> dict[str, int]:
        """The id of each token."""
        return {token: i for i, token in enumerate(self.tokens)}

    def encode(self, tokens: Sequence[str], what: str, mazes: Iterable[Sequence[str]] = ()) -> list[int]:
        """The ids of a prompt's tokens.

        `mazes` are the tokens of all that were given: the error about a cell that is not there says how large they are.

        Raises:
            PromptError: naming the prompt (`what`), the token and where it stands.
        """
        try:
            return list(map(self.ids.__getitem__, tokens))
        except KeyError:
            position, token = next((i, t) for i, t in enumerate(tokens) if t not in self.ids)
        size, known = "", int(self.lattice_sizes.max())
        if cell_of(token) is not None:
            given = max(1 + max(c) for maze in (*mazes, tokens) for t in maze if (c := cell_of(t)) is not None)
            size = f"{given}x{given} mazes, the model knows {known}x{known}: " if given > known > 0 else ""
        raise PromptError(
            f"{size}{what}, position {position}: token {shortened(repr(token), 80)} is not in the vocabulary of "
            f"{len(self.tokens)} tokens"
        )

    @cached_property
    @torch_defaults()
    def lattice_sizes(self) -> Int[Tensor, " vocab"]:
        """For each token that names a cell how large a lattice has to be to have it; 0 for all other tokens."""
        cells = (cell_of(token) for token in self.tokens)
        return torch.tensor([0 if c is None else 1 + max(c) for c in cells])

    @cached_property
    @torch_defaults()
    def coordinates(self) -> Int[Tensor, "vocab 2"]:
        """Row and column of each token that names a cell; -1 for all other tokens."""
        return torch.tensor([cell_of(token) or (-1, -1) for token in self.tokens])

    def cells_after(self, sequences: Int[Tensor, "sequence position"], special: str) -> Int[Tensor, " sequence"]:
        """The id of the cell after the first of a special token in each sequence; -1 where there is none."""
        starts = sequences[:, :-1] == self.ids.get(special, -1)
        if not starts.shape[1]:
            return torch.full((len(sequences),), -1)
        found = sequences.gather(1, starts.int().argmax(1, keepdim=True) + 1)[:, 0]
        return torch.where(starts.any(1) & (self.lattice_sizes[found] > 0), found, -1)

    def cell_mask(self, grid_n: int) -> Bool[Tensor, " vocab"]:
        """Which tokens name a cell of a lattice of this size."""
        return (self.lattice_sizes > 0) & (self.lattice_sizes <= grid_n)


def _unpickled(tokens: tuple[str, ...], tokenizer: bytes) -> MazeVocabulary:
    import_maze_dataset()  # which the pickle would import in a way that seeds Python's generator
    return MazeVocabulary(tokens, pickle.loads(tokenizer))


def vocabulary_of(config: Mapping[str, Any], file: Path, d_vocab: int) -> MazeVocabulary:
    """The vocabulary from a checkpoint's config: a tokenizer's, or the list of tokens of the 2023 files.

    Args:
        config: the checkpoint's `zanj_model_config`.
        file: where it is from.
        d_vocab: the number of tokens that the model reads, beyond which no tokens are made.

    Raises:
        CheckpointError: neither is there, the tokenizer is unknown, the file also holds other tokens than its own, or
            its lattice is too large for so many tokens.
    """
    vocabulary = _saved_vocabulary(config, file, d_vocab)
    for section in ("maze_tokenizer", "dataset_cfg"):
        saved = config.get(section)
        for name in ("token_arr", "tokenizer_map"):
            if isinstance(saved, dict) and saved.get(name) is not None:
                _check_same(vocabulary.tokens, saved[name], f"{file}: {section}.{name}")
    has_cells = bool(vocabulary.lattice_sizes.any())
    _check_lattice(config["dataset_cfg"]["grid_n"], d_vocab, f"{file}: dataset_cfg.grid_n", has_cells=has_cells)
    return vocabulary


def _check_lattice(size: Any, d_vocab: int, where: str, *, has_cells: bool) -> int:
    """The size of a lattice, no larger than the cells of so many tokens could fill.

    Raises:
        CheckpointError: naming the size and the limit.
    """
    most = min(isqrt(d_vocab) if has_cells else d_vocab, LARGEST_LATTICE)
    if type(size) is not int or not 1 <= size <= most:
        seen = shown_number(size) if type(size) is int else f"{size!r:.60}"
        raise CheckpointError(
            f"{where} is {seen}, expected a whole number from 1 to {most}, as {d_vocab} tokens can name the cells of"
        )
    return size


def _check_same(tokens: tuple[str, ...], saved: Any, where: str) -> None:
    """Refuse tokens in a file, as a list or with their ids, that are not those of its vocabulary.

    Raises:
        CheckpointError: naming the first token that differs, and what is in its place.
    """
    if isinstance(saved, dict):
        if any(type(i) is not int for i in saved.values()) or sorted(saved.values()) != list(range(len(saved))):
            raise CheckpointError(f"{where} has other ids than 0 to {len(saved) - 1}, each once")
        saved = sorted(saved, key=saved.__getitem__)
    if not isinstance(saved, list):
        raise CheckpointError(f"{where} is {type(saved).__name__}, expected a list or an object")
    for i, (its, own) in enumerate(zip_longest(saved, tokens)):
        if its != own:
            shown = ["no more" if t is None else shortened(repr(t), 80) for t in (its, own)]
            raise CheckpointError(f"{where} has {shown[0]} as token {i}, the vocabulary has {shown[1]}")


def _saved_vocabulary(config: Mapping[str, Any], file: Path, d_vocab: int) -> MazeVocabulary:
    saved = config.get("maze_tokenizer")
    if isinstance(saved, dict) and _kind(saved) == "MazeTokenizerModular" and not has_modular_tokenizers():
        writer = legacy_tokenizer("AOTP_UT_uniform", None) if writes_as_before(saved) else None
        return MazeVocabulary(modular_tokens(), writer)
    if isinstance(saved, dict):
        with reading(file, CheckpointError, "maze_tokenizer cannot be built"):
            tokenizer = _load_tokenizer(saved, config["dataset_cfg"], file, d_vocab)
            return MazeVocabulary(tuple(tokenizer.token_arr), tokenizer)
    listed = config["dataset_cfg"].get("token_arr")
    if not isinstance(listed, list):
        raise CheckpointError(f"{file}: no vocabulary: neither maze_tokenizer nor dataset_cfg.token_arr is there")
    if len(listed) != d_vocab:
        raise CheckpointError(f"{file}: the vocabulary has {len(listed)} tokens, embed.W_E has {d_vocab} rows")
    for i, token in enumerate(listed):
        if (fault := _token_fault(token)) is not None:
            raise CheckpointError(
                f"{file}: dataset_cfg.token_arr has {shortened(repr(token), 80)} as token {i}: {fault}"
            )
    token, count = Counter(listed).most_common(1)[0]
    if count > 1:
        raise CheckpointError(f"{file}: dataset_cfg.token_arr holds {token!r} twice")
    # the order of the list decides the ids; all modes of one token a cell write a maze as the same strings
    return MazeVocabulary(tuple(listed), legacy_tokenizer("AOTP_UT_uniform", None))


def _token_fault(token: Any) -> str | None:
    """Why something cannot be a token of a vocabulary; None for all that can."""
    if not isinstance(token, str):
        return "expected a text"
    if len(token) > LONGEST_TOKEN:
        return f"it has {len(token)} characters, at most {LONGEST_TOKEN} are read"
    if CELL.fullmatch(token) and cell_of(token) is None:
        return f"no lattice has cells beyond {LARGEST_LATTICE - 1}"
    return None if token.isprintable() else "it has characters that cannot be printed"


def _kind(saved: Mapping[str, Any]) -> str:
    return str(saved.get(NEW_KEY, "")).split("(")[0]


def _load_tokenizer(saved: Mapping[str, Any], dataset_config: Mapping[str, Any], file: Path, d_vocab: int) -> Any:
    kind = _kind(saved)
    if kind == "MazeTokenizer":
        mode = str(saved["tokenization_mode"]).split(".")[-1]
        given = (saved.get("max_grid_size"), dataset_config.get("max_grid_n"), dataset_config["grid_n"])
        size = next(size for size in given if size is not None)
        where = f"{file}: maze_tokenizer.max_grid_size"
        return legacy_tokenizer(mode, _check_lattice(size, d_vocab, where, has_cells="UT" in mode))
    if kind == "MazeTokenizerModular":
        return import_maze_dataset().tokenization.MazeTokenizerModular.load(_without_types(saved))
    raise CheckpointError(f"{file}: unknown tokenizer {kind!r:.60}, expected MazeTokenizer or MazeTokenizerModular")


def _without_types(saved: Any) -> Any:
    """The description without the names of the classes that wrote it.

    maze-dataset moved its classes since, compares their parts by these names, and would leave the origin out of the
    path of a tokenizer that keeps the old ones.
    """
    if isinstance(saved, Mapping):
        return {k: _without_types(v) for k, v in saved.items() if k != "_type_"}
    return [_without_types(v) for v in saved] if isinstance(saved, list) else saved
