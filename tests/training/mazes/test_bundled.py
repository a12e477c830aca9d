"""The checkpoint that comes with maze_dla: what it can do, and figures that must not change unseen."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path

import pytest
import torch

import maze_dla as dla
from maze_dla.adapters.mazes.load import BUNDLED
from maze_dla.training.mazes.held_out import held_out_accuracy

sys.path.insert(0, str(Path(__file__).parent))
from figures import FILE, figures, prompts

RECORDED = json.loads(FILE.read_text(encoding="utf-8"))
NEEDED = {"origin_after_path_start": 0.99, "rand_path_token": 0.97, "first_path_choice": 0.80}
ALONG_TRAINING = sorted((Path(__file__).parent / "data").glob("step_*.zanj"))


@pytest.fixture(scope="module")
def maze():
    return dla.load_maze_model()


def compare(now, before, tolerance=1e-4):
    """Where figures differ by more than the tolerance."""
    differing = []
    for name in ("metric", "heads"):
        change = (torch.tensor(now[name]) - torch.tensor(before[name])).abs().max()
        differing += [name] if change > tolerance else []
    for name in ("layers", "lens"):
        assert list(now[name]) == list(before[name])
        change = max(abs(now[name][k] - before[name][k]) for k in now[name])
        differing += [name] if change > tolerance else []
    return differing


def test_figures_have_not_changed(maze):
    """Guards against change: the figures are this library's own, from when the checkpoint was trained."""
    assert maze.info["sha256"] == RECORDED["sha256"]
    now = figures(maze.model, *prompts(maze, RECORDED["texts"]))
    assert compare(now, RECORDED) == []
    assert now["accuracy"] == RECORDED["accuracy"]


def swap_heads(model):
    state = model.state_dict()
    if "blocks.5.attn.W_O" in state:  # TransformerLens 2 and 3
        weight = state["blocks.5.attn.W_O"].transpose(0, 1)
    else:
        weight = state["blocks.5.attn.o.weight"].unflatten(1, (-1, model.cfg.d_head))
    weight.copy_(weight[:, [1, 0, 2, 3]].clone())


def drop_bias(model):
    state = model.state_dict()
    state["blocks.2.mlp.b_out" if "blocks.2.mlp.b_out" in state else "blocks.2.mlp.out.bias"].zero_()


@pytest.mark.parametrize("damage", [swap_heads, drop_bias])
def test_a_damaged_model_is_noticed(maze, damage):
    model = copy.deepcopy(maze.model)
    with torch.no_grad():
        damage(model)
    now = figures(model, *prompts(maze, RECORDED["texts"]))
    assert {"metric", "layers"} <= set(compare(now, RECORDED))


@pytest.mark.slow
def test_accuracy_on_mazes_it_never_saw():
    reached = held_out_accuracy(BUNDLED, n_mazes=1000, seed=1)
    assert all(share.n == 1000 for share in reached.values())
    assert {task: reached[task].value >= least for task, least in NEEDED.items()} == dict.fromkeys(NEEDED, True), (
        reached
    )


def test_it_is_small():
    assert BUNDLED.stat().st_size <= 4e6


def test_five_checkpoints_along_its_training_load_and_learn(maze):
    assert len(ALONG_TRAINING) == 5
    accuracies = []
    for path in ALONG_TRAINING:
        model = dla.load_maze_model(path)
        batch, metric = prompts(model, RECORDED["texts"])
        accuracies.append(dla.attribute(model.model, batch, metric).accuracy.value)
    assert accuracies[0] < accuracies[-1] == RECORDED["accuracy"]
