"""Pairs of prompts: each with its counterfactual, as long token by token, in which one thing differs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from maze_dla.engine.fields import check_named
from maze_dla.engine.ids import first_where
from maze_dla.engine.prompts import PromptBatch
from maze_dla.errors import InputError, PromptError, check_kind
from maze_dla.results.torch_defaults import torch_defaults


@dataclass(frozen=True, eq=False, repr=False)
class PromptPairs:
    """Prompts and their counterfactuals, prompt by prompt: pair `i` is `clean` prompt `i` and `corrupted` prompt `i`.

    Both prompts of a pair have as many tokens, read the sequence of the same number, and have one vocabulary, so that
    positions, sources and layers of the two can be compared one by one. After the read position, where a causal model
    never looks, sequences may differ in length.

    Raises:
        InputError: something else than two batches, other numbers of prompts or of sequences, or vocabularies.
        PromptError: naming the pair: prompts of different lengths.
    """

    clean: PromptBatch
    """The prompts."""
    corrupted: PromptBatch
    """Their counterfactuals, with right answers of their own."""
    info: Mapping[str, Any] = field(default_factory=dict)
    """The change made (`change`), how many were left out since nothing can be changed so (`left_out`), and `why`; after
    `select`, of how many pairs these are (`selected_from`), whose making `left_out` and `why` still tell."""
    unanswered: str | None = None
    """Where the corrupted prompts have no right answer of their own: why not. Their targets are then the clean ones."""

    @torch_defaults()
    def __post_init__(self) -> None:
        for name in ("clean", "corrupted"):
            check_kind(getattr(self, name), PromptBatch, f"the {name} prompts are a PromptBatch")
        check_named("info", self.info)
        clean, corrupted = self.clean, self.corrupted
        if len(clean) != len(corrupted):
            raise InputError(f"{len(clean)} clean prompts but {len(corrupted)} corrupted ones: each needs its own")
        if (differs := clean.lengths != corrupted.lengths).any():
            i = first_where(differs)
            raise PromptError(
                f"pair {i}: the clean prompt has {int(clean.lengths[i])} tokens, the corrupted one "
                f"{int(corrupted.lengths[i])}, expected as many"
            )
        if len(clean.sequences) != len(corrupted.sequences) or not clean.sequence_of.equal(corrupted.sequence_of):
            raise InputError("clean and corrupted prompts read sequences of other numbers, expected the same layout")
        self._check_vocabularies()
        self._cluster_together()

    def _cluster_together(self) -> None:
        """Count what a pair is about once: the corrupted prompt is about the clean prompt's maze or text."""
        unit, other = self.clean.unit, self.corrupted
        columns = {**other.columns, unit: self.clean.columns[unit]}
        if other.unit != unit or columns[unit] is not other.columns.get(unit):
            object.__setattr__(self, "corrupted", replace(other, unit=unit, columns=columns))

    def _check_vocabularies(self) -> None:
        one, two = self.clean, self.corrupted
        if one.d_vocab != two.d_vocab:
            raise InputError(f"clean prompts have a vocabulary of {one.d_vocab} tokens, corrupted ones {two.d_vocab}")
        if one.vocabulary is not None and two.vocabulary is not None and one.vocabulary != two.vocabulary:
            raise InputError("clean and corrupted prompts have vocabularies with other names for their tokens")
        if one.kinds != two.kinds or (one.sequence_kinds is None) != (two.sequence_kinds is None):
            raise InputError(f"clean prompts have the kinds of tokens {one.kinds}, corrupted ones {two.kinds}")

    def __len__(self) -> int:
        return len(self.clean)

    def __repr__(self) -> str:
        lengths, facts = self.clean.lengths, {**self.clean.info, **self.info}
        named = [f"{name} {facts[name]!r}" for name in ("task", "change") if name in facts]
        size = f"{len(self)} pairs of {int(lengths.min())} to {int(lengths.max())} tokens"
        return f"{type(self).__name__}({', '.join([*named, size])}{self._left_out()})"

    def _left_out(self) -> str:
        chosen = f", selected from {self.n_made}" if "selected_from" in self.info else ""
        if not (n := self.info.get("left_out")):
            return chosen
        why = "; ".join(f"{count}: {reason}" for reason, count in (self.info.get("why") or {}).items())
        return f"{chosen}; {n} left out{f' ({why})' if why else ''}"

    @property
    def n_made(self) -> int:
        """The number of pairs that were made, of which these may be a selection."""
        return int(self.info.get("selected_from", len(self)))

    @property
    def labels(self) -> tuple[tuple[str, ...], ...]:
        """The tokens of each clean prompt as strings."""
        return self.clean.labels

    @property
    def steps(self) -> Int[Tensor, " prompt"] | None:
        """The step of a path that each prompt is; None where they are none."""
        return self.clean.steps

    def geometry(self, prompt: int) -> Any:
        """Where the tokens of a clean prompt lie, as a picture needs it; None where they have no place."""
        return self.clean.geometry(prompt)

    @torch_defaults()
    def changed(self) -> Bool[Tensor, "prompt position"]:
        """At which positions the two prompts of each pair have other tokens."""
        one, two = self.clean.tokens, self.corrupted.tokens
        return (one != two) & (torch.arange(one.shape[1]) < self.clean.lengths[:, None])

    def select(self, prompts: Sequence[int] | Tensor) -> PromptPairs:
        """Just these pairs, in this order, or those where a mask holds; `info` tells of how many (`selected_from`).

        Raises:
            InputError: as `PromptBatch.select`.
        """
        clean, corrupted = self.clean.select(prompts), self.corrupted.select(prompts)
        return replace(self, clean=clean, corrupted=corrupted, info={**self.info, "selected_from": self.n_made})

    def having(self, token_set: str) -> PromptPairs:
        """The pairs without those for whose clean prompt the named token set holds nothing but right answers.

        Raises:
            InputError: no token set of that name, or no pair is left.
        """
        return self.select(self.clean.numbers_having(token_set))

    def swapped(self) -> PromptPairs:
        """The same pairs the other way round."""
        return replace(self, clean=self.corrupted, corrupted=self.clean)

    @torch_defaults()
    def joined(self) -> PromptBatch:
        """One batch of all prompts, clean ones first, so that one run computes what the two of a pair share once.

        Sequence `i` and sequence `i + n` are a pair, likewise the prompts.
        """
        both = (self.clean, self.corrupted)
        kinds = [batch.sequence_kinds for batch in both if batch.sequence_kinds is not None]
        return PromptBatch(
            sequences=_rows([batch.sequences for batch in both]),
            sequence_lengths=torch.cat([batch.sequence_lengths for batch in both]),
            sequence_of=torch.cat([self.clean.sequence_of, len(self.clean.sequences) + self.corrupted.sequence_of]),
            read_positions=torch.cat([batch.read_positions for batch in both]),
            targets=torch.cat([batch.targets for batch in both]),
            d_vocab=self.clean.d_vocab,
            sequence_labels=(*self.clean.sequence_labels, *self.corrupted.sequence_labels),
            vocabulary=self.clean.vocabulary,
            kinds=self.clean.kinds,
            sequence_kinds=_rows(kinds) if kinds else None,
            d_vocab_in=self.clean.d_vocab_in,
        )


def _rows(arrays: Sequence[Int[Tensor, "_ _"]], filled_with: int = 0) -> Int[Tensor, "row column"]:
    """Arrays one below the other, narrow ones filled up on the right."""
    width = max(array.shape[1] for array in arrays)
    padded = [torch.nn.functional.pad(array, (0, width - array.shape[1]), value=filled_with) for array in arrays]
    return torch.cat(padded)
