"""A stream of batches: as many mazes as are asked for, never more than one batch of them at a time."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

from maze_dla.adapters.mazes.load import load_maze_model
from maze_dla.adapters.mazes.model import MazeModel
from maze_dla.analysis import attribute
from maze_dla.engine.metrics import correct_vs_other
from maze_dla.errors import DatasetError, InputError, PromptError

from .texts import LONG, SHORT, TEXT

TEXTS = [TEXT, SHORT, LONG, TEXT, SHORT]


@pytest.fixture(scope="module")
def bundled() -> MazeModel:
    return load_maze_model()


def test_all_mazes_come_and_batches_differ(bundled: MazeModel) -> None:
    batches = list(bundled.prompt_batches(n_mazes=50, batch_size=20, seed=3))
    assert [len(batch) for batch in batches] == [20, 20, 10]
    labels = [set(batch.sequence_labels) for batch in batches]
    assert not labels[0] & labels[1]
    assert not labels[1] & labels[2]
    assert len({batch.info["seed"] for batch in batches}) == 3


@pytest.mark.parametrize("task", ["rand_path_token", ["path_end", "every_path_step"]])
def test_each_batch_can_be_made_again_by_its_seed(task: Any, bundled: MazeModel) -> None:
    for n, batch in zip((12, 12, 1), bundled.prompt_batches(task=task, n_mazes=25, batch_size=12, seed=3), strict=True):
        again = bundled.prompts(task=task, n_mazes=n, seed=batch.info["seed"])
        assert again.info == batch.info
        assert again.sequence_labels == batch.sequence_labels
        assert torch.equal(again.targets, batch.targets)
        assert torch.equal(again.read_positions, batch.read_positions)
        assert batch.tasks == again.tasks


def test_the_first_batch_has_the_seed_that_was_given(bundled: MazeModel) -> None:
    seeds = [[b.info["seed"] for b in bundled.prompt_batches(n_mazes=15, batch_size=5, seed=s)] for s in (0, 0, 1)]
    assert seeds[0] == seeds[1]
    again = bundled.prompt_batches(n_mazes=13, batch_size=5, seed=0)
    assert [[b.info["seed"] for b in again] for _ in range(2)] == [seeds[0]] * 2
    assert len(again) == 3
    assert [s[0] for s in seeds] == [0, 0, 1]
    assert not set(seeds[0]) & set(seeds[2])


def test_given_mazes_come_in_parts(bundled: MazeModel) -> None:
    batches = list(bundled.prompt_batches(TEXTS, task="path_end", batch_size=2, prepend_bos=False))
    assert [len(batch) for batch in batches] == [2, 2, 1]
    seen = [batch.text(i).tokens for batch in batches for i in range(len(batch))]
    assert seen == [tuple(text.split()) for text in TEXTS]
    assert [batch.n_extra(0) for batch in batches] == [0, 0, 0]
    assert sum(map(len, bundled.prompt_batches(TEXTS, n_mazes=3, batch_size=2))) == 3


def test_a_saved_data_set_in_parts(bundled: MazeModel) -> None:
    file = Path(__file__).parents[2] / "stacks" / "data" / "dataset-newest-full.zanj"
    whole = bundled.prompts(file)
    batches = list(bundled.prompt_batches(file, batch_size=2))
    parts = [batch.text(i) for batch in batches for i in range(len(batch))]
    assert [text.path for text in parts] == [whole.text(i).path for i in range(len(whole))]
    assert {batch.info["mazes"] for batch in batches} == {file.name}


def test_numbers_are_those_of_one_batch(bundled: MazeModel) -> None:
    whole = bundled.prompts(TEXTS, task="every_path_step")
    expected = attribute(bundled.model, whole, correct_vs_other(whole)).heads
    batches = bundled.prompt_batches(TEXTS, task="every_path_step", batch_size=2)
    heads = torch.cat([attribute(bundled.model, b, correct_vs_other(b)).heads for b in batches])
    torch.testing.assert_close(heads, expected, rtol=0, atol=1e-5)


def test_no_batch_is_kept(bundled: MazeModel) -> None:
    """Whoever lets a batch go has its memory back."""
    alive: list[weakref.ref[Any]] = []
    for batch in bundled.prompt_batches(n_mazes=40, batch_size=8):
        alive.append(weakref.ref(batch))
        del batch
        gc.collect()
        assert [ref for ref in alive if ref() is not None] == []
    assert len(alive) == 5


@pytest.mark.parametrize(
    ("asked", "kind", "message"),
    [
        ({"task": "walk"}, InputError, "unknown task 'walk'"),
        ({"seed": -1}, InputError, "seed is at least 0, got -1"),
        ({"n_mazes": 0}, InputError, "n_mazes is at least 1, got 0"),
        ({"batch_size": 0}, InputError, "batch_size is at least 1, got 0"),
        ({"batch_size": 1.5}, InputError, "batch_size is a whole number, got 1.5"),
        ({"mazes": [TEXT], "n_mazes": 2}, InputError, "2 mazes asked for, the data set holds 1"),
        ({"mazes": "none.zanj"}, DatasetError, "no such file"),
        ({"mazes": 3}, InputError, "mazes come from a data set"),
    ],
)
def test_errors_come_at_the_call(
    asked: dict[str, Any], kind: type[Exception], message: str, bundled: MazeModel
) -> None:
    with pytest.raises(kind, match=message):
        bundled.prompt_batches(**asked)


def test_a_maze_that_is_wrong_is_found_when_it_is_due(bundled: MazeModel) -> None:
    batches = bundled.prompt_batches([TEXT, SHORT, TEXT.replace("(0,1)", "x")], batch_size=2)
    assert len(batches) == 2
    batches = iter(batches)
    assert len(next(batches)) == 2
    with pytest.raises(PromptError, match="prompt 0, position 4: token 'x'"):
        next(batches)


def test_the_earlier_name_of_the_batch_size_still_works_and_says_so(bundled: MazeModel) -> None:
    with pytest.warns(DeprecationWarning, match="at_once= is now called batch_size=") as caught:
        batches = bundled.prompt_batches(TEXTS, at_once=2)
    assert caught[0].filename == __file__
    assert len(batches) == len(bundled.prompt_batches(TEXTS, batch_size=2)) > 1
