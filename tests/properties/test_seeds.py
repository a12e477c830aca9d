"""A seed gives the same to the bit in any process and thread, whatever the global generators are at."""

from __future__ import annotations

import multiprocessing
import random
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maze_dla.errors import MissingPackageError, optional_module
from tests.adapters.mazes.small_files import small_checkpoint

from .drawn import disturb, everything_drawn, global_states, in_a_new_process
from .models import SEEDS, few

DRAWN: dict[int, dict[str, str]] = {}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A checkpoint for mazes of three rows."""
    folder: Path = tmp_path_factory.mktemp("drawn")
    return str(small_checkpoint().write(folder / "small.zanj"))


@few(1)
@given(seed=SEEDS, others=st.tuples(SEEDS, SEEDS))
def test_global_generators_are_neither_heard_nor_touched(path: str, seed: int, others: tuple[int, int]) -> None:
    """Python's own is looked at in the new process below: here the checks of annotations draw from it."""
    found = []
    for other in (others[0] + 1, others[1]):
        disturb(other)
        before = global_states()[1:]
        found.append(everything_drawn(path, seed))
        assert global_states()[1:] == before
    assert found[0] == found[1]
    DRAWN[seed] = found[0]


def drawn_here(path: str, seed: int) -> dict[str, str]:
    """Drawn once in this thread."""
    if seed not in DRAWN:
        DRAWN[seed] = everything_drawn(path, seed)
    return DRAWN[seed]


def test_any_thread_and_process(path: str) -> None:
    seeds = [0, 11]
    here = [drawn_here(path, seed) for seed in seeds]
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        elsewhere = pool.submit(in_a_new_process, path, seeds)
        with ThreadPoolExecutor(2) as threads:
            assert list(threads.map(lambda seed: everything_drawn(path, seed), seeds)) == here
        assert elsewhere.result(timeout=300) == here


def test_another_seed_draws_something_else(path: str) -> None:
    """The hashes see it: each of them."""
    one, two = (drawn_here(path, seed) for seed in (0, 11))
    assert [name for name in one if one[name] == two[name]] == []


def test_an_optional_module_that_draws_when_it_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As rich does, which scikit-learn imports."""
    (tmp_path / "drawing_at_import.py").write_text("import random\nNUMBER = random.random()\n")
    monkeypatch.syspath_prepend(tmp_path)
    disturb(3)
    before = global_states()
    found = optional_module("drawing_at_import", "this", "it")
    assert global_states() == before
    assert optional_module("drawing_at_import", "this", "it") is found
    disturb(3)
    assert random.random() == found.NUMBER  # it did draw
    with pytest.raises(MissingPackageError, match="this, which cannot be imported"):
        optional_module("not_there_at_all", "this", "it")
