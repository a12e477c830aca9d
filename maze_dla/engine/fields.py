"""The fields of a batch of prompts that are no token ids: names, labels and sets of tokens, as callers give them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from maze_dla.engine.ids import check_sets
from maze_dla.errors import InputError, check_kind, check_list, quoted
from maze_dla.results.arrays import as_array


def check_named(what: str, given: Any) -> None:
    """Refuse anything but a mapping whose keys are strings.

    Raises:
        InputError: as "info is a mapping from names, got list".
    """
    check_kind(given, Mapping, f"{what} is a mapping from names")
    if bad := [name for name in given if not isinstance(name, str)]:
        raise InputError(f"{what} is a mapping from names, which are strings, got {quoted(bad[0], 60)}")


def strings(what: str, given: Any, each: str) -> tuple[str, ...]:
    """A list of strings, of which there is one for each of something.

    Raises:
        InputError: no list, or something else in it.
    """
    check_list(given, what, each)
    listed = tuple(given)
    try:
        "".join(listed)  # the fastest look at very many
    except TypeError:
        bad = next(x for x in listed if not isinstance(x, str))
        raise InputError(f"{what} are strings, got {quoted(bad, 60)}") from None
    return listed


def token_labels(what: str, given: Sequence[Any], lengths: Sequence[int]) -> tuple[tuple[str, ...], ...]:
    """For each prompt or sequence, whichever they are called, its tokens as strings.

    Raises:
        InputError: naming the prompt: no list of strings, or one of another length.
    """
    labels = tuple(strings(f"labels of {what} {i}", row, "token") for i, row in enumerate(given))
    for i, (row, n) in enumerate(zip(labels, lengths, strict=True)):
        if len(row) != n:
            raise InputError(f"{what} {i} has {n} tokens but {len(row)} labels")
    return labels


def kind_names(given: Any) -> tuple[str, ...]:
    """The names of the kinds of tokens.

    Raises:
        InputError: no list of strings, or a name that is there twice.
    """
    kinds = strings("kinds", given, "kind of token")
    if twice := [kind for kind in kinds if kinds.count(kind) > 1]:
        raise InputError(f"kinds has {twice[0]!r} twice, expected once")
    return kinds


def token_names(given: Any, d_vocab: int) -> Sequence[str]:
    """A vocabulary: a list of strings, or another sequence, which may decode its tokens only when asked for.

    Raises:
        InputError: neither of them, or one of another length.
    """
    decoded = isinstance(given, Sequence) and not isinstance(given, str | bytes | list | tuple)
    names = given if decoded else strings("the tokens of a vocabulary", given, "id")
    if len(names) != d_vocab:
        raise InputError(f"vocabulary has {len(names)} tokens, d_vocab is {d_vocab}")
    if not isinstance(names[0], str):
        raise InputError(f"the tokens of a vocabulary are strings, got {quoted(names[0], 60)}")
    return names


def sets_of_tokens(given: Any, n: int, d_vocab: int) -> dict[str, Tensor]:
    """Named sets of tokens, each a mask or the ids of each of `n` prompts.

    Raises:
        InputError: no mapping from names, the name "all", which is taken, or a set that is neither.
        PromptError: naming the prompt: ids outside the vocabulary, or one twice.
    """
    check_named("token_sets", given)
    if "all" in given:
        raise InputError("a token set cannot be named 'all', which stands for the whole vocabulary")
    return {name: _token_set(f"token set {name!r}", held, n, d_vocab) for name, held in given.items()}


def _token_set(what: str, given: Any, n: int, d_vocab: int) -> Tensor:
    expected = f"a boolean mask, or the ids of each of the {n} prompts filled up with -1"
    held = as_array(what, given, f"{what} is {expected}")
    if held.dtype == torch.bool:
        if tuple(held.shape) not in ((d_vocab,), (n, d_vocab)):
            raise InputError(f"{what} has shape {tuple(held.shape)}, expected ({d_vocab},) or ({n}, {d_vocab})")
    elif held.dtype != torch.int64 or held.ndim != 2 or len(held) != n:
        seen = f"{str(held.dtype).removeprefix('torch.')} of shape {tuple(held.shape)}"
        raise InputError(f"{what} is {seen}, expected {expected}")
    else:
        check_sets(what, held, d_vocab)
    return held
