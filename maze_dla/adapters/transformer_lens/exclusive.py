"""A model for one run at a time, in eval mode and in torch's usual settings."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from maze_dla.results.torch_defaults import torch_defaults

_LOCKS: WeakKeyDictionary[nn.Module, threading.RLock] = WeakKeyDictionary()
_CHOOSING = threading.Lock()


def _forget_locks() -> None:
    """In a forked process nobody is left who could release what another thread held."""
    global _LOCKS, _CHOOSING
    _LOCKS, _CHOOSING = WeakKeyDictionary(), threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_locks)


def parts_of(model: nn.Module) -> list[nn.Module]:
    """Every module that a forward pass may run, each once.

    A bridge runs a model of Hugging Face that it does not list among its modules, with parts of which it has no
    component, such as the dropout after the embeddings.
    """
    wrapped = vars(model).get("original_model")
    inside = wrapped.modules() if isinstance(wrapped, nn.Module) else ()
    return list(dict.fromkeys([*model.modules(), *inside]))


@contextmanager
def exclusive(model: Any) -> Iterator[None]:
    """No other run of maze_dla on this model meanwhile, dropout off; afterwards every part is in the mode it was in.

    Hooks of one run would be seen by another, since TransformerLens keeps them in the model. What is no module is
    left alone. Meanwhile torch has its usual settings.
    """
    with torch_defaults(), _exclusive(model):
        yield


@contextmanager
def _exclusive(model: Any) -> Iterator[None]:
    if not isinstance(model, nn.Module):
        yield
        return
    with _CHOOSING:
        lock = _LOCKS.setdefault(model, threading.RLock())
    with lock:
        training = [part for part in parts_of(model) if part.training]
        try:
            for part in training:
                part.training = False
            yield
        finally:
            for part in training:
                part.training = True
