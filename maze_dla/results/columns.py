"""Columns: one value for each prompt, a number or a text, that says what the prompt is."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from maze_dla.errors import InputError, check_kind, check_list, quoted
from maze_dla.results.arrays import as_array

Column = Tensor | tuple[str, ...]
Columns = Mapping[str, Column]
OF_RESULTS = ("prompt", "answer", "predicted", "correct", "preferred", "metric")  # that results have of their own


def checked_columns(given: Any, n: int) -> dict[str, Column]:
    """Columns of `n` prompts, numbers as tensors and texts as tuples.

    Raises:
        InputError: no mapping from names, a name that results use themselves, values that are no list of numbers or
            texts with one for each prompt, or a chance that is no probability.
    """
    check_kind(given, Mapping, "columns are a mapping from names to lists")
    for name in given:
        if not isinstance(name, str) or not name or name in OF_RESULTS:
            raise InputError(f"a column's name is a text other than {', '.join(OF_RESULTS)}, got {quoted(name, 60)}")
    held = {name: _column(f"the column {name!r}", values, n) for name, values in given.items()}
    chance = held.get("chance", torch.zeros(0))
    if not isinstance(chance, Tensor) or ((chance < 0) | (chance > 1)).any():
        raise InputError("the column 'chance' holds probabilities from 0 to 1, NaN where there is none")
    return held


def _column(what: str, given: Any, n: int) -> Column:
    if isinstance(given, tuple) and all(isinstance(text, str) for text in given):
        held: Column = given
    else:
        check_list(given, what)
        listed = given if isinstance(given, Tensor) else list(given)
        texts = all(isinstance(x, str) for x in listed)
        held = tuple(map(str, listed)) if texts and len(listed) else _numbers(what, given)
    if len(held) != n:
        raise InputError(f"{what} has {len(held)} values, expected one for each of {n} prompts")
    return held


def _numbers(what: str, given: Any) -> Tensor:
    takes = f"{what} holds numbers, or texts, one for each prompt"
    held = as_array(what, given, takes)
    if held.ndim != 1 or held.is_complex():
        raise InputError(f"{takes}, got {str(held.dtype).removeprefix('torch.')} of shape {tuple(held.shape)}")
    return held.detach().clone()


def chosen_rows(columns: Columns, chosen: Int[Tensor, " chosen"]) -> dict[str, Column]:
    """The values of some prompts, in this order."""
    numbers = chosen.tolist()
    return {
        name: values[chosen] if isinstance(values, Tensor) else tuple(values[i] for i in numbers)
        for name, values in columns.items()
    }


def groups_of(values: Column) -> Int[Tensor, " prompt"]:
    """The number of the group of each prompt: prompts of one value are of one group; groups as they first come."""
    listed = values.tolist() if isinstance(values, Tensor) else values
    numbers = {value: i for i, value in enumerate(dict.fromkeys(listed))}
    return torch.tensor([numbers[value] for value in listed], dtype=torch.long)


def name_of(tokens: Sequence[str]) -> str:
    """A short name for a text, the same wherever its tokens are: 16 digits of their hash."""
    return hashlib.blake2b("\x1f".join(tokens).encode(errors="surrogatepass"), digest_size=8).hexdigest()
