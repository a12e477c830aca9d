"""Checkpoints of every layout: format keys, inline and external tensors, folded norms, tokenizers, models in memory."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from maze_dla.adapters.mazes.library import import_maze_dataset
from maze_dla.adapters.mazes.load import load_maze_model
from maze_dla.adapters.mazes.model import MazeModel
from maze_dla.analysis import attribute
from maze_dla.engine.metrics import correct_vs_other, logit
from maze_dla.errors import CheckpointError, InputError
from maze_dla.files.zanj_file import read_container

from .reference_maze import read_file, run
from .small_files import (
    GRID,
    N_LAYERS,
    NEW,
    OLD,
    VOCABULARY,
    damaged,
    folded_state,
    random_state,
    small_checkpoint,
    small_tokenizer,
)
from .texts import LONG, SHORT, TEXT


def logits(maze: MazeModel) -> torch.Tensor:
    batch = maze.prompts([TEXT, SHORT, LONG], task="path_end")
    with torch.no_grad():
        return torch.stack([maze.model(batch.tokens[i : i + 1, :n])[0, -1] for i, n in enumerate(batch.lengths)])


@pytest.mark.parametrize("tensors", ["mixed", "inline", "external"])
@pytest.mark.parametrize("key", [OLD, NEW])
def test_both_generations_and_all_kinds_of_tensor(
    key: str, tensors: Any, small_model: MazeModel, tmp_path: Path
) -> None:
    file = small_checkpoint(key=key, tensors=tensors).write(tmp_path / "model.zanj")
    maze = load_maze_model(file)
    assert torch.equal(logits(maze), logits(small_model))
    assert maze.vocabulary.tokens == VOCABULARY
    buffer = read_container(file, CheckpointError)["state_dict"]["blocks.0.attn.IGNORE"]
    assert buffer.shape == ()  # zero-dimensional
    assert buffer == -np.inf


def test_nested_keys_of_both_generations_become_new_ones(tmp_path: Path) -> None:
    content = read_container(small_checkpoint(key=OLD).write(tmp_path / "old.zanj"), CheckpointError)
    assert content[NEW] == "ZanjHookedTransformer"
    assert content["zanj_model_config"]["dataset_cfg"][NEW] == "MazeDatasetConfig(SerializableDataclass)"
    assert OLD not in str(content)


def test_a_file_with_other_weights_has_other_logits(small_model: MazeModel, tmp_path: Path) -> None:
    other = load_maze_model(small_checkpoint(random_state(seed=1)).write(tmp_path / "other.zanj"))
    assert (logits(other) - logits(small_model)).abs().max() > 0.1


@pytest.mark.parametrize("folded", [False, True], ids=["unfolded", "folded"])
def test_logits_are_those_of_the_weights_as_stored(folded: bool, tmp_path: Path) -> None:
    state = folded_state(random_state()) if folded else random_state()
    file = small_checkpoint(state).write(tmp_path / "model.zanj")
    maze, (weights, _) = load_maze_model(file), read_file(file)
    batch = maze.prompts([TEXT, SHORT, LONG], task="path_end")
    expected = [run(weights, row[:n].tolist()).logits for row, n in zip(batch.tokens, batch.lengths, strict=True)]
    assert torch.allclose(logits(maze).double(), torch.stack(expected), atol=1e-4)


def test_folding_changes_neither_logits_nor_contributions_of_heads(small_model: MazeModel, tmp_path: Path) -> None:
    file = small_checkpoint(folded_state(random_state())).write(tmp_path / "folded.zanj")
    folded = load_maze_model(file)
    assert not any("ln" in name for name in read_file(file)[0])
    assert torch.allclose(logits(folded), logits(small_model), atol=1e-4)
    plain, other = (
        attribute(m.model, b, correct_vs_other(b, "cells"), neurons=True)
        for m in (small_model, folded)
        for b in [m.prompts([TEXT, SHORT, LONG], task="final_before_path_end")]
    )
    assert torch.allclose(plain.metric, other.metric, atol=1e-4)
    assert torch.allclose(plain.layers, other.layers, atol=1e-4)
    assert torch.allclose(plain.neurons, other.neurons, atol=1e-4)
    assert torch.allclose(plain.constant, other.constant, atol=1e-4)


def test_missing_norms_are_not_folded_ones_where_the_config_says_so(tmp_path: Path) -> None:
    """Without a word in the config all or no norms are there; with one it counts."""
    without = {name: values for name, values in random_state().items() if "ln" not in name}
    load_maze_model(small_checkpoint(without).write(tmp_path / "no_word.zanj"))
    for state, folded, message in (
        (without, False, "state_dict lacks blocks.0.ln1.w"),
        (random_state(), True, "holds .*ln.*, which this architecture does not have"),
        ({k: v for k, v in random_state().items() if not k.startswith("ln_final")}, None, r"lacks ln_final\.w"),
        ({k: v for k, v in random_state().items() if ".ln1." not in k}, None, r"lacks blocks\.0\.ln1\.w"),
    ):
        file = small_checkpoint(state)
        if folded is not None:
            file.config["model_cfg"]["weight_processing"] = {"are_layernorms_folded": folded}
        with pytest.raises(CheckpointError, match=message):
            load_maze_model(file.write(tmp_path / "lies.zanj"))


def test_folding_by_halves_is_noticed(small_model: MazeModel, tmp_path: Path) -> None:
    state = folded_state(random_state())
    state["unembed.b_U"] = random_state()["unembed.b_U"]
    wrong = load_maze_model(small_checkpoint(state).write(tmp_path / "wrong.zanj"))
    assert (logits(wrong) - logits(small_model)).abs().max() > 1e-2


@pytest.mark.parametrize("act_fn", ["gelu", "gelu_new", "relu", "silu"])
def test_every_activation(act_fn: str, tmp_path: Path) -> None:
    file = damaged(model_cfg__act_fn=act_fn).write(tmp_path / "model.zanj")
    maze = load_maze_model(file)
    batch = maze.prompts([LONG], task="path_end")
    expected = {a: run(read_file(file)[0], batch.tokens[0].tolist(), a).logits for a in ("gelu", "relu", act_fn)}
    with torch.no_grad():
        seen = maze.model(batch.tokens)[0, -1].double()
    assert torch.allclose(seen, expected.pop(act_fn), atol=1e-4)
    assert not any(torch.allclose(seen, other, atol=1e-4) for other in expected.values())


def test_an_older_tokenizer_gives_its_own_order(tmp_path: Path) -> None:
    file = small_checkpoint(tokenizer=small_tokenizer()).write(tmp_path / "model.zanj")
    maze = load_maze_model(file)
    unrasterized = "(0,0) (0,1) (1,0) (1,1) (0,2) (2,0) (1,2) (2,1) (2,2)"
    assert maze.vocabulary.tokens[11:] == tuple(unrasterized.split())
    assert maze.prompts(n_mazes=1).labels[0][0] == "<ADJLIST_START>"


def test_float64_holds_sums_to_1e_10(small_file: Path) -> None:
    maze = load_maze_model(small_file, dtype=torch.float64)
    batch = maze.prompts([TEXT, SHORT, LONG], task="path_end")
    result = attribute(maze.model, batch, correct_vs_other(batch), sources=True)
    assert result.metric.dtype == torch.float64
    assert result.gap.abs().max() < 1e-10
    w = read_file(small_file)[0]
    runs = [run(w, row[:n].tolist()) for row, n in zip(batch.tokens, batch.lengths, strict=True)]
    c = correct_vs_other(batch).coefficients()
    expected = torch.stack([r.contribution(torch.stack(r.heads[1]), c[p]) for p, r in enumerate(runs)])
    assert torch.allclose(result.heads[:, 1], expected, atol=1e-9)


def in_memory(file: Path, **config: Any) -> Any:
    """A `ZanjHookedTransformer` as the library sees it: a model with its config."""
    library, model = import_maze_dataset(), load_maze_model(file).model
    tokenization = library.tokenization
    tokenizer = tokenization.MazeTokenizer(
        tokenization_mode=tokenization.TokenizationMode.AOTP_UT_uniform, max_grid_size=GRID
    )
    dataset = library.MazeDatasetConfig(name="small", grid_n=GRID, n_mazes=5)
    settings = {"name": "in-memory", "maze_tokenizer": tokenizer, "dataset_cfg": dataset, **config}
    model.zanj_model_config = SimpleNamespace(**settings)
    return model


def test_a_model_in_memory(small_file: Path) -> None:
    maze = load_maze_model(in_memory(small_file))
    batch = maze.prompts(n_mazes=3)
    assert not {"model", "checkpoint", "sha256"} & set(batch.info)  # a batch says what was asked, not of whom
    info = attribute(maze, batch, logit(batch)).info
    assert (info["model"], info["checkpoint"]) == ("in-memory", "in memory")
    result = attribute(maze.model, batch, logit(batch))
    assert len(result.heads[0]) == N_LAYERS


@pytest.mark.parametrize("where", [{"device": "cpu"}, {"dtype": torch.float64}])
def test_a_model_in_memory_is_not_moved(where: dict[str, Any], small_file: Path) -> None:
    with pytest.raises(InputError, match="a model in memory is taken as it is"):
        load_maze_model(in_memory(small_file), **where)


def test_a_model_in_memory_without_a_vocabulary_or_with_another(small_file: Path) -> None:
    with pytest.raises(CheckpointError, match=r"'in-memory' has no maze_tokenizer, so no vocabulary"):
        load_maze_model(in_memory(small_file, maze_tokenizer=None))
    tokenizer = SimpleNamespace(token_arr=["a", "b"])
    with pytest.raises(CheckpointError, match=r"in-memory: the vocabulary has 2 tokens, W_E has 20 rows"):
        load_maze_model(in_memory(small_file, maze_tokenizer=tokenizer))


@pytest.mark.parametrize("source", [3, {"a": 1}, b"bytes"])
def test_what_is_no_model_at_all(source: Any) -> None:
    message = f"expected a checkpoint's path or a ZanjHookedTransformer, got {type(source).__name__}"
    with pytest.raises(InputError, match=message):
        load_maze_model(source)


def test_the_model_says_what_it_is(small_model: MazeModel) -> None:
    assert repr(small_model) == "MazeModel('small-model': 2 layers, 2 heads, d_model 16, 20 tokens, 3x3 mazes)"


def test_the_bundled_checkpoint_loads() -> None:
    maze = load_maze_model()
    assert maze.grid_n >= 5
    batch = maze.prompts(n_mazes=2)
    assert len(attribute(maze.model, batch, correct_vs_other(batch))) == 2
