"""The installed maze-dataset: what differs between its versions is known here and nowhere else.

Whatever it draws is drawn from private generators: its functions that set or use global ones are run as copies.
"""

from __future__ import annotations

import builtins
import random
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from maze_dla.adapters.mazes.randomness import GENERATORS_MODULE, Generators, Privately
from maze_dla.files.zanj_file import NEW_KEY, OLD_KEY, rename_format_keys


def import_maze_dataset() -> Any:
    """maze-dataset, without its warning about a part that is not used here.

    Its import would seed Python's global generator; that of this function leaves it alone.
    """
    if "maze_dataset.tokenization" not in sys.modules:
        finder = _WithoutSeeding()
        sys.meta_path.insert(0, finder)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                import maze_dataset.tokenization
        finally:
            sys.meta_path.remove(finder)
    import maze_dataset

    return maze_dataset


class _WithoutSeeding(MetaPathFinder):
    """Finds the one module that calls `random.seed` when it is imported."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path) if fullname == GENERATORS_MODULE else None
        if spec is not None and type(spec.loader) is SourceFileLoader:
            spec.loader = _UnseededLoader(fullname, str(spec.origin))
        return spec


class _UnseededLoader(SourceFileLoader):
    """Runs a module with a stand-in for `random`, and then gives it the real one."""

    def exec_module(self, module: ModuleType) -> None:
        stand_in = ModuleType("random")
        vars(stand_in).update(vars(random), seed=lambda *_: None)

        def import_(name: str, *args: Any, **kwargs: Any) -> Any:
            return stand_in if name == "random" else builtins.__import__(name, *args, **kwargs)

        names = {**vars(builtins), "__import__": import_}
        vars(module)["__builtins__"] = names
        super().exec_module(module)
        names["__import__"] = builtins.__import__  # its functions import the real one
        vars(module)["random"] = random


def has_modular_tokenizers() -> bool:
    """Whether it knows the tokenizers of 2024; before 1.0 it does not."""
    return hasattr(import_maze_dataset().tokenization, "MazeTokenizerModular")


def legacy_tokenizer(mode: str, max_grid_size: int | None) -> Any:
    """Its tokenizer of a mode, for lattices up to a size."""
    tokenization = import_maze_dataset().tokenization
    return tokenization.MazeTokenizer(
        tokenization_mode=tokenization.TokenizationMode[mode], max_grid_size=max_grid_size
    )  # fmt: skip


def solved_maze(connection_list: Any, solution: Any) -> Any:
    """Its maze with a path, from the arrays that it keeps them in."""
    return import_maze_dataset().SolvedMaze(connection_list=connection_list, solution=solution)


def with_its_format_key(item: Any) -> Any:
    """JSON from a `.zanj` file with the format key under the name that the installed libraries look for."""
    from muutils.json_serialize import util

    key = getattr(util, "_FORMAT_KEY", OLD_KEY)  # muutils before 0.8 has no name for it
    return rename_format_keys(item, NEW_KEY, key) if key != NEW_KEY else item


class Mazes:
    """A `MazeDataset` as its filters and loaders need it: its mazes, and a config that nobody reads."""

    def __init__(self, cfg: Any, mazes: Iterable[Any], generation_metadata_collected: Any = None) -> None:
        self.cfg, self.mazes = cfg, list(mazes)
        self.generation_metadata_collected = generation_metadata_collected

    def __len__(self) -> int:
        return len(self.mazes)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.mazes)

    def __getitem__(self, i: int) -> Any:
        return self.mazes[i]

    def __deepcopy__(self, memo: Any) -> Mazes:
        return Mazes(self.cfg, self.mazes, self.generation_metadata_collected)

    def update_self_config(self) -> None:
        """Nothing: the config is not read."""


def generate(config: Mapping[str, Any], n_mazes: int, seed: int) -> list[Any]:
    """As many mazes as its `MazeDataset.from_config` makes of a config in the main process, filtered as it says."""
    library = import_maze_dataset()
    settings = SimpleNamespace(**_settings(library, config))
    module = sys.modules[library.MazeDataset.__module__]
    private = Privately(Generators.seeded(seed), {id(library.MazeDataset): Mazes})
    constructor = private.function(settings.maze_ctor)
    settings.maze_ctor = lambda **how: private.of(constructor(**how))  # whose random path is drawn privately
    make: Any = private.function(module._generate_maze_helper)
    make.__globals__["_GLOBAL_WORKER_CONFIG"] = settings
    made = Mazes(SimpleNamespace(applied_filters=[]), [maze for i in range(n_mazes) if (maze := make(i)) is not None])
    filters = vars(library.MazeDataset._FILTER_NAMESPACE)
    for wanted in config.get("applied_filters") or ():
        if wanted["name"] not in filters:
            raise ValueError(f"a filter that maze-dataset does not know: {wanted['name']!r}")
        made = private.function(filters[wanted["name"]])(made, *wanted.get("args", ()), **wanted.get("kwargs", {}))
    return list(made)


def _settings(library: Any, config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a config that generation uses, read as its `MazeDatasetConfig.load` does, which seeds."""
    loaders = {field.name: getattr(field, "loading_fn", None) for field in fields(library.MazeDatasetConfig)}
    data = with_its_format_key(dict(config))
    names = ("maze_ctor", "maze_ctor_kwargs", "endpoint_kwargs")
    grid_n = int(config["grid_n"])
    return {name: loaders[name](data) for name in names} | {"grid_shape_np": np.array((grid_n, grid_n))}  # pyright: ignore[reportOptionalCall]


def tokens_of(mazes: Sequence[Any], tokenizer: Any, seed: int) -> list[list[str]]:
    """Mazes as its tokenizer writes them; the order of the adjacency lists, where it is random, has the seed."""
    private = Privately(Generators.seeded(seed))
    writer = private.of(tokenizer)
    return [list(private.of(maze).as_tokens(writer)) for maze in mazes]


def load_mazes(content: Mapping[str, Any]) -> list[Any]:
    """The mazes of a saved data set's content, in any of its forms."""
    library = import_maze_dataset()
    loader = SimpleNamespace(load=lambda data: data)
    private = Privately(Generators.seeded(0), {id(library.MazeDatasetConfig): loader})
    own = {name: f for name, f in vars(library.MazeDataset).items() if isinstance(f, classmethod) and "load" in name}
    methods = {name: classmethod(private.function(f.__func__)) for name, f in own.items()}
    data = with_its_format_key({**content, "cfg": {}, "generation_metadata_collected": None})
    return list(type("Mazes", (Mazes,), methods).load(data))  # pyright: ignore[reportAttributeAccessIssue]
