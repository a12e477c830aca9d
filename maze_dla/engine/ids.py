"""Token ids as callers give them, one for each prompt or a set for each; and masks."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from maze_dla.errors import InputError, PromptError, quoted, shown_number, whole_number
from maze_dla.results.arrays import as_array, check_values

NONE = -1  # fills up rows of sets, whose sizes differ


def whole_numbers(what: str, given: Any) -> Tensor:
    """Whole numbers as an int64 tensor of the shape in which they were given.

    Raises:
        InputError: a tensor on the meta device.
        PromptError: something else stands among them: a fraction, also one like 2.0, a boolean, a word, or a number
            that 64 bits do not hold.
    """
    takes = f"{what}: token ids are whole numbers"
    if isinstance(given, str | bytes):
        raise PromptError(f"{takes}, got {quoted(given, 80)}")
    if not isinstance(given, Tensor) and isinstance(given, Sequence):
        if not set(map(type, given)) <= {int}:
            check_values(what, given)
            if bad := [x for x in given if whole_number(x) is None or getattr(x, "dtype", None) == torch.bool]:
                raise PromptError(f"{takes}, got {quoted(bad[0], 80)}")
        try:
            return torch.tensor([int(x) for x in given], dtype=torch.long)
        except (OverflowError, ValueError, RuntimeError):  # each by some version of torch
            raise PromptError(f"{takes} that 64 bits hold, got {shown_number(max(map(int, given), key=abs))}") from None
    numbers = as_array(what, given, takes, PromptError)
    if numbers.dtype != torch.int64:
        raise PromptError(f"{takes}, got {str(numbers.dtype).removeprefix('torch.')}")
    return numbers


def id_sets(what: str, given: Any) -> Int[Tensor, "prompt k"]:
    """For each prompt the ids that were given for it, one or several, filled up with -1.

    Args:
        what: of whom they are, for errors.
        given: a tensor [prompt] or [prompt, k], filled up with -1, or a list that holds for each prompt an id or a
            list or set of ids. The order of a list is kept, a set is put in order.

    Raises:
        InputError: neither of these, or a tensor on the meta device.
        PromptError: ids that are no whole numbers, or none for a prompt.
    """
    if isinstance(given, Tensor):
        check_values(what, given)  # before it is asked for its shape, which nested ones do not have
    if hasattr(given, "shape"):
        ids = whole_numbers(what, given)
        if ids.ndim not in (1, 2) or ids.shape[1:] == (0,):
            raise InputError(f"{what}: one id or a set of ids for each prompt, got the shape {tuple(ids.shape)}")
        return ids[:, None] if ids.ndim == 1 else ids
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise InputError(f"{what}: a list with an id or a set of ids for each prompt, got {type(given).__name__}")
    if all(type(one) is int for one in given):
        return whole_numbers(what, given)[:, None]
    rows = [whole_numbers(what, _as_list(what, one)).tolist() for one in given]
    if empty := [i for i, row in enumerate(rows) if not row]:
        raise PromptError(f"{what}: none for prompt {empty[0]}, expected at least one id")
    return filled_up(rows)


def filled_up(rows: Sequence[Sequence[int]]) -> Int[Tensor, "row k"]:
    """Rows of ids as an array, short ones filled up with -1."""
    width = max(map(len, rows), default=1)
    return torch.tensor([[*row, *[NONE] * (width - len(row))] for row in rows], dtype=torch.long).reshape(
        len(rows), width
    )


def check_ids(what: str, ids: Int[Tensor, " prompt"], size: int) -> None:
    """Refuse ids outside a vocabulary.

    Raises:
        PromptError: naming the prompt.
    """
    if (outside := (ids < 0) | (ids >= size)).any():
        i = first_where(outside)
        raise PromptError(f"{what} {i}: token id {int(ids[i])} outside the vocabulary of {size} tokens")


def check_sets(what: str, sets: Int[Tensor, "prompt k"], size: int) -> None:
    """Refuse sets of ids that leave the vocabulary or hold an id twice.

    Raises:
        PromptError: naming the prompt.
    """
    if (outside := ((sets < 0) | (sets >= size)) & (sets != NONE)).any():
        i, k = torch.nonzero(outside)[0].tolist()
        raise PromptError(f"{what} of prompt {i}: token id {int(sets[i, k])} outside the vocabulary of {size} tokens")
    in_order = sets.sort(1).values
    if (twice := (in_order[:, 1:] == in_order[:, :-1]) & (in_order[:, 1:] != NONE)).any():
        i, k = torch.nonzero(twice)[0].tolist()
        raise PromptError(f"{what} of prompt {i}: token id {int(in_order[i, k])} stands there twice, expected once")


def check_first(what: str, first: Int[Tensor, " prompt"], sets: Int[Tensor, "prompt k"]) -> None:
    """Refuse sets of ids that do not begin with the first of each prompt.

    Raises:
        InputError: naming the prompt.
    """
    if sets.ndim != 2 or len(sets) != len(first) or sets.shape[1] == 0:
        raise InputError(f"{what} have shape {tuple(sets.shape)}, expected ids for each of {len(first)} prompts")
    if (differs := sets[:, 0] != first).any():
        i = first_where(differs)
        raise InputError(
            f"{what} of prompt {i} begin with {int(sets[i, 0])}, expected {int(first[i])}: where one is replaced, the "
            "other has to be replaced with it, or by None"
        )


def in_sets(tokens: Int[Tensor, "prompt j"], sets: Int[Tensor, "prompt k"]) -> Bool[Tensor, "prompt j"]:
    """Which tokens are in the sets of their prompts; what fills up is in none."""
    columns = [(sets == tokens[:, [j]]).any(1) for j in range(tokens.shape[1])]
    return torch.stack(columns, 1) & (tokens != NONE)


def as_mask(given: Any, n: int, d_vocab: int) -> Bool[Tensor, " vocab"] | Bool[Tensor, "prompt vocab"]:
    """A mask of tokens as a caller gives it, one for all of `n` prompts or one for each.

    Raises:
        InputError: no mask, one of another shape, or on the meta device.
    """
    mask = as_array("the mask of others", given, "others is the name of a token set or a mask")
    if mask.dtype != torch.bool or tuple(mask.shape) not in ((d_vocab,), (n, d_vocab)):
        raise InputError(
            f"a mask of others is boolean with shape ({d_vocab},) or ({n}, {d_vocab}), "
            f"got {mask.dtype} with shape {tuple(mask.shape)}"
        )
    return mask


def first_where(mask: Bool[Tensor, " prompt"]) -> int:
    """The number of the first prompt for which something holds."""
    return int(torch.nonzero(mask)[0, 0])


def _as_list(what: str, one: Any) -> list[Any]:
    """The ids that were given for one prompt, as a list."""
    check_values(what, one)
    if hasattr(one, "tolist"):
        one = one.tolist()
    if isinstance(one, Mapping):
        raise InputError(f"{what}: an id or a set of ids for each prompt, got {type(one).__name__}")
    if isinstance(one, set | frozenset):
        return sorted(one, key=lambda x: int(x) if whole_number(x) is not None else NONE)
    return list(one) if isinstance(one, Collection) and not isinstance(one, str) else [one]
