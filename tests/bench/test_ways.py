"""All ways find the same numbers; where they would not, they are not compared."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch

from bench.tiny import MANY_LENGTHS, TINY
from maze_dla.bench.shapes import N_TASKS, random_model, random_prompts, task_prompts
from maze_dla.bench.ways import (
    Numbers,
    can_project_neurons,
    check_agreement,
    neurons_projected,
    ours,
    plain,
    tutorial,
    tutorial_for_each_task,
)
from maze_dla.errors import MazeDlaError

NAMES = [field.name for field in fields(Numbers)]


def close(one: Numbers, other: Numbers) -> bool:
    """Within 1e-3 of the largest part, the lens up to a constant of each prompt."""
    size = 1e-3 * float(one.layers.abs().max())
    without = {name: (getattr(one, name), getattr(other, name)) for name in NAMES}
    without["lens"] = (one.lens - one.lens[:, -1:], other.lens - other.lens[:, -1:])
    return all(a.shape == b.shape and float((a - b).abs().max()) < size for a, b in without.values())


@pytest.mark.parametrize("name", TINY)
def test_the_tutorial_and_maze_dla_find_the_same(name: str) -> None:
    model, batch = random_model(TINY[name]), random_prompts(TINY[name], 9)
    theirs, own = tutorial(model, batch), ours(model, batch)
    n_layers, n_heads, d_mlp = 2, 3, 40
    assert theirs.lens.shape == (9, 2 * n_layers + 1)
    assert theirs.layers.shape == (9, 2 + 2 * n_layers)
    assert theirs.heads.shape == (9, n_layers, n_heads)
    assert theirs.neurons.shape == (9, n_layers, d_mlp)
    assert close(theirs, own)
    check_agreement(theirs, own)
    assert close(ours(model, batch, engine="hooked"), own)
    assert close(ours(model, batch, sources=True), own)
    assert not close(tutorial(model, random_prompts(TINY[name], 9, seed=1)), own)


@pytest.mark.skipif(not can_project_neurons(), reason="TransformerLens 2 has no project_output_onto")
@pytest.mark.parametrize("name", TINY)
def test_projected_neurons_are_the_stacked_ones(name: str) -> None:
    model, batch = random_model(TINY[name]), random_prompts(TINY[name], 6)
    assert close(tutorial(model, batch, neurons_projected), tutorial(model, batch))


def test_the_tutorial_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    model, batch = random_model(MANY_LENGTHS), random_prompts(MANY_LENGTHS, 4)
    capfd.readouterr()
    tutorial(model, batch)
    assert capfd.readouterr() == ("", "")


def test_each_task_gives_its_prompts_of_the_single_pass() -> None:
    model, batch = random_model(MANY_LENGTHS), task_prompts(MANY_LENGTHS, 4)
    own, by_task = ours(model, batch), tutorial_for_each_task(model, batch)
    assert len(by_task) == N_TASKS
    for task, theirs in enumerate(by_task):
        of_task = Numbers(*(getattr(own, name)[task::N_TASKS] for name in NAMES))
        assert close(theirs, of_task)


@pytest.mark.parametrize("name", NAMES)
def test_other_numbers_are_refused(name: str) -> None:
    model, batch = random_model(MANY_LENGTHS), random_prompts(MANY_LENGTHS, 3)
    own = ours(model, batch)
    values = getattr(own, name).clone()
    values[1, -1] += 0.01 * own.layers.abs().max()
    with pytest.raises(MazeDlaError, match=rf"the tutorial's {name} and maze_dla's differ by 1\.0e-02 of the largest"):
        check_agreement(own, replace(own, **{name: values}))
    with pytest.raises(MazeDlaError, match="differ by nan"):
        check_agreement(own, replace(own, **{name: values * float("nan")}))


def test_a_constant_of_the_lens_is_no_difference() -> None:
    own = ours(random_model(MANY_LENGTHS), random_prompts(MANY_LENGTHS, 3))
    check_agreement(own, replace(own, lens=own.lens + torch.tensor([[1.0], [-2.0], [3.0]])))


def test_the_plain_way_runs_every_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = random_model(MANY_LENGTHS), random_prompts(MANY_LENGTHS, 7)
    seen = []
    original = type(model).forward
    monkeypatch.setattr(type(model), "forward", lambda self, x, *a, **k: seen.append(x) or original(self, x, *a, **k))
    plain(model, batch.tokens, at_once=3)
    assert [len(tokens) for tokens in seen] == [3, 3, 1]
    assert torch.equal(torch.cat(seen), batch.tokens)
