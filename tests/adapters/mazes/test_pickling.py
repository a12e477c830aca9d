"""A maze model comes out of a pickle, and out of a copy, as it went in: in a spawned process too."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from maze_dla.adapters.mazes.load import load_maze_model
from maze_dla.adapters.mazes.model import MazeModel
from maze_dla.adapters.transformer_lens import pickling
from maze_dla.analysis import attribute
from maze_dla.engine.metrics import correct_vs_other
from maze_dla.errors import ModelError

from .test_checkpoint_files import in_memory
from .texts import LONG, SHORT, TEXT

Again = Callable[[MazeModel], MazeModel]
WAYS: dict[str, Again] = {"pickle": lambda maze: pickle.loads(pickle.dumps(maze)), "copy": copy.deepcopy}


@pytest.fixture
def maze(small_file: Path) -> MazeModel:
    """A model of its own for each test, which may change it."""
    return load_maze_model(small_file)


def numbers(maze: MazeModel) -> list[Any]:
    """All that is asked to be the same."""
    batch = maze.prompts([TEXT, SHORT, LONG], task="path_end")
    result = attribute(maze, batch, correct_vs_other(batch))
    generated = maze.prompts(n_mazes=2, seed=3).sequence_labels
    arrays = [a.tolist() for a in (result.metric, result.heads, result.layers)]
    return [*arrays, result.info, dict(maze.info), maze.vocabulary.tokens, maze.prepend_bos, generated, repr(maze)]


def check_same(one: MazeModel, other: MazeModel) -> None:
    assert numbers(one) == numbers(other)
    assert type(one.model) is type(other.model)
    assert type(one.vocabulary.tokenizer) is type(other.vocabulary.tokenizer)
    assert one.dataset_config == other.dataset_config


@pytest.mark.parametrize("way", WAYS)
def test_a_model_comes_back_as_it_was(way: str, maze: MazeModel) -> None:
    again = WAYS[way](maze)
    check_same(again, maze)
    with torch.no_grad():
        again.model.W_U[0, 0] += 1
    assert numbers(again) != numbers(maze)  # they share nothing, and the check can fail
    assert "weights" in again.info
    assert "weights" not in maze.info


@pytest.mark.parametrize("way", WAYS)
def test_a_model_that_was_changed_comes_back_changed(way: str, maze: MazeModel) -> None:
    before = numbers(maze)
    maze.model.to(torch.float64)
    with torch.no_grad():
        next(weight for weight in maze.model.parameters() if weight.ndim > 1).mul_(0.5)
    maze.model.train()
    next(iter(maze.model.parameters())).requires_grad_(False)
    again = WAYS[way](MazeModel(maze.model, maze.vocabulary, maze.dataset_config, prepend_bos=False))
    assert again.prepend_bos is False
    again = MazeModel(again.model, again.vocabulary, again.dataset_config)
    check_same(again, maze)
    assert numbers(again) != before
    assert again.model.W_U.dtype == torch.float64
    assert again.model.training
    assert [p.requires_grad for p in again.model.parameters()] == [p.requires_grad for p in maze.model.parameters()]
    assert again.info["weights"] == "changed after they were loaded"


@pytest.mark.parametrize("way", WAYS)
def test_a_model_in_memory(way: str, small_file: Path) -> None:
    maze = load_maze_model(in_memory(small_file))
    check_same(WAYS[way](maze), maze)
    assert maze.info["checkpoint"] == "in memory"


@pytest.mark.parametrize("name", ["2023-model.final", "2024-model.final"])
def test_real_models(name: str, real_model: Callable[[str], MazeModel]) -> None:
    maze = real_model(name)
    again = pickle.loads(pickle.dumps(maze))
    assert dict(again.info) == dict(maze.info)
    assert again.vocabulary == maze.vocabulary
    tokens = torch.arange(12)[None]
    with torch.no_grad():
        assert torch.equal(again.model(tokens), maze.model(tokens))


def test_a_folded_bridge(maze: MazeModel) -> None:
    if not hasattr(maze.model, "enable_compatibility_mode"):
        pytest.skip("this TransformerLens makes a HookedTransformer")
    maze.model.enable_compatibility_mode(disable_warnings=True)
    check_same(pickle.loads(pickle.dumps(maze)), maze)


def test_a_shallow_copy_has_the_same_model(maze: MazeModel) -> None:
    again = copy.copy(maze)
    assert again is not maze
    assert again.model is maze.model
    assert again.vocabulary is maze.vocabulary


def test_hooks_are_not_left_behind_silently(maze: MazeModel) -> None:
    maze.model.add_hook("blocks.0.hook_attn_out", lambda value, hook: 2 * value)
    with pytest.raises(ModelError, match=r"has hooks attached, at blocks\.0\..* for one, .* model\.reset_hooks\(\)$"):
        pickle.dumps(maze)
    maze.model.reset_hooks()
    check_same(pickle.loads(pickle.dumps(maze)), maze)


def test_what_cannot_be_pickled_says_so(maze: MazeModel) -> None:
    class Local(torch.nn.Module):
        cfg, hook_dict = maze.model.cfg, {}

    with pytest.raises(ModelError, match=r"^Local cannot be pickled"):
        pickle.dumps(MazeModel(Local(), maze.vocabulary, maze.dataset_config))


def test_other_weights_out_of_the_pickle_are_refused(maze: MazeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    content = pickle.dumps(maze)
    monkeypatch.setattr(pickling, "weights_hash", lambda model: "another")
    with pytest.raises(ModelError, match="came out of its pickle with other weights"):
        pickle.loads(content)


def numbers_of_bytes(vocabulary: bytes, maze: bytes) -> tuple[list[Any], bool]:
    """The numbers of a pickle, and whether Python's generator was left alone by the first import of maze-dataset."""
    before = random.getstate()
    pickle.loads(vocabulary)
    left_alone = random.getstate() == before
    return numbers(pickle.loads(maze)), left_alone


def test_in_a_spawned_process(maze: MazeModel) -> None:
    with torch.no_grad():
        maze.model.W_U[0, 0] += 1
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        there, left_alone = pool.apply(numbers_of_bytes, (pickle.dumps(maze.vocabulary), pickle.dumps(maze)))
    assert there == numbers(maze)
    assert left_alone
