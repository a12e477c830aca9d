"""Prompts: a sequence and a read position in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from maze_dla.engine.queue import SequenceQueue
from maze_dla.errors import InputError, PromptError

Batch = TypeVar("Batch", bound="PromptBatch")
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
TokenSet = Bool[Tensor, "vocab"] | Bool[Tensor, "prompt vocab"]


@dataclass(frozen=True, eq=False)
class PromptBatch:
    """Prompts of different lengths, what should follow each, and names for what they are compared with.

    Token ids stand in `sequences`, padded on the right; prompt `i` is the sequence `sequence_of[i]` up to and
    including the position `read_positions[i]`, so that prompts which are prefixes of one sequence share it. A causal
    model never looks behind the read position: a prompt's numbers do not depend on the padding or on its neighbours.

    `token_sets` names sets of tokens that a metric can compare the target with, one for all prompts ([vocab]) or one
    for each ([prompt, vocab]). `incorrect` holds, where there is one, the token that a logit difference sets against
    each target. `sequence_kinds` sorts the tokens of every sequence: the number stands for an entry of `kinds`.
    """

    sequences: Int[Tensor, "sequence position"]
    sequence_lengths: Int[Tensor, "sequence"]
    sequence_of: Int[Tensor, "prompt"]
    read_positions: Int[Tensor, "prompt"]
    targets: Int[Tensor, "prompt"]
    d_vocab: int
    sequence_labels: tuple[tuple[str, ...], ...]
    vocabulary: Sequence[str] | None = None
    token_sets: Mapping[str, TokenSet] = field(default_factory=dict)
    info: Mapping[str, Any] = field(default_factory=dict)
    incorrect: Int[Tensor, "prompt"] | None = None
    kinds: tuple[str, ...] = ()
    sequence_kinds: Int[Tensor, "sequence position"] | None = None

    def __post_init__(self) -> None:
        for name in ("sequences", "sequence_lengths", "sequence_of", "read_positions", "targets"):
            object.__setattr__(self, name, getattr(self, name).long())
        n = len(self.targets)
        if n == 0:
            raise InputError("a batch needs at least one prompt, got none")
        for name in ("sequence_of", "read_positions", "incorrect"):
            if (given := getattr(self, name)) is not None and len(given) != n:
                raise InputError(f"{name} has {len(given)} entries, targets has {n}")
        self._check_sequences()
        ends = self.sequence_lengths[self.sequence_of]
        if bad := torch.nonzero((self.read_positions >= ends) | (self.read_positions < 0)).flatten().tolist():
            i = bad[0]
            raise PromptError(
                f"prompt {i}: read position {int(self.read_positions[i])} outside its {int(ends[i])} tokens"
            )
        _check_ids(self.sequences, self.d_vocab, "sequence", self.sequence_lengths)
        _check_ids(self.targets[:, None], self.d_vocab, "the target of prompt")

    def _check_sequences(self) -> None:
        n_sequences, width = self.sequences.shape
        for name in ("sequence_lengths", "sequence_labels"):
            if len(getattr(self, name)) != n_sequences:
                raise InputError(f"{name} has {len(getattr(self, name))} entries, there are {n_sequences} sequences")
        if int(self.sequence_lengths.max()) > width:
            raise InputError(f"a sequence of {int(self.sequence_lengths.max())} tokens in an array {width} wide")
        if int(self.sequence_of.min()) < 0 or int(self.sequence_of.max()) >= n_sequences:
            raise InputError(f"sequence_of names sequences outside the {n_sequences} that are there")
        if (kinds := self.sequence_kinds) is not None and (
            kinds.shape != self.sequences.shape or int(kinds.min()) < 0 or int(kinds.max()) >= len(self.kinds)
        ):
            raise InputError(
                f"sequence_kinds has shape {tuple(kinds.shape)} and numbers up to {int(kinds.max())}, expected "
                f"{tuple(self.sequences.shape)} and numbers of the {len(self.kinds)} kinds"
            )
        for name, mask in self.token_sets.items():
            if tuple(mask.shape) not in ((self.d_vocab,), (len(self), self.d_vocab)):
                raise InputError(
                    f"token set {name!r} has shape {tuple(mask.shape)}, expected ({self.d_vocab},) or "
                    f"({len(self)}, {self.d_vocab})"
                )

    @classmethod
    def from_tokens(
        cls: type[Batch],
        tokens: Sequence[Sequence[int]],
        targets: Sequence[int],
        *,
        d_vocab: int,
        pad_id: int = 0,
        labels: Sequence[Sequence[str]] | None = None,
        **more: Any,
    ) -> Batch:
        """A batch in which each prompt is a sequence of its own, read at its last token.

        Args:
            tokens: token ids of each prompt, of any lengths.
            targets: for each prompt the id of the token that should follow it.
            d_vocab: size of the vocabulary; ids outside are refused.
            pad_id: what fills the sequences on the right; it changes no number.
            labels: the prompts' tokens as strings; without them the ids serve.

        Raises:
            InputError: no prompts, or as many targets as prompts are missing.
            PromptError: an empty prompt, or an id outside the vocabulary.
        """
        if len(tokens) != len(targets):
            raise InputError(f"{len(tokens)} prompts but {len(targets)} targets: each prompt needs one")
        for i, ids in enumerate([*tokens, targets]):
            if len(ids) and not all(isinstance(t, int) or torch.as_tensor(t).dtype in INTEGERS for t in ids):
                what = f"prompt {i}" if i < len(tokens) else "targets"
                raise PromptError(f"{what}: token ids are whole numbers, got {list(ids)[:4]}")
        if empty := [i for i, t in enumerate(tokens) if len(t) == 0]:
            raise PromptError(f"prompt {empty[0]} has no tokens, expected at least one")
        lengths = torch.tensor([len(t) for t in tokens], dtype=torch.long)
        padded = torch.full((len(tokens), max(map(len, tokens), default=0)), pad_id)
        for row, ids in enumerate(tokens):
            padded[row, : len(ids)] = torch.as_tensor(ids)
        names = labels if labels is not None else [[str(int(t)) for t in ids] for ids in tokens]
        return cls(
            sequences=padded,
            sequence_lengths=lengths,
            sequence_of=torch.arange(len(tokens)),
            read_positions=lengths - 1,
            targets=torch.as_tensor(targets, dtype=torch.long),
            d_vocab=d_vocab,
            sequence_labels=tuple(tuple(t) for t in names),
            **more,
        )

    def __len__(self) -> int:
        return len(self.targets)

    def __repr__(self) -> str:
        lengths = self.lengths
        task = f"task {self.info['task']!r}, " if "task" in self.info else ""
        return (
            f"{type(self).__name__}({task}{len(self)} prompts of {int(lengths.min())} to {int(lengths.max())} tokens)"
        )

    @cached_property
    def lengths(self) -> Int[Tensor, "prompt"]:
        """Number of tokens of each prompt, the read position being the last."""
        return self.read_positions + 1

    @cached_property
    def tokens(self) -> Int[Tensor, "prompt position"]:
        """Token ids of each prompt, padded on the right beyond `lengths` with what the sequences hold there."""
        return self.sequences[self.sequence_of][:, : int(self.lengths.max())]

    @cached_property
    def labels(self) -> tuple[tuple[str, ...], ...]:
        """The tokens of each prompt as strings."""
        pairs = zip(self.sequence_of.tolist(), self.lengths.tolist(), strict=True)
        return tuple(self.sequence_labels[s][:n] for s, n in pairs)

    def token_name(self, token: int) -> str:
        """The token as a string where the vocabulary is known, else its id."""
        return self.vocabulary[token] if self.vocabulary is not None else str(token)

    def select(self: Batch, prompts: Sequence[int] | Tensor) -> Batch:
        """The batch with just these prompts, in this order, or those where a mask holds."""
        chosen = chosen_prompts(prompts, len(self))
        sets = {name: s[chosen] if s.ndim == 2 else s for name, s in self.token_sets.items()}
        used, sequence_of = torch.unique(self.sequence_of[chosen], return_inverse=True)
        return replace(
            self,
            sequences=self.sequences[used],
            sequence_lengths=self.sequence_lengths[used],
            sequence_labels=tuple(self.sequence_labels[i] for i in used.tolist()),
            sequence_of=sequence_of,
            read_positions=self.read_positions[chosen],
            targets=self.targets[chosen],
            token_sets=sets,
            incorrect=None if self.incorrect is None else self.incorrect[chosen],
            sequence_kinds=None if self.sequence_kinds is None else self.sequence_kinds[used],
        )

    def having(self: Batch, token_set: str) -> Batch:
        """The batch without the prompts for which the named token set holds nothing but the target.

        Raises:
            InputError: no token set of that name, or no prompt is left.
        """
        others = self.others(token_set)
        keep = torch.nonzero(others.expand(len(self), -1).any(1)).flatten()
        if len(keep) == 0:
            raise InputError(f"none of the {len(self)} prompts has a token in {token_set!r} beside its target")
        return self.select(keep)

    def others(self, token_set: str | Tensor) -> Bool[Tensor, "prompt vocab"]:
        """The tokens of a named set or of a mask without each prompt's target ("all": the whole vocabulary)."""
        mask = self.token_set(token_set)
        mask = mask.expand(len(self), -1).clone()
        mask[torch.arange(len(self)), self.targets] = False
        return mask

    def token_set(self, token_set: str | Tensor) -> TokenSet:
        """The mask behind a name, or the mask itself after a look at its shape."""
        if isinstance(token_set, str):
            if token_set == "all":
                return torch.ones(self.d_vocab, dtype=torch.bool)
            if token_set not in self.token_sets:
                known = ", ".join(repr(s) for s in ("all", *self.token_sets))
                raise InputError(f"unknown token set {token_set!r}: this batch has {known}, or give a mask")
            return self.token_sets[token_set]
        if token_set is None:
            raise InputError("others is the name of a token set or a mask, got None")
        mask = torch.as_tensor(token_set)
        if mask.dtype != torch.bool or tuple(mask.shape) not in ((self.d_vocab,), (len(self), self.d_vocab)):
            raise InputError(
                f"a mask of others is boolean with shape ({self.d_vocab},) or ({len(self)}, {self.d_vocab}), "
                f"got {mask.dtype} with shape {tuple(mask.shape)}"
            )
        return mask

    def queue(self) -> SequenceQueue:
        """The sequences that prompts read, in the order in which forward passes take them."""
        return SequenceQueue(self)


def chosen_prompts(prompts: Sequence[int] | Tensor, n: int) -> Int[Tensor, "chosen"]:
    """Prompt numbers, or the numbers where a mask [prompt] holds.

    Raises:
        InputError: no list of numbers or mask, a mask of another length than the batch, or a number outside it.
    """
    chosen = _as_indices(prompts)
    if chosen.dtype == torch.bool:
        if tuple(chosen.shape) != (n,):
            raise InputError(f"a mask of prompts has shape ({n},), got {tuple(chosen.shape)}")
        return torch.nonzero(chosen).flatten()
    if (outside := (chosen < -n) | (chosen >= n)).any():
        raise InputError(f"prompt {int(chosen[outside][0])} outside the {n} prompts")
    return chosen.long() % n


def _as_indices(prompts: object) -> Tensor:
    try:
        chosen = torch.as_tensor(prompts)
    except (TypeError, ValueError, RuntimeError):
        chosen = torch.tensor(0.5)
    if chosen.numel() == 0:
        return torch.empty(0, dtype=torch.long)
    if chosen.ndim != 1 or chosen.dtype not in (*INTEGERS, torch.bool):
        raise InputError(f"prompts are chosen by a list of their numbers or by a mask, got {str(prompts)[:60]}")
    return chosen


def _check_ids(ids: Tensor, d_vocab: int, what: str, lengths: Tensor | None = None) -> None:
    outside = (ids < 0) | (ids >= d_vocab)
    if lengths is not None:
        outside &= torch.arange(ids.shape[1]) < lengths[:, None]
    if outside.any():
        row, position = torch.nonzero(outside)[0].tolist()
        where = f"{what} {row}, position {position}" if lengths is not None else f"{what} {row}"
        raise PromptError(f"{where}: token id {int(ids[row, position])} outside the vocabulary of {d_vocab} tokens")
