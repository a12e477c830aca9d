"""Two batches of prompts as one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from maze_dla.engine.ids import NONE
from maze_dla.engine.sparse import SparseRows
from maze_dla.errors import InputError
from maze_dla.results.columns import Column

if TYPE_CHECKING:
    from maze_dla.engine.prompts import PromptBatch

ID_SIZE = 8  # bytes of an id, where a mask has one for each token of the vocabulary
ROWS = ("sequence_lengths", "read_positions", "targets")
OPTIONAL_ROWS = ("incorrect", "steps")  # of both batches or of neither
OF_THE_MODEL = ("d_vocab", "d_vocab_in", "unit", "kinds")


def joined_fields(first: PromptBatch, second: PromptBatch) -> dict[str, Any]:
    """The fields of a batch of the prompts of two, those of the second after those of the first.

    Raises:
        InputError: batches for other vocabularies, about other units, or of which only one has incorrect tokens, kinds
            of tokens, steps, a token set or a column.
    """
    _check_alike(first, second)
    rows = {name: torch.cat([getattr(first, name), getattr(second, name)]) for name in ROWS}
    optional = {name: _both(name, first, second, torch.cat) for name in OPTIONAL_ROWS}
    return {
        **rows,
        **optional,
        "sequences": _stacked([first.sequences, second.sequences], 0),
        "sequence_of": torch.cat([first.sequence_of, second.sequence_of + len(first.sequences)]),
        "sequence_labels": (*first.sequence_labels, *second.sequence_labels),
        "sequence_kinds": _both("sequence_kinds", first, second, lambda both: _stacked(both, 0)),
        "answers": _stacked([first.answers, second.answers], NONE),
        "foils": _both("foils", first, second, lambda both: _stacked(both, NONE)),
        "token_sets": _joined_sets(first, second),
        "columns": _joined_columns(first.columns, second.columns),
        "info": joined_info(first.info, second.info),
    }


def _check_alike(first: PromptBatch, second: PromptBatch) -> None:
    for name in OF_THE_MODEL:
        one, two = getattr(first, name), getattr(second, name)
        if one != two:
            raise InputError(f"batches that are joined are alike in {name}, got {one!r:.60} and {two!r:.60}")
    if first.vocabulary != second.vocabulary:
        raise InputError("batches that are joined have one vocabulary, got two that differ")


def _both(name: str, first: PromptBatch, second: PromptBatch, join: Callable[[list[Tensor]], Tensor]) -> Tensor | None:
    """A field of both batches joined; None where neither has it."""
    both = [getattr(batch, name) for batch in (first, second)]
    if both[0] is None and both[1] is None:
        return None
    if (lacks := [which for which, held in zip(("first", "second"), both, strict=True) if held is None]) != []:
        raise InputError(f"batches that are joined both have {name} or neither, the {lacks[0]} has none")
    return join(both)


def _stacked(both: list[Tensor], fill: int) -> Tensor:
    """Rows of two arrays one after the other, the narrower one filled up on the right."""
    width = max(held.shape[1] for held in both)
    return torch.cat([torch.nn.functional.pad(held, (0, width - held.shape[1]), value=fill) for held in both])


def _check_names(what: str, first: Mapping[str, Any], second: Mapping[str, Any], help_: str) -> None:
    if different := [name for name in {**first, **second} if (name in first) != (name in second)]:
        which = "second" if different[0] in first else "first"
        raise InputError(f"the {what} {different[0]!r} is missing in the {which} of the batches: {help_}")


def _joined_columns(first: Mapping[str, Column], second: Mapping[str, Column]) -> dict[str, Column]:
    """Columns of both batches.

    Raises:
        InputError: a column that only one has, or that holds texts in one and numbers in the other.
    """
    _check_names("column", first, second, "give it to both with with_column(name, values)")
    joined: dict[str, Column] = {}
    for name, one in first.items():
        two = second[name]
        if isinstance(one, Tensor) and isinstance(two, Tensor):
            joined[name] = torch.cat([one, two])
        elif isinstance(one, tuple) and isinstance(two, tuple):
            joined[name] = (*one, *two)
        else:
            raise InputError(f"the column {name!r} holds texts in one of the batches and numbers in the other")
    return joined


def _joined_sets(first: PromptBatch, second: PromptBatch) -> dict[str, Tensor]:
    """Token sets of both batches; each prompt keeps its own tokens."""
    _check_names("token set", first.token_sets, second.token_sets, "name it in both or in neither")
    return {name: _joined_set(first, second, name) for name in first.token_sets}


def _joined_set(first: PromptBatch, second: PromptBatch, name: str) -> Tensor:
    one, two = first.token_sets[name], second.token_sets[name]
    if one.ndim == two.ndim == 1 and torch.equal(one, two):
        return one
    if one.dtype != torch.bool and two.dtype != torch.bool:
        return _stacked([one, two], NONE)
    largest = max(int(batch.set_rows(name).sums().max()) for batch in (first, second))
    if ID_SIZE * largest < first.d_vocab:
        return _stacked([_ids(one, len(first)), _ids(two, len(second))], NONE)
    return torch.cat([_mask(one, len(first), first.d_vocab), _mask(two, len(second), first.d_vocab)])


def _ids(held: Tensor, n: int) -> Tensor:
    """A set of tokens as the ids of each of `n` prompts, filled up with -1."""
    if held.dtype != torch.bool:
        return held
    if held.ndim == 1:
        return torch.nonzero(held).flatten().expand(n, -1)
    width = max(int(held.sum(1).max()), 1)
    first = held.int().sort(dim=1, descending=True, stable=True)
    return torch.where(first.values[:, :width] > 0, first.indices[:, :width], NONE)


def _mask(held: Tensor, n: int, d_vocab: int) -> Tensor:
    """A set of tokens as the mask of each of `n` prompts."""
    mask = held if held.dtype == torch.bool else SparseRows.listed(held, d_vocab).dense() > 0
    return mask.expand(n, -1)


def joined_info(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """The facts that both have; where they differ both are named, as in "0 + 1" for two seeds.

    Raises:
        InputError: one says yes and the other no, such as to a BOS in front.
    """
    joined = {}
    for name in {**first, **second}:
        both = [info[name] for info in (first, second) if name in info]
        if any(isinstance(value, bool) for value in both) and (len(both) < 2 or both[0] != both[1]):
            seen = " and ".join(str(info.get(name)) for info in (first, second))
            raise InputError(f"batches that are joined are alike in {name}, got {seen}")
        joined[name] = both[0] if len(both) == 2 and _alike(*both) else _named(first.get(name), second.get(name))
    return joined


def _alike(one: Any, two: Any) -> bool:
    return type(one) is type(two) and bool(one == two)


def _named(one: Any, two: Any) -> str:
    """Two facts as one text, each part of them once."""
    parts = [part for value in (one, two) for part in ("none" if value is None else str(value)).split(" + ")]
    return " + ".join(dict.fromkeys(parts))
