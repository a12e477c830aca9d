"""Relations: for each prompt, which keys count for which queries."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from maze_dla.engine.prompts import PromptBatch
from maze_dla.errors import InputError, check_kind
from maze_dla.results.arrays import as_array

Tokens = tuple[str, ...]
Pairs = Int[Tensor, "pair 3"]  # number of the relation, query, key
Relation = Callable[[Tokens], Any]
"""From a sequence's tokens as strings to a mask [query, key], or to a list of pairs (query, key)."""
RETURNS = "a mask [query, key], or a list of pairs (query, key)"


@dataclass(frozen=True, eq=False, repr=False)
class Relations:
    """Which keys count for which queries of each sequence, under some names.

    A key never stands after its query, and what counts for a query hangs on the tokens up to it alone, so that all
    prompts of one sequence share its relations. `sections` number the parts of each sequence's text, where it has some:
    another prompt's relations are laid over a prompt part by part.
    """

    names: tuple[str, ...]
    pairs: Mapping[Tokens, Pairs]
    sections: Mapping[Tokens, Int[Tensor, " position"]]

    @classmethod
    def of(
        cls,
        batch: PromptBatch,
        relations: Mapping[str, Relation],
        sections: Mapping[Tokens, Int[Tensor, " position"]] | None = None,
    ) -> Relations:
        """Relations of your own: {"first token": lambda tokens: [(query, 0) for query in range(1, len(tokens))]}.

        Args:
            batch: the prompts; the relations of a part of them are the same.
            relations: for each name a function of a sequence's tokens, as strings, that returns a mask [query, key], or
                a list of pairs (query, key), positions from 0. It may look at tokens up to the query alone.
            sections: the parts of the text of each sequence, by its tokens, where it has parts.

        Raises:
            InputError: no mapping from names to functions, or a function that returns something else.
        """
        check_kind(batch, PromptBatch, "batch is a PromptBatch, such as that of maze.prompts()")
        check_kind(relations, Mapping, "relations are a mapping from names to functions")
        for name, function in relations.items():
            if not isinstance(name, str) or not callable(function):
                raise InputError(f"relations are a mapping from names to functions, got {name!r:.60}: {function!r:.60}")
        if not relations:
            raise InputError("relations are a mapping from names to functions, got none")
        each = dict.fromkeys(batch.sequence_labels)
        pairs = {tokens: _pairs(tokens, relations) for tokens in each}
        return cls(tuple(relations), pairs, {} if sections is None else sections)

    def of_sequence(self, tokens: Tokens) -> Pairs:
        """The pairs of a sequence.

        Raises:
            InputError: a sequence that these relations were not made for.
        """
        if tokens not in self.pairs:
            shown = " ".join(tokens[:6])
            raise InputError(
                f"the relations were made for other prompts: none of {len(self.pairs)} sequences is "
                f"{len(tokens)} tokens long and begins {shown!r:.80}"
            )
        return self.pairs[tokens]

    def sections_of(self, tokens: Tokens) -> Int[Tensor, " position"]:
        """The part of the text that each token stands in; one for all where it has no parts."""
        found = self.sections.get(tokens)
        return torch.zeros(len(tokens), dtype=torch.long) if found is None else found

    def only(self, *names: str) -> Relations:
        """These relations alone, in this order.

        Raises:
            InputError: no name, or an unknown one.
        """
        if unknown := [name for name in names if name not in self.names]:
            raise InputError(f"no relation {unknown[0]!r}, there are {', '.join(self.names)}")
        if not names:
            raise InputError(f"no relation is chosen, there are {', '.join(self.names)}")
        number = torch.full((len(self.names),), -1)
        number[[self.names.index(name) for name in names]] = torch.arange(len(names))
        return replace(self, names=names, pairs={t: _renumbered(held, number) for t, held in self.pairs.items()})

    def __add__(self, other: Relations) -> Relations:
        """These relations and others of the same prompts.

        Raises:
            InputError: something else, a name in both, or other prompts.
        """
        check_kind(other, Relations, "relations are joined with relations")
        if both := set(self.names) & set(other.names):
            raise InputError(f"two relations go by the name {sorted(both)[0]!r}, expected each once")
        shift = torch.tensor([len(self.names), 0, 0])
        pairs = {t: torch.cat([held, other.of_sequence(t) + shift]) for t, held in self.pairs.items()}
        return Relations((*self.names, *other.names), pairs, {**other.sections, **self.sections})

    def __repr__(self) -> str:
        return f"Relations({', '.join(self.names)}; of {len(self.pairs)} sequences)"


def _renumbered(pairs: Pairs, number: Int[Tensor, " relation"]) -> Int[Tensor, "chosen 3"]:
    found = torch.cat([number[pairs[:, :1]], pairs[:, 1:]], 1)
    return found[found[:, 0] >= 0]


def _pairs(tokens: Tokens, relations: Mapping[str, Relation]) -> Pairs:
    """The pairs of all relations of one sequence, each once."""
    held = [_of_relation(f"relation {name!r}", relation(tokens), len(tokens)) for name, relation in relations.items()]
    n = len(tokens)
    codes = torch.cat([(i * n + p[:, 0]) * n + p[:, 1] for i, p in enumerate(held)]).unique()
    return torch.stack([codes // n**2, codes // n % n, codes % n], 1)


def _of_relation(what: str, given: Any, n: int) -> Int[Tensor, "pair 2"]:
    """The value that a function returned, as pairs of query and key.

    Raises:
        InputError: neither a mask nor pairs, positions outside the sequence, or a key after its query.
    """
    if isinstance(given, Iterable) and not isinstance(given, str | Sequence | Tensor) and not hasattr(given, "shape"):
        given = list(given)
    found = as_array(what, given, f"{what} returns {RETURNS}")
    if found.dtype == torch.bool and tuple(found.shape) == (n, n):
        found = found.nonzero()
    if found.numel() == 0:
        return torch.zeros(0, 2, dtype=torch.long)
    if found.dtype != torch.int64 or found.ndim != 2 or found.shape[1] != 2:
        seen = f"{str(found.dtype).removeprefix('torch.')} of shape {tuple(found.shape)}"
        raise InputError(f"{what} returns {RETURNS}, got {seen} for {n} tokens")
    if int(found.min()) < 0 or int(found.max()) >= n:
        raise InputError(f"{what}: positions {int(found.min())} to {int(found.max())} of {n} tokens, from 0")
    if (later := found[:, 1] > found[:, 0]).any():
        query, key = found[later][0].tolist()
        raise InputError(f"{what}: query {query} has key {key}, which stands after it and gets no attention")
    return found


def as_mask(pairs: Pairs, n_relations: int, n: int) -> Bool[Tensor, "relation query key"]:
    """Pairs as a mask of the first `n` positions."""
    mask = torch.zeros(n_relations, n, n, dtype=torch.bool)
    held = pairs[pairs[:, 1] < n]
    mask[held[:, 0], held[:, 1], held[:, 2]] = True
    return mask


def places_in(sections: Int[Tensor, " position"], own_sections: Int[Tensor, " own"]) -> Int[Tensor, " position"]:
    """Where each position of another prompt is laid in this one; -1 where this one has no such place."""
    to = torch.full((len(sections),), -1)
    for section in sections.unique().tolist():
        theirs, own = torch.nonzero(sections == section)[:, 0], torch.nonzero(own_sections == section)[:, 0]
        n = min(len(theirs), len(own))
        to[theirs[:n]] = own[:n]
    return to


def laid_over(
    pairs: Pairs, sections: Int[Tensor, " position"], own_sections: Int[Tensor, " own"]
) -> Int[Tensor, "moved 3"]:
    """Another prompt's pairs at the positions of this one: place by place within each part of the text.

    Pairs at places that this prompt does not have are left out.
    """
    if torch.equal(sections, own_sections):
        return pairs
    to = places_in(sections, own_sections)
    inside = pairs[pairs[:, 1] < len(sections)]
    moved = torch.cat([inside[:, :1], to[inside[:, 1:]]], 1)
    return moved[(moved >= 0).all(1) & (moved[:, 2] <= moved[:, 1])]
