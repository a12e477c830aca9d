"""Prompts: a sequence and a read position in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from maze_dla.engine.batch_fields import complete_fields
from maze_dla.engine.fields import token_labels
from maze_dla.engine.ids import NONE, as_mask, id_sets, whole_numbers
from maze_dla.engine.joining import joined_fields
from maze_dla.engine.sparse import SparseRows
from maze_dla.errors import InputError, PromptError, check_kind, check_list, check_whole
from maze_dla.results.arrays import LARGEST
from maze_dla.results.columns import Columns, chosen_rows
from maze_dla.results.selection import chosen_prompts
from maze_dla.results.torch_defaults import torch_defaults

Batch = TypeVar("Batch", bound="PromptBatch")
TokenSet = Bool[Tensor, " vocab"] | Bool[Tensor, "prompt vocab"] | Int[Tensor, "prompt k"]
Answers = Int[Tensor, "prompt answer"]
if TYPE_CHECKING:
    AnswersOrTargets = Answers
else:
    AnswersOrTargets = Answers | None  # None stands for the targets, and is never kept


@dataclass(frozen=True, eq=False)
class PromptBatch:
    """Prompts of different lengths, what should follow each, and names for what they are compared with.

    Prompt `i` is the sequence `sequence_of[i]` up to and including the position `read_positions[i]`, so that prompts
    which are prefixes of one sequence share it. A causal model never looks after the read position: a prompt's numbers
    do not depend on the padding or on its neighbours.
    """

    sequences: Int[Tensor, "sequence position"]
    """Token ids, padded on the right."""
    sequence_lengths: Int[Tensor, " sequence"]
    """The number of tokens of each sequence."""
    sequence_of: Int[Tensor, " prompt"]
    """The sequence of each prompt."""
    read_positions: Int[Tensor, " prompt"]
    """The position of each prompt's last token, where its logits are read."""
    targets: Int[Tensor, " prompt"]
    """The token that should follow each prompt: the first of its answers."""
    d_vocab: int
    """The number of the model's outputs, from which targets and all sets of tokens are taken."""
    sequence_labels: tuple[tuple[str, ...], ...]
    """The tokens of each sequence as strings."""
    vocabulary: Sequence[str] | None = None
    """The model's outputs as strings."""
    token_sets: Mapping[str, TokenSet] = field(default_factory=dict)
    """Named sets of tokens that a metric can compare the answers with: a mask for all prompts, [vocab], or for each,
    [prompt, vocab], or the ids of each, [prompt, k], filled up with -1."""
    info: Mapping[str, Any] = field(default_factory=dict)
    """Where the prompts come from; results repeat it."""
    incorrect: Int[Tensor, " prompt"] | None = None
    """The first of each prompt's `foils`."""
    kinds: tuple[str, ...] = ()
    """Names of the kinds of tokens."""
    sequence_kinds: Int[Tensor, "sequence position"] | None = None
    """The kind of each token of every sequence, an index into `kinds`."""
    answers: AnswersOrTargets = None  # pyright: ignore[reportAssignmentType]
    """The right tokens of each prompt, filled up with -1; by default `targets` alone."""
    foils: Int[Tensor, "prompt foil"] | None = None
    """The wrong tokens that a logit difference sets against the answers, where the batch names some."""
    d_vocab_in: int | None = None
    """The number of tokens that the model reads, where it is known; else ids are checked when the batch is run."""
    steps: Int[Tensor, " prompt"] | None = None
    """Where prompts are steps of a path: which step each is."""
    columns: Columns = field(default_factory=dict)
    """One value for each prompt under each name, a number or a text; the table of a result repeats them. A column
    `chance` is the probability that guessing answers the prompt rightly, which results compare the accuracy with."""
    unit: str = "text"
    """The column that names what a prompt is about. Prompts about one such thing are not independent of each other:
    intervals count things, not prompts. Without such a column prompts of one sequence are about one thing."""
    own_columns: tuple[str, ...] = ()
    """The names of columns that `with_column` gave, and may give anew."""

    @torch_defaults()
    def __post_init__(self) -> None:
        complete_fields(self)

    @classmethod
    @torch_defaults()
    def from_tokens(
        cls: type[Batch],
        tokens: Sequence[Any],
        targets: Any,
        *,
        d_vocab: int,
        pad_id: int = 0,
        labels: Sequence[Sequence[str]] | None = None,
        incorrect: Any = None,
        **more: Any,
    ) -> Batch:
        """A batch in which each prompt is a sequence of its own, read at its last token.

        Args:
            tokens: token ids of each prompt, of any lengths.
            targets: for each prompt the id of the token that should follow it, or a set or list of ids, each of which
                is right.
            d_vocab: the number of the model's outputs; targets outside are refused.
            pad_id: what fills the sequences on the right; it changes no number.
            labels: the prompts' tokens as strings; without them the ids serve.
            incorrect: for each prompt a wrong id, or a set or list of them, for `logit_diff` to set against the right
                ones.
            **more: further fields of the batch, `d_vocab_in` for one.

        Raises:
            InputError: no prompts, as many targets or labels as prompts are missing, labels of another length or that
                are no strings, a tensor on the meta device, a further field that does not fit.
            PromptError: an empty prompt, ids that are no whole numbers or lie outside the vocabulary, a token that is
                both right and wrong.
        """
        for name, given in (("tokens", tokens), ("targets", targets), ("labels", tokens if labels is None else labels)):
            check_list(given, name)
        if len(tokens) != len(targets):
            raise InputError(f"{len(tokens)} prompts but {len(targets)} targets: each prompt needs one")
        rows = [whole_numbers(f"prompt {i}", ids) for i, ids in enumerate(tokens)]
        if bad := [i for i, row in enumerate(rows) if row.ndim != 1 or len(row) == 0]:
            seen = "no tokens, expected at least one" if rows[bad[0]].numel() == 0 else "no list of token ids"
            raise PromptError(f"prompt {bad[0]} has {seen}")
        lengths = torch.tensor([len(row) for row in rows], dtype=torch.long)
        pad_id = check_whole("pad_id", pad_id, -LARGEST, LARGEST)
        padded = torch.full((len(rows), int(max(lengths, default=0))), pad_id)
        for i, row in enumerate(rows):
            padded[i, : len(row)] = row
        answers = id_sets("targets", targets)
        foils = None if incorrect is None else id_sets("incorrect", incorrect)
        return cls(
            sequences=padded,
            sequence_lengths=lengths,
            sequence_of=torch.arange(len(rows)),
            read_positions=lengths - 1,
            targets=answers[:, 0],
            d_vocab=d_vocab,
            sequence_labels=_labels(labels, rows),
            answers=answers,
            incorrect=None if foils is None else foils[:, 0],
            foils=foils,
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
    @torch_defaults()
    def lengths(self) -> Int[Tensor, " prompt"]:
        """Number of tokens of each prompt, the read position being the last."""
        return self.read_positions + 1

    @cached_property
    @torch_defaults()
    def tokens(self) -> Int[Tensor, "prompt position"]:
        """Token ids of each prompt, padded on the right beyond `lengths` with what the sequences hold there."""
        return self.sequences[self.sequence_of][:, : int(self.lengths.max())]

    @cached_property
    @torch_defaults()
    def labels(self) -> tuple[tuple[str, ...], ...]:
        """The tokens of each prompt as strings."""
        pairs = zip(self.sequence_of.tolist(), self.lengths.tolist(), strict=True)
        return tuple(self.sequence_labels[s][:n] for s, n in pairs)

    def token_name(self, token: int) -> str:
        """The token as a string where the vocabulary is known, else its id."""
        return self.vocabulary[token] if self.vocabulary is not None else str(token)

    @cached_property
    @torch_defaults()
    def fingerprints(self) -> Int[Tensor, " prompt"]:
        """A number for each prompt by which its tokens and its right answers can be told from those of another one."""
        positions = torch.arange(self.sequences.shape[1])
        so_far = _mixed(self.sequences + (positions << 32)).cumsum(1)
        read = so_far[self.sequence_of, self.read_positions]
        right = (_mixed(self.answers) * (self.answers != NONE)).sum(1)
        return _mixed(read) + right

    @torch_defaults()
    def select(self: Batch, prompts: Any) -> Batch:
        """The batch with just these prompts, in this order, or those where a mask holds.

        Args:
            prompts: numbers, or a mask [prompt], of numpy, torch or pandas (`result.table.distance > 6`).

        Raises:
            InputError: neither of these, a number outside the batch, a mask of another length, or no prompt is chosen.
        """
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
            answers=self.answers[chosen],
            token_sets=sets,
            incorrect=None if self.incorrect is None else self.incorrect[chosen],
            foils=None if self.foils is None else self.foils[chosen],
            sequence_kinds=None if self.sequence_kinds is None else self.sequence_kinds[used],
            steps=None if self.steps is None else self.steps[chosen],
            columns=chosen_rows(self.columns, chosen),
        )

    @torch_defaults()
    def __add__(self: Batch, other: PromptBatch) -> Batch:
        """The prompts of both batches, those of the other after these: of other seeds, tasks, data sets.

        Each prompt keeps its tokens, answers, token sets and columns, so that a metric made for the sum has the numbers
        of those made for each. Facts in `info` that differ are both named, as in "0 + 1" for two seeds.

        Raises:
            InputError: batches of other classes, for other vocabularies, one with and one without BOS, or of which
                only one has a column, a token set, incorrect tokens, kinds of tokens or steps.
        """
        if not isinstance(other, PromptBatch):
            return NotImplemented
        if type(other) is not type(self):
            raise InputError(f"batches of one class are joined, got {type(self).__name__} and {type(other).__name__}")
        return replace(self, **self._joined_with(other))

    def _joined_with(self, other: Any) -> dict[str, Any]:
        """The fields of a batch that holds the prompts of both; classes with more fields add theirs."""
        return joined_fields(self, other)

    @torch_defaults()
    def with_column(self: Batch, name: str, values: Any) -> Batch:
        """The batch with one more column, which the tables of its results show; one of your own can be given anew.

        Args:
            name: its name, none that results or prompts use themselves.
            values: a number or a text for each prompt, as a list, array or Series.

        Raises:
            InputError: a name that is taken, or values that do not fit.
        """
        check_kind(name, str, "a column's name is a text")
        if name in self.columns and name not in self.own_columns:
            raise InputError(f"there is a column {name!r} already: {', '.join(self.columns)}")
        own = tuple(dict.fromkeys((*self.own_columns, name)))
        return replace(self, columns={**self.columns, name: values}, own_columns=own)

    def geometry(self, prompt: int) -> Any:
        """Where a prompt's tokens lie, as a picture needs it; None where they have no place."""

    @torch_defaults()
    def having(self: Batch, token_set: str) -> Batch:
        """The batch without the prompts for which the named token set holds nothing but right answers.

        Raises:
            InputError: no token set of that name, or no prompt is left.
        """
        return self.select(self.numbers_having(token_set))

    @torch_defaults()
    def numbers_having(self, token_set: str) -> Int[Tensor, " chosen"]:
        """The numbers of the prompts that `having` keeps.

        Raises:
            InputError: as `having`.
        """
        rows = self.set_rows(token_set)
        keep = torch.nonzero(rows.sums() > rows.at(self.answers).sum(1)).flatten()
        if len(keep) == 0:
            raise InputError(f"none of the {len(self)} prompts has a token in {token_set!r} beside its target")
        return keep

    @torch_defaults()
    def others(self, token_set: str | Tensor) -> Bool[Tensor, "prompt vocab"]:
        """The tokens of a named set or of a mask without each prompt's answers ("all": the whole vocabulary).

        An array of this size is large where vocabularies are; metrics do without it.
        """
        mask = self.token_set(token_set).expand(len(self), -1).clone()
        prompts, k = torch.nonzero(self.answers != NONE).T
        mask[prompts, self.answers[prompts, k]] = False
        return mask

    @torch_defaults()
    def token_set(self, token_set: str | Tensor) -> Bool[Tensor, " vocab"] | Bool[Tensor, "prompt vocab"]:
        """The mask of a name, or the mask itself after a look at its shape."""
        held = self._held(token_set)
        return held if held.dtype == torch.bool else SparseRows.listed(held, self.d_vocab).dense() > 0

    @torch_defaults()
    def set_rows(self, token_set: str | Tensor) -> SparseRows:
        """The same as rows of zeros and ones, without an array [prompt, vocab]."""
        held = self._held(token_set)
        if held.ndim == 1:
            return SparseRows.alike(held, len(self))
        return SparseRows.of(held) if held.dtype == torch.bool else SparseRows.listed(held, self.d_vocab)

    def _held(self, token_set: str | Tensor) -> Tensor:
        """A set of tokens: a mask, or the ids of each prompt."""
        if isinstance(token_set, str):
            if token_set == "all":
                return torch.ones(self.d_vocab, dtype=torch.bool)
            if token_set not in self.token_sets:
                known = ", ".join(repr(s) for s in ("all", *self.token_sets))
                raise InputError(f"unknown token set {token_set!r}: this batch has {known}, or give a mask")
            return self.token_sets[token_set]
        return as_mask(token_set, len(self), self.d_vocab)


def _labels(labels: Sequence[Any] | None, rows: Sequence[Tensor]) -> tuple[tuple[str, ...], ...]:
    """The tokens of each prompt as strings, or their ids where there are none."""
    if labels is None:
        return tuple(tuple(map(str, row.tolist())) for row in rows)
    if len(labels) != len(rows):
        raise InputError(f"{len(rows)} prompts but labels for {len(labels)}")
    return token_labels("prompt", labels, [len(row) for row in rows])


def _mixed(numbers: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """Each number scattered over 64 bits, so that sums of them tell sets apart (as splitmix64 does)."""
    numbers = numbers - 0x61C8864680B583EB  # so that no number stays 0
    for shift, factor in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15)):
        numbers = (numbers ^ (numbers >> shift)) * factor
    return numbers ^ (numbers >> 31)
