"""The same seed gives the same mazes in every process and thread, and nobody else's draws are disturbed."""

from __future__ import annotations

import json
import multiprocessing
import random
import subprocess
import sys
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from maze_dla.adapters.mazes.datasets import maze_supply
from maze_dla.adapters.mazes.library import generate, import_maze_dataset, tokens_of, with_its_format_key
from maze_dla.adapters.mazes.load import load_maze_model
from maze_dla.adapters.mazes.model import MazeModel
from maze_dla.adapters.mazes.randomness import Generators, Privately

from .seeding import globally_seeded

FILTERS = [{"name": "path_length", "args": [], "kwargs": {"min_length": 5}}]
CONFIGS: dict[str, dict[str, Any]] = {
    "own": {},
    "wilson": {"maze_ctor": {"__name__": "gen_wilson"}, "maze_ctor_kwargs": {}},
    "percolation": {"maze_ctor": {"__name__": "gen_dfs_percolation"}, "maze_ctor_kwargs": {"p": 0.2}},
    "kruskal": {"maze_ctor": {"__name__": "gen_kruskal"}, "maze_ctor_kwargs": {}},
    "dead ends": {"maze_ctor_kwargs": {}, "endpoint_kwargs": {"deadend_start": True}},
    "filtered": {"applied_filters": FILTERS},
}
QUESTIONS = [("own", 3, 0), ("own", 50, 0), ("own", 50, 7), ("wilson", 3, 0), ("percolation", 5, 7), ("filtered", 8, 7)]
Question = tuple[str, int, int]


@cache
def bundled() -> MazeModel:
    return load_maze_model()


def made(question: Question) -> list[list[str]]:
    """The generated mazes of one kind, their number and seed, as tokens."""
    kind, n_mazes, seed = question
    maze = bundled()
    source = maze_supply(None, maze.vocabulary, {**maze.dataset_config, **CONFIGS[kind]}, n_mazes)
    return source.tokens(0, n_mazes, seed)


def by_the_library(question: Question) -> list[list[str]]:
    """The same from maze-dataset alone, as it makes them in the main process with its global generators."""
    kind, n_mazes, seed = question
    library, maze = import_maze_dataset(), bundled()
    config = {**maze.dataset_config, **CONFIGS[kind]}
    with globally_seeded(seed):
        asked = library.MazeDatasetConfig.load(with_its_format_key({**config, "n_mazes": n_mazes, "seed": seed}))
        how = {"load_local": False, "save_local": False, "do_download": False, "verbose": False}
        mazes = library.MazeDataset.from_config(asked, **how).mazes
    with globally_seeded(seed):
        return [list(m.as_tokens(maze.vocabulary.tokenizer)) for m in mazes]


@pytest.fixture(scope="module")
def expected() -> list[list[list[str]]]:
    assert multiprocessing.current_process().name == "MainProcess"
    return [made(question) for question in QUESTIONS]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", [0, 7])
@pytest.mark.parametrize("kind", CONFIGS)
def test_they_are_maze_datasets_own(kind: str, seed: int) -> None:
    library = import_maze_dataset()
    if not hasattr(library.LatticeMazeGenerators, CONFIGS[kind].get("maze_ctor", {}).get("__name__", "gen_dfs")):
        pytest.skip(f"this maze-dataset does not know {kind}")
    if kind != "filtered":
        assert made((kind, 6, seed)) == by_the_library((kind, 6, seed))
        return
    mazes = made((kind, 6, seed))  # how many are generated for it does not matter: they are the first that pass
    assert {len(m) - m.index("<PATH_START>") - 2 >= 5 for m in mazes} == {True}
    plain = [m for m in by_the_library(("own", 60, seed)) if len(m) - m.index("<PATH_START>") - 2 >= 5][:6]
    assert [m[m.index("<PATH_START>") :] for m in mazes] == [m[m.index("<PATH_START>") :] for m in plain]


def test_seeds_differ_and_0_is_one_of_them(expected: list[list[list[str]]]) -> None:
    assert expected[1] != expected[2]
    assert made(("own", 50, 42)) not in expected  # the seed that maze-dataset takes for none
    assert expected[0] == expected[1][:3]  # the first by maze-dataset itself, the other drawn here


def test_any_order_of_calls(expected: list[list[list[str]]]) -> None:
    for question, mazes in reversed(list(zip(QUESTIONS, expected, strict=True))):
        random.random()
        assert made(question) == mazes


def test_worker_processes(expected: list[list[list[str]]]) -> None:
    for method, n_workers in (("fork", 2), ("spawn", 1)):  # a spawned one imports everything anew
        context = multiprocessing.get_context(method)
        with ProcessPoolExecutor(n_workers, mp_context=context) as pool:
            assert list(pool.map(made, QUESTIONS, timeout=120)) == expected


def grandchild(question: Question) -> list[list[str]]:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        return pool.submit(made, question).result(timeout=60)


def test_a_grandchild_process(expected: list[list[list[str]]]) -> None:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        assert pool.submit(grandchild, QUESTIONS[0]).result(timeout=60) == expected[0]
        assert pool.submit(grandchild, QUESTIONS[4]).result(timeout=60) == expected[4]


class Questions(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return len(QUESTIONS)

    def __getitem__(self, i: int) -> str:
        batches = [batch.sequence_labels for batch in bundled().prompt_batches(n_mazes=6, batch_size=4, seed=3)]
        return json.dumps([made(QUESTIONS[i]), batches])


def test_workers_of_a_data_loader(expected: list[list[list[str]]]) -> None:
    here = [json.loads(Questions()[i]) for i in range(2)]
    loader = torch.utils.data.DataLoader(
        torch.utils.data.Subset(Questions(), [0, 1]), batch_size=None, num_workers=2, multiprocessing_context="fork"
    )
    assert [json.loads(item) for item in loader] == here
    assert [item[0] for item in here] == expected[:2]


def test_threads_and_one_that_draws_meanwhile(expected: list[list[list[str]]]) -> None:
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    alone = [(random.random(), np.random.rand()) for _ in range(200_000)]  # noqa: NPY002
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    drawn: list[tuple[float, float]] = []
    stop = threading.Event()

    def draw() -> None:
        while not stop.is_set() and len(drawn) < len(alone):
            drawn.extend((random.random(), np.random.rand()) for _ in range(100))  # noqa: NPY002
            stop.wait(0.001)

    with ThreadPoolExecutor(5) as pool:
        fifth = pool.submit(draw)
        found = list(pool.map(made, 4 * QUESTIONS))
        stop.set()
        fifth.result()
    assert found == 4 * expected
    assert len(drawn) >= 100
    assert drawn == alone[: len(drawn)]


def test_the_import_of_maze_dataset_seeds_nothing() -> None:
    code = (
        "import random, sys, warnings; warnings.simplefilter('ignore'); import numpy as np\n"
        "random.seed(3); np.random.seed(3); before = random.getstate(), str(np.random.get_state())\n"
        "from maze_dla.adapters.mazes.library import import_maze_dataset; import_maze_dataset()\n"
        "assert (random.getstate(), str(np.random.get_state())) == before\n"
        "from maze_dataset.generation import generators\n"
        "assert generators.random is random and random.seed(4) is None and random.random() == random.Random(4).random()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_a_script_without_a_main_guard() -> None:
    code = (
        "import warnings; warnings.simplefilter('ignore'); import maze_dla as dla\n"
        "print(*dla.load_maze_model().prompts(n_mazes=3).sequence_labels[2])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.split() == list(bundled().prompts(n_mazes=3).sequence_labels[2])


def test_what_a_copy_shares_and_what_not() -> None:
    library = import_maze_dataset()
    original = library.LatticeMazeGenerators.gen_dfs
    one, other = (Privately(Generators.seeded(seed)).function(original) for seed in (1, 1))
    shape = np.array([5, 5])
    assert np.array_equal(one(shape).connection_list, other(shape).connection_list)
    assert one.__code__ is original.__code__
    assert original.__globals__["random"] is random
    maze = generate(bundled().dataset_config, 1, 0)[0]
    assert type(maze) is library.SolvedMaze
    assert set(vars(maze)) == {"connection_list", "generation_meta", "start_pos", "end_pos", "solution"}
    twice = [tokens_of([maze, maze], bundled().vocabulary.tokenizer, 3) for _ in range(2)]
    assert twice[0] == twice[1]
    assert twice[0][0] != twice[0][1]  # one stream of draws for all mazes
