"""Random models and prompts have the sizes that the tables name, and the same ones for the same seed."""

from __future__ import annotations

import pytest
import torch

from bench.tiny import MANY_LENGTHS, TINY
from maze_dla.bench.cases import prompts_that_fit
from maze_dla.bench.models import GPT2, MAZE, N_TASKS, BenchModel, random_model, random_prompts, task_prompts


def test_the_sizes_are_those_of_the_issue() -> None:
    assert str(MAZE) == "6 layers, d_model 128, 4 heads, d_mlp 512, vocabulary 75"
    assert str(GPT2) == "12 layers, d_model 768, 12 heads, d_mlp 3072, vocabulary 50,257"
    assert (MAZE.shortest, MAZE.longest, GPT2.shortest, GPT2.longest) == (120, 238, 16, 16)
    assert MAZE.spec.n_ctx >= 238


@pytest.mark.parametrize("shape", [*TINY.values(), MAZE], ids=["many lengths", "one length", "maze"])
def test_prompts_have_the_lengths_of_the_shape(shape: BenchModel) -> None:
    batch = random_prompts(shape, 300)
    assert len(batch) == 300
    assert int(batch.lengths.min()) == shape.shortest
    assert int(batch.lengths.max()) == shape.longest
    assert (batch.sequences[:, 0] == 0).all()
    assert len(batch.sequences[:, 1].unique()) > 1
    assert batch.incorrect is not None
    assert not (batch.incorrect == batch.targets).any()
    assert torch.equal(batch.tokens, random_prompts(shape, 300).tokens)
    assert not torch.equal(batch.tokens, random_prompts(shape, 300, seed=1).tokens)


def test_seven_tasks_share_each_sequence() -> None:
    batch = task_prompts(MANY_LENGTHS, 5)
    assert len(batch) == 5 * N_TASKS
    assert batch.sequence_of.tolist() == [i // N_TASKS for i in range(5 * N_TASKS)]
    ends = batch.lengths.view(5, N_TASKS)
    assert (ends.diff(dim=1) >= 0).all()
    assert torch.equal(ends[:, -1], batch.sequence_lengths)
    assert len(set(batch.lengths.tolist())) > N_TASKS


def test_activations_of_random_models_are_of_ordinary_size() -> None:
    model = random_model(MAZE)
    batch = random_prompts(MAZE, 2)
    with torch.no_grad():
        logits, cache = model.run_with_cache(batch.tokens)
    assert 0.1 < float(logits.std()) < 10
    for layer in range(MAZE.spec.n_layers):
        assert 0.1 < float(cache["resid_post", layer].std()) < 10
    assert (model.ln_final.w == 1).all()


def test_more_memory_holds_more_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model(MANY_LENGTHS)
    for free, least, most in ((1 << 30, 1000, 5000), (1 << 24, 10, 80), (0, 0, 0)):
        monkeypatch.setattr("maze_dla.bench.cases.free_memory", lambda device, free=free: free)
        assert least <= prompts_that_fit(model, MANY_LENGTHS) <= most
