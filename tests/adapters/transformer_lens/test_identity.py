"""Whose result it is: name and hash travel with the model object, and the hash is that of the weights as they are."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from maze_dla.adapters.mazes.load import BUNDLED, load_maze_model
from maze_dla.adapters.mazes.model import MazeModel
from maze_dla.adapters.transformer_lens.identity import _fingerprint, vocabulary_of, weights_hash
from maze_dla.analysis import attribute, logit_lens, token_lens
from maze_dla.engine.metrics import logit
from maze_dla.errors import CheckpointError, InputError
from maze_dla.files.zanj_file import read_container

EARLIER = Path(__file__).parents[2] / "training" / "mazes" / "data" / "step_01000.zanj"


@pytest.fixture
def maze() -> MazeModel:
    return load_maze_model()


def independent_hash(file: Path) -> str:
    """From the file's own arrays: names in order, shapes, doubles; without buffers and biases that are all zero."""
    state = {
        name: values.astype(np.float64)
        for name, values in read_container(file, CheckpointError)["state_dict"].items()
        if not name.endswith((".mask", ".IGNORE"))
    }
    digest = hashlib.sha256()
    for name, values in sorted(state.items()):
        if name.split(".")[-1].startswith("b") and not values.any():
            continue
        digest.update(f"{name} {values.shape}\n".encode() + values.tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize("file", [BUNDLED, EARLIER], ids=["bundled", "earlier"])
def test_the_hash_is_that_of_the_weights_in_the_file(file: Path) -> None:
    assert weights_hash(load_maze_model(file).model) == independent_hash(file)


@pytest.mark.parametrize("method", [attribute, logit_lens])
def test_a_result_names_the_model_that_was_run(method: Callable[..., Any], maze: MazeModel, tmp_path: Path) -> None:
    other = load_maze_model(EARLIER)
    batch = maze.prompts(n_mazes=3)
    result = method(other.model, batch, logit(batch))
    assert (result.info["checkpoint"], result.info["sha256"]) == (EARLIER.name, independent_hash(EARLIER))
    assert method(maze.model, batch, logit(batch)).info["checkpoint"] == BUNDLED.name
    from maze_dla.results.loading import load_result

    saved = load_result(result.save(tmp_path / "r.zanj"))
    assert saved.info["sha256"] == independent_hash(EARLIER)


def test_a_maze_model_may_be_passed_itself(maze: MazeModel) -> None:
    batch = maze.prompts(n_mazes=3)
    assert torch.equal(attribute(maze, batch, logit(batch)).heads, attribute(maze.model, batch, logit(batch)).heads)
    assert torch.equal(token_lens(maze, batch).kl, token_lens(maze.model, batch).kl)
    assert logit_lens(maze, batch, logit(batch)).info["sha256"] == independent_hash(BUNDLED)


def in_place(weight: torch.Tensor) -> None:
    with torch.no_grad():
        weight[2, 3] += 1e-4


def past_autograd(weight: torch.Tensor) -> None:
    weight.data[2, 3] += 1e-4


def rows_swapped(weight: torch.Tensor) -> None:
    weight.data[[1, 2]] = weight.data[[2, 1]].clone()


def columns_swapped(weight: torch.Tensor) -> None:
    weight.data[:, [1, 2]] = weight.data[:, [2, 1]].clone()


@pytest.mark.parametrize("edit", [in_place, past_autograd, rows_swapped, columns_swapped])
@pytest.mark.parametrize("number", [0, 7, -2])
def test_edited_weights_do_not_keep_the_hash(edit: Callable[..., None], number: int, maze: MazeModel) -> None:
    batch = maze.prompts(n_mazes=2)
    before = attribute(maze, batch, logit(batch)).info
    weight = [p for p in maze.model.parameters() if p.ndim == 2 and min(p.shape) > 3][number]
    kept = weight.detach().clone()
    edit(weight)
    after = attribute(maze, batch, logit(batch)).info
    assert after["sha256"] != before["sha256"]
    assert after["weights"] == "changed after they were loaded"
    assert "weights" not in before
    weight.data.copy_(kept)
    assert attribute(maze, batch, logit(batch)).info == before


def test_the_smallest_change_of_any_number_is_noticed(maze: MazeModel) -> None:
    """Also of one at a place that weighs little in a sum, and of one in a row of much larger ones."""
    generator = torch.Generator().manual_seed(0)
    before = weights_hash(maze.model)
    for weight in (*maze.model.parameters(), maze.model.unembed.b_U):
        flat = weight.data.view(-1)
        for place in {354 % len(flat), int(torch.randint(len(flat), (), generator=generator))}:
            kept = flat[place].clone()
            flat[place] = torch.nextafter(kept, kept + 1)
            assert weights_hash(maze.model) != before, (tuple(weight.shape), place)
            flat[place] = kept
    assert weights_hash(maze.model) == before


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_in_other_precisions_too(dtype: torch.dtype) -> None:
    weight = torch.randn(7, 341, generator=torch.Generator().manual_seed(1)).to(dtype)
    other = weight.clone()
    other.view(-1)[2000] += 0.01
    one, two = _fingerprint(weight), _fingerprint(other)
    assert not all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(one, _fingerprint(weight.clone()), strict=True))


def test_numbers_beside_the_weights_that_a_forward_pass_reads() -> None:
    """Rotary frequencies are in no state_dict of Hugging Face's models."""
    transformers = pytest.importorskip("transformers")
    sources = pytest.importorskip("transformer_lens.model_bridge.sources", reason="this version has no bridges")
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.LlamaConfig(**sizes, vocab_size=30, max_position_embeddings=32, attn_implementation="eager")
    hf = transformers.LlamaForCausalLM(config).eval()
    model = sources.build_bridge_from_module(hf, "LlamaForCausalLM", hf_config=config, tokenizer=None)
    before = weights_hash(model)
    frequencies = next(b for name, b in hf.named_buffers() if name.endswith("inv_freq"))
    frequencies.mul_(1.5)
    assert weights_hash(model) != before


def test_an_edited_unembedding_bias_does_not_keep_the_hash(maze: MazeModel) -> None:
    before = weights_hash(maze.model)
    maze.model.unembed.b_U.data[3] += 1e-3
    assert weights_hash(maze.model) != before


def test_a_copy_is_hashed_by_itself(maze: MazeModel) -> None:
    copied = copy.deepcopy(maze.model)
    next(copied.parameters()).data[0, 0] += 1
    assert weights_hash(maze.model) == independent_hash(BUNDLED) != weights_hash(copied)
    double = copy.deepcopy(maze.model).double()
    assert weights_hash(double) == independent_hash(BUNDLED)


def test_weights_are_read_again_only_once_they_change(maze: MazeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    from maze_dla.adapters.transformer_lens import identity

    weights_hash(maze.model)
    monkeypatch.setattr(identity, "_digest", lambda named: "anew")
    assert weights_hash(maze.model) == independent_hash(BUNDLED)
    next(maze.model.parameters()).data[0, 0] += 1
    assert weights_hash(maze.model) == "anew"


def test_a_batch_of_other_tokens_is_refused(maze: MazeModel) -> None:
    tokens = list(maze.vocabulary.tokens)
    tokens[10], tokens[11] = tokens[11], tokens[10]
    batch = maze.prompts(n_mazes=2)
    swapped = replace(batch, vocabulary=tuple(tokens))
    with pytest.raises(
        InputError,
        match=rf"its token 10 is '{tokens[10]}', the model's is '{tokens[11]}'".replace("(", r"\(").replace(")", r"\)"),
    ):
        attribute(maze, swapped, logit(swapped))
    with pytest.raises(InputError, match="another vocabulary"):
        token_lens(maze.model, swapped)
    first = replace(batch, vocabulary=("?", *maze.vocabulary.tokens[1:]))
    with pytest.raises(InputError, match=r"its token 0 is '\?'"):
        attribute(maze, first, logit(first))


def test_a_model_without_provenance_is_named_by_its_config(maze: MazeModel) -> None:
    batch = maze.prompts(n_mazes=2)
    del maze.model.provenance
    info = attribute(maze.model, batch, logit(batch)).info
    assert (info["model"], info["sha256"]) == ("hallway-5x5", independent_hash(BUNDLED))
    assert "checkpoint" not in info


def test_tokens_of_a_tokenizer_can_be_gone_through(bundled) -> None:
    words = vocabulary_of(bundled)
    assert words is not None
    assert len(list(words)) == len(words)
    with pytest.raises(IndexError, match=r"token 1000000 outside the vocabulary of \d+"):
        words[1_000_000]
