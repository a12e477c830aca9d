"""Saving and loading move nothing: results to the bit, checkpoints to the bit of their weights."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import maze_dla as dla
from maze_dla.adapters.mazes.library import legacy_tokenizer
from maze_dla.adapters.transformer_lens.build import DecoderSpec, build_decoder
from maze_dla.adapters.transformer_lens.identity import weights_hash
from maze_dla.training.mazes.decoder import Decoder, DecoderConfig
from maze_dla.training.mazes.loop import TrainingPlan
from maze_dla.training.mazes.save import save_checkpoint
from tests.adapters.gpt2.conftest import random_gpt2, write_folder
from tests.adapters.mazes.small_files import (
    D_HEAD,
    D_MLP,
    D_MODEL,
    N_CTX,
    N_LAYERS,
    NEW,
    OLD,
    VOCABULARY,
    random_state,
    small_checkpoint,
)

from .methods import METHODS, OF_PAIRS, assert_identical, pairs_of
from .models import BOUNDS, SEEDS, Case, cases, few, prompts
from .numbers import assert_held, batch_of, coefficients_of, metric_of, plain_numbers

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


def there_and_back(result: Any) -> Any:
    """The result as it is read from its file."""
    with tempfile.TemporaryDirectory() as folder:
        return dla.load_result(result.save(Path(folder) / "x.zanj"))


@pytest.mark.parametrize("name", [*METHODS, *OF_PAIRS])
@few(2)
@given(case=cases(), data=st.data())
def test_results(name: str, case: Case, data: Any) -> None:
    drawn, tokens = case
    dtype = data.draw(st.sampled_from([torch.float32, torch.float64])) if drawn.spread < 1 else torch.float64
    n, model = len(tokens), drawn.built(dtype)
    if name in OF_PAIRS:
        result = OF_PAIRS[name](model, pairs_of(tokens, drawn.d_vocab))
        assert_identical(there_and_back(result), result)
        return
    batch = batch_of(tokens, drawn.d_vocab, vocabulary=data.draw(names_of(drawn.d_vocab)))
    batch = batch.with_column("note", data.draw(st.lists(TEXTS, min_size=n, max_size=n)))
    batch = batch.with_column("size", data.draw(st.lists(st.floats(allow_nan=False), min_size=n, max_size=n)))
    reference = batch_of([*tokens, tokens[0][::-1], [1]], drawn.d_vocab)
    result = METHODS[name](model, batch, metric_of(batch, coefficients_of(tokens, drawn.d_vocab)), reference)
    assert_identical(there_and_back(result), result)


def names_of(d_vocab: int) -> Any:
    """A vocabulary of any texts."""
    return st.lists(TEXTS, min_size=d_vocab, max_size=d_vocab, unique=True)


def numbers_of(maze_model: Any, tokens: list[list[int]], d_vocab: int) -> Any:
    batch = batch_of(tokens, d_vocab)
    found = plain_numbers(maze_model, batch, metric_of(batch, coefficients_of(tokens, d_vocab)))
    return {name: values for name, values in found.items() if values.numel()}


def assert_same_model(seen: Any, expected: Any, tokens: list[list[int]], d_vocab: int) -> None:
    assert weights_hash(seen) == weights_hash(expected)
    held = [numbers_of(model, tokens, d_vocab) for model in (seen, expected)]
    assert_held(held[0], held[1], BOUNDS[torch.float32])


SPEC = DecoderSpec(N_LAYERS, D_MODEL // D_HEAD, D_MODEL, D_HEAD, D_MLP, len(VOCABULARY), N_CTX, "gelu", "small")


@few(3)
@given(SEEDS, st.sampled_from([0.02, 1.0]), prompts(len(VOCABULARY), most=3))
def test_maze_checkpoints(seed: int, size: float, tokens: list[list[int]]) -> None:
    """Old and new format keys, tensors inline in the JSON and beside it."""
    state = {name: (np.float32(size) * values) for name, values in random_state(seed=seed % 1000).items()}
    built = build_decoder(SPEC, {name: torch.tensor(values) for name, values in state.items()})
    with tempfile.TemporaryDirectory() as folder:
        for i, (key, tensors) in enumerate(((OLD, "inline"), (NEW, "external"))):
            file = small_checkpoint(state, key=key, tensors=tensors).write(Path(folder) / f"{i}.zanj")
            assert_same_model(dla.load_maze_model(file).model, built, tokens, len(VOCABULARY))


@few(2)
@given(SEEDS, prompts(11, most=3))
def test_checkpoints_that_training_saves(seed: int, tokens: list[list[int]]) -> None:
    names = list(legacy_tokenizer("AOTP_UT_uniform", 2).token_arr)
    config = DecoderConfig(n_layers=2, d_model=8, d_head=4, d_vocab=len(names), n_ctx=24)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        trained = Decoder(config)
        with torch.no_grad():
            for weight in trained.parameters():
                weight.add_(0.3 * torch.randn_like(weight))
    spec = replace(SPEC, n_heads=2, d_model=8, d_head=4, d_mlp=32, d_vocab=len(names), n_ctx=24)
    state = {n: w.detach() for n, w in trained.tl_state_dict().items() if not n.endswith((".mask", ".IGNORE"))}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trained.zanj"
        save_checkpoint(trained, names, 2, TrainingPlan(), {}, path)
        loaded = dla.load_maze_model(path).model
    assert_same_model(loaded, build_decoder(spec, state), tokens, len(names))


@few(2)
@given(SEEDS, prompts(900, most=3))
def test_folders_and_files_of_gpt2(seed: int, tokens: list[list[int]]) -> None:
    hf = random_gpt2(seed, n_embd=12, n_layer=1)
    with tempfile.TemporaryDirectory() as folder:
        at = write_folder(hf, Path(folder) / "folder")
        torch.save({"model_state_dict": hf.state_dict()}, Path(folder) / "one.pth")
        one, two = dla.load_gpt2(at), dla.load_gpt2(Path(folder) / "one.pth", architecture=at)
        again = write_folder(random_gpt2(seed, n_embd=12, n_layer=1), Path(folder) / "again")
        three, other = dla.load_gpt2(again), dla.load_gpt2("bundled")
    assert_same_model(two, one, tokens, 900)
    assert weights_hash(three) == weights_hash(one)
    assert weights_hash(other) != weights_hash(one)
