"""Tokens that a caller chooses to follow: a token set's, some for all prompts, or some for each."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from maze_dla.engine.ids import NONE, check_sets, filled_up
from maze_dla.engine.prompts import PromptBatch
from maze_dla.errors import InputError, PromptError, whole_number

TAKES = "tokens is a token set's name, a list of tokens (strings or ids), or such a list for each prompt"


def chosen_tokens(batch: PromptBatch, tokens: Any) -> Int[Tensor, "prompt chosen"]:
    """The ids of the chosen tokens of each prompt, filled up with -1.

    Args:
        batch: the prompts.
        tokens: the name of a token set or a mask, as a metric takes them; a list of strings and ids, the same for all
            prompts; or such a list for each prompt, or an array [prompt, token] of ids, filled up with -1.

    Raises:
        InputError: none of these, an unknown set, strings where the vocabulary is not known, none for any prompt, or
            lists for another number of prompts.
        PromptError: what is no token of the vocabulary, or stands there twice.
    """
    mask = str(getattr(tokens, "dtype", "")).endswith("bool")
    rows = _of_set(batch, tokens) if isinstance(tokens, str) or mask else _of_lists(batch, tokens)
    chosen = filled_up(rows)
    if not (chosen != NONE).any():
        raise InputError(f"{TAKES}, got none")
    check_sets("tokens", chosen, batch.d_vocab)
    return chosen


def _of_set(batch: PromptBatch, tokens: Any) -> list[list[int]]:
    held = batch.token_set(tokens).expand(len(batch), -1)
    return [torch.nonzero(row).flatten().tolist() for row in held]


def _of_lists(batch: PromptBatch, tokens: Any) -> list[list[int]]:
    listed = tokens.tolist() if hasattr(tokens, "tolist") else tokens
    if not isinstance(listed, list | tuple):
        raise InputError(f"{TAKES}, got {type(tokens).__name__}")
    each = [one.tolist() if hasattr(one, "tolist") else one for one in listed]
    if not any(isinstance(one, list | tuple | set | frozenset) for one in each):
        return [_ids(batch, each)] * len(batch)
    if len(each) != len(batch) or not all(isinstance(one, list | tuple | set | frozenset) for one in each):
        raise InputError(f"{TAKES}: {len(each)} entries for {len(batch)} prompts")
    return [_ids(batch, [token for token in _in_order(one) if token != NONE]) for one in each]


def _in_order(one: Any) -> list[Any]:
    return sorted(one, key=str) if isinstance(one, set | frozenset) else list(one)


def _ids(batch: PromptBatch, given: list[Any] | tuple[Any, ...]) -> list[int]:
    return [_id(batch, one) for one in given]


def _id(batch: PromptBatch, token: Any) -> int:
    """The id of a token given by its string or its id."""
    if not isinstance(token, str):
        if (number := whole_number(token)) is None or not 0 <= number < batch.d_vocab:
            raise PromptError(f"tokens: {token!r:.60} is no string and no id of the {batch.d_vocab} tokens")
        return number
    if batch.vocabulary is None:
        raise InputError(f"tokens: {token!r:.60} is a string, but this batch has no vocabulary: give ids")
    try:
        return batch.vocabulary.index(token)
    except ValueError:
        raise PromptError(f"tokens: {token!r:.60} is not one token of the vocabulary") from None
