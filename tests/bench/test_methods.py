"""All methods find the same numbers; where they would not, they are not compared."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
import torch

from bench.tiny import MANY_LENGTHS, TINY
from maze_dla.bench.methods import (
    Numbers,
    can_project_neurons,
    check_agreement,
    neurons_projected,
    ours,
    plain_forward,
    tutorial,
    tutorial_for_each_task,
    tutorial_with_pos_slice,
)
from maze_dla.bench.models import N_TASKS, random_model, random_prompts, task_prompts
from maze_dla.errors import MazeDlaError

METHODS = {"all positions": tutorial, "pos_slice": tutorial_with_pos_slice}
NAMES = [field.name for field in fields(Numbers)]


def close(one: Numbers, other: Numbers) -> bool:
    """Within 1e-3 of the largest part, the lens up to a constant of each prompt."""
    size = 1e-3 * float(one.layers.abs().max())
    without = {name: (getattr(one, name), getattr(other, name)) for name in NAMES}
    without["lens"] = (one.lens - one.lens[:, -1:], other.lens - other.lens[:, -1:])
    return all(a.shape == b.shape and float((a - b).abs().max()) < size for a, b in without.values())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", TINY)
def test_the_tutorial_and_maze_dla_find_the_same(name: str, method: str) -> None:
    model, batch = random_model(TINY[name]), random_prompts(TINY[name], 9)
    theirs, own = METHODS[method](model, batch), ours(model, batch)
    n_layers, n_heads, d_mlp = 2, 3, 40
    assert theirs.lens.shape == (9, 2 * n_layers + 1)
    assert theirs.layers.shape == (9, 2 + 2 * n_layers)
    assert theirs.heads.shape == (9, n_layers, n_heads)
    assert theirs.neurons.shape == (9, n_layers, d_mlp)
    assert close(theirs, own)
    check_agreement(theirs, own)
    assert not close(METHODS[method](model, random_prompts(TINY[name], 9, seed=1)), own)


@pytest.mark.parametrize("name", TINY)
def test_all_of_our_own_methods_find_the_same(name: str) -> None:
    model, batch = random_model(TINY[name]), random_prompts(TINY[name], 9)
    own = ours(model, batch)
    assert close(ours(model, batch, forward="hooked"), own)
    assert close(ours(model, batch, sources=True), own)


STACKS = ("accumulated_resid", "decompose_resid", "stack_head_results")


@pytest.mark.parametrize(("method", "size"), [("all positions", (5, 31)), ("pos_slice", None)])
def test_which_positions_are_stacked(
    method: str, size: tuple[int, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole stack of five prompts [component, prompt, position, d_model], or one position of some of them."""
    from transformer_lens import ActivationCache

    seen: dict[str, list[torch.Size]] = {name: [] for name in STACKS}
    for name in STACKS:
        original = getattr(ActivationCache, name)

        def noted(*args: Any, original: Any = original, name: str = name, **kwargs: Any) -> Any:
            stack = original(*args, **kwargs)
            seen[name].append(stack.shape[1:-1])
            return stack

        monkeypatch.setattr(ActivationCache, name, noted)
    batch = random_prompts(MANY_LENGTHS, 5)
    METHODS[method](random_model(MANY_LENGTHS), batch)
    for shapes in seen.values():
        if size is not None:
            assert shapes == [size]
        else:
            assert len(shapes) == len(set(batch.lengths.tolist()))
            assert all(len(shape) == 1 for shape in shapes)
            assert sum(shape[0] for shape in shapes) == 5


@pytest.mark.skipif(not can_project_neurons(), reason="TransformerLens 2 has no project_output_onto")
@pytest.mark.parametrize("name", TINY)
def test_projected_neurons_are_the_stacked_ones(name: str) -> None:
    model, batch = random_model(TINY[name]), random_prompts(TINY[name], 6)
    assert close(tutorial_with_pos_slice(model, batch, neurons_projected), tutorial(model, batch))


@pytest.mark.parametrize("method", METHODS)
def test_the_tutorial_prints_nothing(method: str, capfd: pytest.CaptureFixture[str]) -> None:
    model, batch = random_model(MANY_LENGTHS), random_prompts(MANY_LENGTHS, 4)
    capfd.readouterr()
    METHODS[method](model, batch)
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


def test_the_plain_forward_pass_runs_every_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = random_model(MANY_LENGTHS), random_prompts(MANY_LENGTHS, 7)
    seen = []
    original = type(model).forward
    monkeypatch.setattr(type(model), "forward", lambda self, x, *a, **k: seen.append(x) or original(self, x, *a, **k))
    plain_forward(model, batch.tokens, batch_size=3)
    assert [len(tokens) for tokens in seen] == [3, 3, 1]
    assert torch.equal(torch.cat(seen), batch.tokens)
