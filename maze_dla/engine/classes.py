"""Prompts in classes: what a probe is asked to tell apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from maze_dla.engine.prompts import PromptBatch
from maze_dla.errors import InputError, check_kind, check_list
from maze_dla.results.columns import Column, groups_of, name_of
from maze_dla.results.probing import cue_frame, folds_of
from maze_dla.results.selection import chosen_prompts
from maze_dla.results.torch_defaults import torch_defaults

MOST_CLASSES = 20
OF_TEXTS = ("length", "read token")


@dataclass(frozen=True, eq=False)
class PromptClasses:
    """Prompts with a class each, for `maze_dla.separability`.

    Made by `maze.classes`, by `PromptClasses.of(batch, labels)` or by `PromptClasses.of_batches({"a": one, "b": two})`.
    """

    batch: PromptBatch
    """The prompts of all classes."""
    class_of: Int[Tensor, " prompt"]
    """The class of each prompt, an index into `names`."""
    names: tuple[str, ...]
    """The classes, at least two."""
    question: str = "class"
    """The question that the classes answer, in a few words."""

    def __post_init__(self) -> None:
        check_kind(self.batch, PromptBatch, "batch is a PromptBatch, such as that of maze.prompts()")
        if len(self.class_of) != len(self.batch):
            raise InputError(f"{len(self.class_of)} labels for {len(self.batch)} prompts, expected one for each")
        if not 2 <= len(self.names) <= MOST_CLASSES:
            shown = ", ".join(self.names[:4]) + ", ..." * (len(self.names) > 4)
            raise InputError(
                f"there are 2 to {MOST_CLASSES} classes, got {len(self.names)} ({shown}); "
                "numbers with many values are split in two, as maze.classes(batch, 'distance') does"
            )

    @classmethod
    @torch_defaults()
    def of(cls, batch: PromptBatch, labels: Any, question: str | None = None) -> PromptClasses:
        """Prompts of one batch by labels: the name of one of its columns, or a text or number for each prompt.

        Raises:
            InputError: no batch, no such column, another number of labels than of prompts, or fewer than two classes.
        """
        check_kind(batch, PromptBatch, "batch is a PromptBatch, such as that of maze.prompts()")
        if isinstance(labels, str):
            if labels not in batch.columns:
                raise InputError(f"no column {labels!r:.60}, the batch has {', '.join(batch.columns)}")
            return cls._of_values(batch, batch.columns[labels], question or labels)
        check_list(labels, "labels")
        given = batch.with_column("label of the class", labels).columns["label of the class"]
        return cls._of_values(batch, given, question or "class")

    @classmethod
    def _of_values(cls, batch: PromptBatch, values: Column, question: str) -> PromptClasses:
        listed = values.tolist() if isinstance(values, Tensor) else list(values)
        if missing := [x for x in listed if x != x]:
            raise InputError(f"labels are known for every prompt, got {len(missing)} missing ones")
        ordered = sorted(set(listed), key=lambda x: (isinstance(x, str), x))
        number = {value: i for i, value in enumerate(ordered)}
        return cls(batch, torch.tensor([number[x] for x in listed]), tuple(map(str, ordered)), question)

    @classmethod
    @torch_defaults()
    def of_batches(cls, batches: Mapping[str, PromptBatch], question: str = "class") -> PromptClasses:
        """Batches that are a class each, by their names.

        Raises:
            InputError: fewer than two, something else than batches, or batches that cannot be joined.
        """
        check_kind(batches, Mapping, "classes are a mapping from names to batches")
        for name, batch in batches.items():
            check_kind(name, str, "the name of a class is a text")
            check_kind(batch, PromptBatch, f"the class {name!r:.40} is a PromptBatch")
        if len(batches) < 2:
            raise InputError(f"there are at least two classes, got {len(batches)}")
        first, *others = batches.values()
        joined = first
        for other in others:
            joined = joined + other
        sizes = torch.tensor([len(batch) for batch in batches.values()])
        return cls(joined, torch.arange(len(sizes)).repeat_interleave(sizes), tuple(batches), question)

    def __len__(self) -> int:
        return len(self.batch)

    @property
    def labels(self) -> tuple[str, ...]:
        """The name of each prompt's class."""
        return tuple(self.names[k] for k in self.class_of.tolist())

    @property
    def counts(self) -> dict[str, int]:
        """How many prompts each class has."""
        return dict(zip(self.names, self.class_of.bincount(minlength=len(self.names)).tolist(), strict=True))

    @torch_defaults()
    def select(self, prompts: Any) -> PromptClasses:
        """The classes of just these prompts, as `batch.select`."""
        chosen = chosen_prompts(prompts, len(self))
        return replace(self, batch=self.batch.select(chosen), class_of=self.class_of[chosen])

    @torch_defaults()
    def balanced(self) -> PromptClasses:
        """As many prompts of each class as the rarest one has, in the order of the batch.

        Which are left out is decided by a hash of what they are about.

        Raises:
            InputError: a class without prompts.
        """
        least = min(self.counts.values())
        if least == 0:
            raise InputError(f"every class has prompts, got {self._counted()}")
        names = list(map(str, self._listed(self.batch.columns[self.batch.unit])))
        order = sorted(range(len(self)), key=lambda i: (name_of([names[i]]), i))
        kept = [i for k in range(len(self.names)) for i in [j for j in order if int(self.class_of[j]) == k][:least]]
        return self.select(sorted(kept))

    @cached_property
    def groups(self) -> Int[Tensor, " prompt"]:
        """The number of the maze or text that each prompt is about."""
        return groups_of(self.batch.columns[self.batch.unit])

    @torch_defaults()
    def cues(self, n_folds: int = 5) -> Any:
        """How well each column, the prompts' length and the token that is read tell the class by themselves: a table.

        Columns: cue, accuracy (balanced, of held-out groups: the commonest class among the others' prompts of that
        value), low, high. A cue above chance can be read where it stands, whatever a model makes of it.

        Raises:
            InputError: a class with prompts in fewer groups than folds.
        """
        names = list(dict.fromkeys(map(str, self._listed(self.batch.columns[self.batch.unit]))))
        folds = folds_of(self.class_of, self.groups, names, n_folds)
        read = tuple(row[-1] for row in self.batch.labels)
        columns = {**dict(zip(OF_TEXTS, (self.batch.lengths, read), strict=True)), **self.batch.columns}
        columns.pop(self.batch.unit, None)
        told = {name: held for name, held in columns.items() if len(set(self._listed(held))) > 1}
        return cue_frame(told, self.class_of, self.groups, folds)

    @staticmethod
    def _listed(column: Column) -> Sequence[Any]:
        return column.tolist() if isinstance(column, Tensor) else column

    def _counted(self) -> str:
        return ", ".join(f"{name} {n}" for name, n in self.counts.items())

    def __repr__(self) -> str:
        return f"PromptClasses({self.question}: {self._counted()})"
