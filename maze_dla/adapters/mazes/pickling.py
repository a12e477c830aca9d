"""Maze models as they are pickled, for processes that are spawned, and copied."""

from __future__ import annotations

import copy
from typing import Any

from maze_dla.adapters.transformer_lens.pickling import PackedModel, copied, packed, unpacked
from maze_dla.results.torch_defaults import torch_defaults


class Picklable:
    """A frozen dataclass with a `model` of TransformerLens in it that can be pickled and copied.

    What comes out has the numbers, the name, the hash and the vocabulary of what went in, also where weights were
    changed after loading; it shares nothing with it.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), packed(self.__dict__["model"]), _others(self))

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        model = copied(self.__dict__["model"], memo)
        kind: Any = type(self)
        return kind(model=model, **copy.deepcopy(_others(self), memo))

    def __copy__(self) -> Any:
        return type(self)(**self.__dict__)


def _others(item: Picklable) -> dict[str, Any]:
    return {name: value for name, value in item.__dict__.items() if name != "model"}


@torch_defaults()
def _restored(kind: Any, model: PackedModel, others: dict[str, Any]) -> Any:
    return kind(model=unpacked(model), **others)
