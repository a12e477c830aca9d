"""The fields of a batch of prompts, checked and brought into the form in which they are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from maze_dla.engine.fields import check_named, kind_names, sets_of_tokens, token_labels, token_names
from maze_dla.engine.ids import check_first, check_ids, check_sets, first_where, in_sets, whole_numbers
from maze_dla.errors import InputError, PromptError, check_kind, check_list, check_whole
from maze_dla.results.arrays import LARGEST
from maze_dla.results.columns import checked_columns, name_of

if TYPE_CHECKING:
    from maze_dla.engine.prompts import PromptBatch

AXES = {"sequences": 2, "sequence_lengths": 1, "sequence_of": 1, "read_positions": 1, "targets": 1}
OPTIONAL_AXES = {"incorrect": 1, "sequence_kinds": 2, "answers": 2, "foils": 2, "steps": 1}


def complete_fields(batch: PromptBatch) -> None:
    """Bring all fields of a new batch into the form in which they are kept.

    Raises:
        InputError: fields that do not fit each other.
        PromptError: naming the prompt or the sequence, and the token.
    """
    _set_arrays(batch)
    n = len(batch.targets)
    if n == 0:
        raise InputError("a batch needs at least one prompt, got none")
    for name in ("sequence_of", "read_positions", "incorrect", "steps"):
        if (given := getattr(batch, name)) is not None and len(given) != n:
            raise InputError(f"{name} has {len(given)} entries, targets has {n}")
    _check_sequences(batch)
    ends = batch.sequence_lengths[batch.sequence_of]
    if (bad := (batch.read_positions >= ends) | (batch.read_positions < 0)).any():
        i = first_where(bad)
        raise PromptError(f"prompt {i}: read position {int(batch.read_positions[i])} outside its {int(ends[i])} tokens")
    _check_tokens(batch)
    _check_answers(batch)
    _set(batch, "token_sets", sets_of_tokens(batch.token_sets, n, batch.d_vocab))
    columns = checked_columns(batch.columns, n)
    if batch.unit not in columns:
        names = [name_of(labels) for labels in batch.sequence_labels]
        columns = {batch.unit: tuple(names[i] for i in batch.sequence_of.tolist()), **columns}
    _set(batch, "columns", columns)


def _set(batch: PromptBatch, name: str, value: Any) -> None:
    """A field in the form in which it is kept."""
    object.__setattr__(batch, name, value)


def _set_arrays(batch: PromptBatch) -> None:
    """Ids and positions as whole numbers of the right number of axes; names and sizes as such."""
    for name, axes in (AXES | OPTIONAL_AXES).items():
        if (given := getattr(batch, name)) is not None or name in AXES:
            _set(batch, name, whole_numbers(name, given))
            if len(shape := tuple(getattr(batch, name).shape)) != axes:
                raise InputError(f"{name} has shape {shape}, expected {axes} axes")
    _set(batch, "d_vocab", check_whole("d_vocab", batch.d_vocab, 1, LARGEST))
    if batch.d_vocab_in is not None:
        _set(batch, "d_vocab_in", check_whole("d_vocab_in", batch.d_vocab_in, 1, LARGEST))
    if batch.vocabulary is not None:
        _set(batch, "vocabulary", token_names(batch.vocabulary, batch.d_vocab))
    check_named("info", batch.info)
    check_kind(batch.unit, str, "unit is the name of a column")
    _set(batch, "kinds", kind_names(batch.kinds))


def _check_sequences(batch: PromptBatch) -> None:
    n_sequences, width = batch.sequences.shape
    if 0 in (n_sequences, width):
        raise InputError(f"sequences has shape ({n_sequences}, {width}), expected at least one token")
    check_list(batch.sequence_labels, "sequence_labels", "sequence")
    for name in ("sequence_lengths", "sequence_labels"):
        if len(getattr(batch, name)) != n_sequences:
            raise InputError(f"{name} has {len(getattr(batch, name))} entries, there are {n_sequences} sequences")
    if int(batch.sequence_lengths.max()) > width:
        raise InputError(f"a sequence of {int(batch.sequence_lengths.max())} tokens in an array {width} wide")
    labels = token_labels("sequence", batch.sequence_labels, batch.sequence_lengths.tolist())
    _set(batch, "sequence_labels", labels)
    if int(batch.sequence_of.min()) < 0 or int(batch.sequence_of.max()) >= n_sequences:
        raise InputError(f"sequence_of names sequences outside the {n_sequences} that are there")
    if (kinds := batch.sequence_kinds) is not None and (
        kinds.shape != batch.sequences.shape or int(kinds.min()) < 0 or int(kinds.max()) >= len(batch.kinds)
    ):
        largest = max(kinds.flatten().tolist(), default=0)
        raise InputError(
            f"sequence_kinds has shape {tuple(kinds.shape)} and numbers up to {largest}, expected "
            f"{tuple(batch.sequences.shape)} and numbers of the {len(batch.kinds)} kinds"
        )


def _check_tokens(batch: PromptBatch) -> None:
    """Negative ids are refused at once, those above the vocabulary where its size is known."""
    inside = torch.arange(batch.sequences.shape[1]) < batch.sequence_lengths[:, None]
    outside = batch.sequences < 0
    if batch.d_vocab_in is not None:
        outside |= batch.sequences >= batch.d_vocab_in
    if (outside := outside & inside).any():
        row, position = torch.nonzero(outside)[0].tolist()
        size = "" if batch.d_vocab_in is None else f" of {batch.d_vocab_in} tokens"
        raise PromptError(
            f"sequence {row}, position {position}: token id {int(batch.sequences[row, position])} outside the "
            f"vocabulary{size}"
        )


def _check_answers(batch: PromptBatch) -> None:
    """Right and wrong tokens as sets that begin with `targets` and `incorrect` and have nothing in common."""
    check_ids("the target of prompt", batch.targets, batch.d_vocab)
    if batch.answers is None:
        _set(batch, "answers", batch.targets[:, None])
    check_first("answers", batch.targets, batch.answers)
    check_sets("answers", batch.answers, batch.d_vocab)
    if batch.incorrect is None:
        if batch.foils is not None:
            raise InputError("foils are given without incorrect, which is the first of each prompt")
        return
    check_ids("the incorrect token of prompt", batch.incorrect, batch.d_vocab)
    if batch.foils is None:
        _set(batch, "foils", batch.incorrect[:, None])
    assert batch.foils is not None
    check_first("foils", batch.incorrect, batch.foils)
    check_sets("foils", batch.foils, batch.d_vocab)
    if (both := in_sets(batch.foils, batch.answers)).any():
        i, k = torch.nonzero(both)[0].tolist()
        name = batch.token_name(int(batch.foils[i, k]))
        raise PromptError(f"prompt {i}: the token {name!r} is both right and wrong")
