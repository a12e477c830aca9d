"""Private random generators, and functions of other libraries made to draw from them.

maze-dataset draws from Python's, numpy's and its own global generator, and seeds the first two. That gives other mazes
in a worker process, mixes up threads, and disturbs whoever else draws. Its functions are therefore run as copies whose
global names `random`, `numpy` and `_NUMPY_RNG` stand for generators that nobody else has; nothing global is changed.
"""

from __future__ import annotations

import builtins
import random
import sys
import warnings
from dataclasses import dataclass
from enum import Enum
from types import CellType, FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any

import numpy as np

LIBRARY = "maze_dataset"
GENERATORS_MODULE = "maze_dataset.generation.generators"


@dataclass(frozen=True, eq=False)
class Generators:
    """Three generators that draw what Python's, numpy's and maze-dataset's global ones draw when seeded alike."""

    python: random.Random
    numpy: np.random.RandomState
    own: np.random.Generator

    @classmethod
    def seeded(cls, seed: int) -> Generators:
        """All three, freshly seeded."""
        numpy_seed = seed % 2**32
        return cls(random.Random(seed), np.random.RandomState(numpy_seed), np.random.default_rng(numpy_seed))


def own_generator() -> Any:
    """maze-dataset's own global generator, which it has since 1.0."""
    return getattr(sys.modules.get(GENERATORS_MODULE), "_NUMPY_RNG", None)


class Privately:
    """Copies of functions and objects of maze-dataset that draw from generators of their own.

    A copy has the code of the original and a copy of its module's global names. In these `random`, `numpy` and
    `_NUMPY_RNG` are replaced, `warnings` says nothing, and the functions of maze-dataset are such copies again; so
    do the import statements inside functions. Classes are the originals: their instances are copied by `of`.
    """

    def __init__(self, generators: Generators, replaced: dict[int, Any] | None = None) -> None:
        """`replaced` has other things to replace, by the id of the original."""
        numpy_random = _stand_in(np.random, generators.numpy)
        self._replaced: dict[int, Any] = {
            id(random): _stand_in(random, generators.python),
            id(np.random): numpy_random,
            id(np): _stand_in(np, SimpleNamespace(random=numpy_random)),
            id(warnings): _stand_in(warnings, SimpleNamespace(warn=lambda *_, **__: None)),
            **(replaced or {}),
        }
        if (own := own_generator()) is not None:
            self._replaced[id(own)] = generators.own
        self._owners = {id(random._inst): generators.python, id(np.random.mtrand._rand): generators.numpy}  # pyright: ignore[reportAttributeAccessIssue]
        self._scopes: dict[int, dict[str, Any]] = {}
        self._functions: dict[int, FunctionType] = {}
        self._methods: dict[type, dict[str, Any]] = {}

    def function(self, original: Any) -> Any:
        """The copy of a function; what is no function of Python's is returned as it is."""
        if isinstance(original, staticmethod):
            return self.function(original.__func__)
        if not isinstance(original, FunctionType):
            return original
        if id(original) in self._functions:
            return self._functions[id(original)]
        cells = tuple(CellType() for _ in original.__closure__ or ())
        scope = self._scope(original.__globals__)
        copy = FunctionType(original.__code__, scope, original.__name__, original.__defaults__, cells)
        copy.__kwdefaults__ = original.__kwdefaults__
        self._functions[id(original)] = copy
        for cell, old in zip(cells, original.__closure__ or (), strict=True):
            cell.cell_contents = self._replacement(old.cell_contents, getattr(old.cell_contents, "__module__", None))
        return copy

    def of(self, item: Any) -> Any:
        """A copy of a maze or a tokenizer, its parts included, whose methods are private copies."""
        if type(item) in (list, tuple):
            return type(item)(map(self.of, item))
        kind = type(item)
        if isinstance(item, Enum) or not any(base.__module__.startswith(LIBRARY) for base in kind.__mro__):
            return item
        copy = object.__new__(kind)
        vars(copy).update({name: self.of(value) for name, value in vars(item).items()})
        for name, (function, is_static) in self._methods_of(kind).items():
            vars(copy)[name] = function if is_static else MethodType(function, copy)
        return copy

    def _methods_of(self, kind: type) -> dict[str, tuple[Any, bool]]:
        if kind not in self._methods:
            found = {name: member for base in reversed(kind.__mro__) for name, member in vars(base).items()}
            self._methods[kind] = {
                name: (self.function(member), isinstance(member, staticmethod))
                for name, member in found.items()
                if isinstance(member, FunctionType | staticmethod) and not name.startswith("__")
            }
        return self._methods[kind]

    def _scope(self, names: dict[str, Any]) -> dict[str, Any]:
        """The private copy of a module's global names."""
        if id(names) not in self._scopes:
            scope = self._scopes[id(names)] = dict(names)
            scope["__builtins__"] = {**vars(builtins), "__import__": self._import}
            home = names.get("__name__")
            scope |= {name: self._replacement(value, home) for name, value in names.items() if name != "__builtins__"}
        return self._scopes[id(names)]

    def _replacement(self, value: Any, home: str | None = None) -> Any:
        """A value's substitute in a copy; functions are copied where they are maze-dataset's or the module's own."""
        if id(value) in self._replaced:
            return self._replaced[id(value)]
        owner = id(getattr(value, "__self__", None))
        if owner in self._owners:  # from random import choice
            return getattr(self._owners[owner], value.__name__)
        if isinstance(value, FunctionType | staticmethod):
            module = value.__module__ or ""
            return self.function(value) if module == home or module.startswith(LIBRARY) else value
        if isinstance(value, type) and value.__name__ == "LatticeMazeGenerators":
            functions = {name: f for name, f in vars(value).items() if isinstance(f, staticmethod)}
            return SimpleNamespace(**{name: self.function(f) for name, f in functions.items()})
        return value

    def _import(self, *args: Any, **kwargs: Any) -> Any:
        return self._replacement(builtins.__import__(*args, **kwargs))


def _stand_in(module: ModuleType, replaced: Any) -> ModuleType:
    """A copy of a module in which the public names that the other object has too are that one's."""
    copy = ModuleType(module.__name__)
    vars(copy).update(vars(module))
    vars(copy).update(
        {name: getattr(replaced, name) for name in dir(replaced) if name in vars(module) and name[0] != "_"}
    )
    return copy
