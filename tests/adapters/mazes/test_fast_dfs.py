"""Mazes that are drawn and written without maze-dataset are the ones that it makes, token for token."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from maze_dla.adapters.mazes import datasets, fast_dfs
from maze_dla.adapters.mazes.library import (
    has_modular_tokenizers,
    import_maze_dataset,
    legacy_tokenizer,
    with_its_format_key,
)
from maze_dla.adapters.mazes.load import load_maze_model
from maze_dla.adapters.mazes.model import MazeModel
from maze_dla.adapters.mazes.randomness import Generators

from .seeding import globally_seeded
from .small_files import damaged

N = 60
SEEDS = (0, 7, 2**32 - 1)
TOKENIZER = legacy_tokenizer("AOTP_UT_uniform", None)
needs_modular = pytest.mark.skipif(
    not has_modular_tokenizers(), reason="this maze-dataset has no tokenizers made of parts"
)


def modular(**parts: Any) -> Any:
    """maze-dataset's tokenizer made of parts, by default the one of checkpoints of 2024."""
    from maze_dataset.tokenization import MazeTokenizerModular, PromptSequencers

    return MazeTokenizerModular(prompt_sequencer=PromptSequencers.AOTP(**parts)) if parts else MazeTokenizerModular()


@pytest.fixture(scope="module")
def bundled() -> MazeModel:
    return load_maze_model()


def config(bundled: MazeModel, grid_n: int, **how: Any) -> dict[str, Any]:
    return {**bundled.dataset_config, "grid_n": grid_n, "maze_ctor_kwargs": how}


def of_library(config: dict[str, Any], seed: int, n: int = N) -> list[Any]:
    """Its mazes for a seed, without anything of maze_dla between."""
    library = import_maze_dataset()
    with globally_seeded(seed):
        asked = library.MazeDatasetConfig.load(with_its_format_key({**config, "n_mazes": n, "seed": seed}))
        how = {"load_local": False, "save_local": False, "do_download": False, "verbose": False}
        return list(library.MazeDataset.from_config(asked, **how).mazes)


def as_it_writes(mazes: list[Any], tokenizer: Any, seed: int) -> list[list[str]]:
    with globally_seeded(seed):
        return [list(maze.as_tokens(tokenizer)) for maze in mazes]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("grid_n", "how"), [(5, {"do_forks": False}), (2, {}), (6, {}), (9, {"do_forks": True})])
def test_drawn_and_written_alike(grid_n: int, how: dict[str, bool], seed: int, bundled: MazeModel) -> None:
    asked = config(bundled, grid_n, **how)
    mazes = of_library(asked, seed)
    kind = fast_dfs.as_depth_first(asked)
    assert kind == fast_dfs.DepthFirst(grid_n, how.get("do_forks", True))
    generators = Generators.seeded(seed)
    drawn = [fast_dfs.draw(kind, generators) for _ in range(N)]
    assert drawn == [fast_dfs.TupleMaze.of(maze) for maze in mazes]
    for ours, its in zip(drawn, mazes, strict=True):
        connections, solution = ours.arrays(grid_n)
        assert np.array_equal(connections, its.connection_list)
        assert np.array_equal(solution, its.solution)
    for tokenizer in (TOKENIZER, modular()) if has_modular_tokenizers() else (TOKENIZER,):
        order = fast_dfs.order_like(tokenizer)
        assert order is not None
        fresh = Generators.seeded(seed)
        assert [fast_dfs.write(maze, order(maze, fresh)) for maze in drawn] == as_it_writes(mazes, tokenizer, seed)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", SEEDS)
def test_prompts_hold_what_maze_dataset_makes(seed: int, bundled: MazeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = bundled.prompts(n_mazes=N, seed=seed)
    mazes = of_library(dict(bundled.dataset_config), seed)
    expected = as_it_writes(mazes, bundled.vocabulary.tokenizer, seed)
    assert [list(batch.text(i).tokens) for i in range(N)] == expected
    monkeypatch.setattr(datasets, "tokens_of", counted(datasets.tokens_of, datasets.SAMPLE))
    given = bundled.prompts(SimpleNamespace(mazes=mazes), seed=seed)
    assert given.sequence_labels == batch.sequence_labels
    monkeypatch.setattr(datasets, "_generate", counted_config(datasets._generate, datasets.SAMPLE))
    assert bundled.prompts(n_mazes=N, seed=seed).sequence_labels == batch.sequence_labels


def counted(function: Any, most: int) -> Any:
    """The function, which fails when it is given more mazes than it should be needed for."""

    def called(mazes: list[Any], *rest: Any) -> Any:
        assert len(mazes) <= most
        return function(mazes, *rest)

    return called


def counted_config(function: Any, most: int) -> Any:
    def called(config: Any, n_mazes: int, seed: int) -> Any:
        assert n_mazes <= most
        return function(config, n_mazes, seed)

    return called


def test_a_maze_dataset_that_draws_otherwise_is_followed(bundled: MazeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = bundled.prompts(n_mazes=N).sequence_labels
    real = fast_dfs.draw

    def another(kind: fast_dfs.DepthFirst, generators: Generators) -> fast_dfs.TupleMaze:
        maze = real(kind, generators)
        return maze._replace(path=maze.path[::-1])

    monkeypatch.setattr(datasets, "draw", another)
    assert bundled.prompts(n_mazes=N).sequence_labels == expected


def test_a_maze_dataset_that_writes_otherwise_is_followed(bundled: MazeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = bundled.prompts(n_mazes=N).sequence_labels
    real = fast_dfs.write
    monkeypatch.setattr(datasets, "write", lambda maze, drawn: real(maze, drawn)[::-1])
    assert bundled.prompts(n_mazes=N).sequence_labels == expected


@pytest.mark.parametrize("mode", ["AOTP_UT_rasterized", "AOTP_CTT_indexed"])
def test_tokenizers(mode: str, bundled: MazeModel) -> None:
    tokenizer = legacy_tokenizer(mode, 5)
    assert (fast_dfs.order_like(tokenizer) is not None) is (mode == "AOTP_UT_rasterized")
    check_written(tokenizer, bundled)


@needs_modular
@pytest.mark.parametrize("part", [None, "AdjListCardinal", "shuffle_d0", "BothCoords", "CTT"])
def test_tokenizers_made_of_parts(part: str | None, bundled: MazeModel) -> None:
    from maze_dataset.tokenization import AdjListTokenizers, CoordTokenizers, EdgePermuters

    adj_list = AdjListTokenizers.AdjListCoord
    others: dict[str | None, Any] = {
        None: {},
        "AdjListCardinal": {"adj_list_tokenizer": AdjListTokenizers.AdjListCardinal()},
        "shuffle_d0": {"adj_list_tokenizer": adj_list(shuffle_d0=False)},
        "BothCoords": {"adj_list_tokenizer": adj_list(edge_permuter=EdgePermuters.BothCoords())},
        "CTT": {"coord_tokenizer": CoordTokenizers.CTT()},
    }
    tokenizer = modular(**others[part])
    assert (fast_dfs.order_like(tokenizer) is not None) is (part is None)
    check_written(tokenizer, bundled)


def check_written(tokenizer: Any, bundled: MazeModel) -> None:
    """Whoever writes: tokens are those of the tokenizer."""
    mazes = of_library(dict(bundled.dataset_config), 0, 10)
    assert datasets._written(mazes, tokenizer, 3) == as_it_writes(mazes, tokenizer, 3)
    made = datasets._made(bundled.dataset_config, tokenizer, 10, 0)
    assert made == as_it_writes(mazes, tokenizer, 0)


@pytest.mark.parametrize(
    "change",
    [
        {"maze_ctor": {"__name__": "gen_wilson"}},
        {"maze_ctor": "gen_dfs"},
        {"maze_ctor_kwargs": {"do_forks": False, "max_tree_depth": 4}},
        {"maze_ctor_kwargs": [1]},
        {"maze_ctor_kwargs": {"do_forks": "no"}},
        {"endpoint_kwargs": {"deadend_start": True}},
        {"grid_n": 1},
    ],
)
def test_other_configs_are_left_to_maze_dataset(change: dict[str, Any], bundled: MazeModel) -> None:
    assert fast_dfs.as_depth_first(bundled.dataset_config) is not None
    assert fast_dfs.as_depth_first({**bundled.dataset_config, **change}) is None


def test_what_is_left_to_maze_dataset_comes_out_as_it_makes_it(tmp_path: Path) -> None:
    changes = (
        {"dataset_cfg__maze_ctor_kwargs": {"accessible_cells": 5}},
        {"dataset_cfg__endpoint_kwargs": {"deadend_start": True}},
    )
    for change in changes:
        maze = load_maze_model(damaged(**change).write(tmp_path / "other.zanj"))
        batch = maze.prompts(n_mazes=20, seed=1)
        mazes = of_library(dict(maze.dataset_config), 1, 20)
        expected = as_it_writes(mazes, maze.vocabulary.tokenizer, 1)
        assert [list(batch.text(i).tokens) for i in range(20)] == expected


def test_the_way_between_two_branches_turns_where_they_meet() -> None:
    came_from = {(0, 1): (0, 0), (0, 2): (0, 1), (1, 1): (0, 1)}
    assert fast_dfs._between((0, 2), (1, 1), came_from) == [(0, 2), (0, 1), (1, 1)]
    assert fast_dfs._between((0, 0), (1, 1), came_from) == [(0, 0), (0, 1), (1, 1)]
    assert fast_dfs._between((1, 1), (0, 0), came_from) == [(1, 1), (0, 1), (0, 0)]
