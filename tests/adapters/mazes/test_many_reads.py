"""Several tasks on the same mazes, and every step of a path: one sequence a maze, read many times."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from maze_dla.adapters.mazes.load import load_maze_model
from maze_dla.adapters.mazes.model import MazeModel
from maze_dla.adapters.mazes.prompts import MazePromptBatch
from maze_dla.adapters.mazes.tasks import TASKS
from maze_dla.analysis import attribute, logit_lens, token_lens
from maze_dla.engine.metrics import correct_vs_other
from maze_dla.engine.prompts import PromptBatch
from maze_dla.errors import InputError

from .texts import LONG, SHORT, TEXT

TEXTS = [TEXT, SHORT, LONG]
ALL = list(TASKS)


def second_step(tokens: list[str], rng: np.random.Generator) -> int:
    return tokens.index("<PATH_START>") + 3


def same_prompts(one: MazePromptBatch, other: MazePromptBatch) -> bool:
    """Whether two batches ask the same, whatever sequences they read it from."""
    width = int(one.lengths.max())
    read = torch.arange(width) < one.lengths[:, None]
    return (
        one.labels == other.labels
        and all(torch.equal(getattr(one, n), getattr(other, n)) for n in ("lengths", "targets", "steps"))
        and torch.equal(one.tokens[read], other.tokens[read])
        and all(torch.equal(one.others(s), other.others(s)) for s in ("cells", "neighbors"))
        and [one.geometry(i) for i in range(len(one))] == [other.geometry(i) for i in range(len(other))]
    )


@pytest.fixture(scope="module")
def bundled() -> MazeModel:
    return load_maze_model()


@pytest.mark.parametrize("task", [ALL, tuple(ALL), TASKS], ids=["list", "tuple", "TASKS"])
def test_prompts_stand_maze_by_maze_and_share_its_sequence(task: Any, bundled: MazeModel) -> None:
    batch = bundled.prompts(n_mazes=5, task=task)
    assert batch.tasks == tuple(ALL)
    assert batch.info["task"] == ", ".join(ALL)
    assert len(batch.sequences) == 5
    assert sorted(batch.sequence_of.tolist()) == batch.sequence_of.tolist()
    for maze in range(5):
        asked = batch.task_of[batch.sequence_of == maze].tolist()
        assert asked == sorted(asked)
        assert len(asked) == 7 + len(batch.text(int((batch.sequence_of == maze).nonzero()[0])).path) + 1


@pytest.mark.parametrize("source", [None, TEXTS], ids=["generated", "texts"])
@pytest.mark.parametrize("name", ALL)
def test_each_task_is_what_it_is_alone(name: str, source: Any, bundled: MazeModel) -> None:
    """Random positions as well."""
    how: dict[str, Any] = {"mazes": source, "n_mazes": 3 if source else 12, "seed": 4}
    together = bundled.prompts(task=ALL, **how)
    alone = bundled.prompts(task=name, **how)
    assert alone.tasks == (name,)
    assert alone.task_of.tolist() == [0] * len(alone)
    own = together.of_task(name)
    assert same_prompts(own, alone)
    assert (own.tasks, own.info) == (alone.tasks, alone.info)
    assert torch.equal(own.task_of, alone.task_of)
    assert torch.equal(own.sequences, alone.sequences)
    masked = together.select(together.task_of == together.tasks.index(name))
    assert same_prompts(masked, alone)
    assert masked.tasks == together.tasks


def test_the_random_positions_depend_on_the_seed(bundled: MazeModel) -> None:
    texts = [LONG] * 20
    drawn = [bundled.prompts(texts, task=["path_end", "rand_path_token"], seed=s) for s in (0, 0, 1)]
    steps = [batch.of_task("rand_path_token").steps.tolist() for batch in drawn]
    assert steps[0] == steps[1] != steps[2]


def test_functions_and_names_together(small_model: MazeModel) -> None:
    batch = small_model.prompts(TEXTS, task=["path_end", second_step])
    assert batch.tasks == ("path_end", "second_step")
    assert batch.task_of.tolist() == [0, 1] * 3
    assert same_prompts(batch.of_task("second_step"), small_model.prompts(TEXTS, task=second_step))
    one = small_model.prompts(TEXTS, task=["path_end"])
    assert same_prompts(one, small_model.prompts(TEXTS, task="path_end"))
    assert one.info == small_model.prompts(TEXTS, task="path_end").info


def test_a_task_that_was_not_asked(small_model: MazeModel) -> None:
    batch = small_model.prompts(TEXTS, task=["path_end", "path_start"])
    with pytest.raises(InputError, match=r"^no task 'first' was asked, this batch has path_end, path_start$"):
        batch.of_task("first")
    with pytest.raises(InputError, match="at least one prompt"):
        batch.of_task("path_start").of_task("path_start").select([])


def test_a_selection_keeps_what_belongs_to_each_prompt(small_model: MazeModel) -> None:
    batch = small_model.prompts(TEXTS, task=ALL)
    chosen = [len(batch) - 1, 0, 9]
    part = batch.select(chosen)
    for name in ("task_of", "steps", "targets"):
        assert getattr(part, name).tolist() == [int(getattr(batch, name)[i]) for i in chosen]
    kept = batch.having("neighbors")
    assert len(kept) == len(kept.steps) == len(kept.task_of) < len(batch)
    assert kept.steps.min() > 0


STEPS = {
    "path_start": [-1, -1, -1],
    "origin_after_path_start": [0, 0, 0],
    "first_path_choice": [1, 1, 1],
    "path_end": [5, 2, 9],
    "final_before_path_end": [4, 1, 8],
}


@pytest.mark.parametrize("bos", [True, False])
@pytest.mark.parametrize("name", STEPS)
def test_steps_count_the_cells_in_front(name: str, bos: bool, small_model: MazeModel) -> None:
    assert small_model.prompts(TEXTS, task=name, prepend_bos=bos).steps.tolist() == STEPS[name]
    assert small_model.prompts(TEXTS, task=name, prepend_bos=bos, padding=60).steps.tolist() == STEPS[name]


def test_every_step_of_every_path(small_model: MazeModel) -> None:
    batch = small_model.prompts(TEXTS, task="every_path_step")
    assert len(batch.sequences) == 3
    assert batch.sequence_of.tolist() == [0] * 6 + [1] * 3 + [2] * 10
    assert batch.steps.tolist() == [*range(6), *range(3), *range(10)]
    for p, step in enumerate(batch.steps.tolist()):
        text = TEXTS[int(batch.sequence_of[p])].split()
        path = text[text.index("<PATH_START>") :]
        assert batch.labels[p][-1] == path[step]
        assert batch.token_name(int(batch.targets[p])) == path[step + 1]
    assert "19 prompts" in repr(batch)


@pytest.mark.parametrize("returned", [lambda i: [i, i + 2], lambda i: (i, i + 2), lambda i: np.array([i, i + 2])])
def test_an_own_task_with_several_positions(returned: Any, small_model: MazeModel) -> None:
    batch = small_model.prompts(TEXTS, task=lambda tokens, rng: returned(tokens.index("<PATH_START>") + 1))
    assert batch.steps.tolist() == [0, 2] * 3
    assert len(batch.sequences) == 3


def test_a_maze_of_which_nothing_is_asked_is_left_out(small_model: MazeModel) -> None:
    def long_ones(tokens: list[str], rng: np.random.Generator) -> list[int]:
        return [len(tokens) - 1] if len(tokens) > 25 else []

    batch = small_model.prompts(TEXTS, task=long_ones)
    assert [batch.text(i).tokens for i in range(len(batch))] == [tuple(TEXT.split()), tuple(LONG.split())]
    assert len(batch.sequences) == 2
    assert same_prompts(batch, small_model.prompts([TEXT, LONG], task="path_end"))


@pytest.mark.parametrize("padding", ["longest", 60])
def test_padded_prompts_have_a_sequence_each(padding: Any, small_model: MazeModel) -> None:
    names = ["path_start", "path_end", "rand_path_token"]
    batch = small_model.prompts(TEXTS, task=names, padding=padding)
    plain = small_model.prompts(TEXTS, task=names)
    assert len(batch.sequences) == len(batch) == 9
    width = int(plain.lengths.max()) if padding == "longest" else padding
    assert batch.lengths.tolist() == [width] * 9
    result = attribute(small_model.model, batch, correct_vs_other(batch))
    for name in names:
        alone = small_model.prompts(TEXTS, task=name, padding=width)
        assert same_prompts(batch.of_task(name), alone)
        expected = attribute(small_model.model, alone, correct_vs_other(alone)).heads
        torch.testing.assert_close(result.heads[batch.task_of == names.index(name)], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("task", [ALL, "every_path_step"], ids=["all", "every_path_step"])
def test_numbers_are_those_of_each_prompt_by_itself(task: Any, bundled: MazeModel) -> None:
    batch = bundled.prompts(n_mazes=3, task=task, seed=2)
    metric = correct_vs_other(batch, "cells")
    together = attribute(bundled.model, batch, metric, neurons=True)
    lens = logit_lens(bundled.model, batch, metric, scale="own")
    tolerance = 1e-5 * float(together.layers.abs().max())
    assert together.neurons is not None
    for p in range(0, len(batch), 4):
        ids = batch.tokens[p, : batch.lengths[p]].tolist()
        alone = PromptBatch.from_tokens([ids], [int(batch.targets[p])], d_vocab=batch.d_vocab)
        by_itself = attribute(bundled.model, alone, metric.select([p]), neurons=True)
        for name in ("layers", "heads", "neurons", "metric", "constant"):
            seen, expected = getattr(together, name)[p], getattr(by_itself, name)[0]
            torch.testing.assert_close(seen, expected, rtol=0, atol=tolerance)
        own = logit_lens(bundled.model, alone, metric.select([p]), scale="own")
        torch.testing.assert_close(lens.values[p], own.values[0], rtol=0, atol=tolerance)


@pytest.mark.parametrize("task", [*TASKS, ["path_end", "first_path_choice"]], ids=str)
def test_the_lens_of_all_positions_takes_prompts_of_every_task(task: Any, bundled: MazeModel) -> None:
    batch = bundled.prompts(task=task, n_mazes=2, seed=1)
    everywhere, read = (token_lens(bundled, batch, positions=positions) for positions in ("all", "read"))
    last = everywhere.entropy[torch.arange(len(batch)), batch.read_positions]
    torch.testing.assert_close(last, read.entropy, rtol=1e-4, atol=1e-4)
