"""The bundled IOI model: what it can do, and that its script makes such a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import maze_dla as dla
from maze_dla.adapters.gpt2.sources import BUNDLED
from maze_dla.adapters.gpt2.training.corpus import PLAIN, training_sentence
from maze_dla.adapters.gpt2.training.held_out import held_out_prompts
from maze_dla.adapters.gpt2.training.run import TrainingPlan, train_bundled
from maze_dla.adapters.text.words import HELD_OUT_NAMES, HELD_OUT_TEMPLATES, TRAINING_NAMES, TRAINING_TEMPLATES

MIB = 2**20
SIZES = ("n_layer", "n_head", "n_embd", "n_inner", "n_positions", "vocab_size", "activation_function", "model_type")


def test_it_is_small() -> None:
    assert sum(f.stat().st_size for f in BUNDLED.iterdir()) <= 4 * MIB


def test_it_has_gpt2s_architecture(bundled: Any) -> None:
    from transformers import GPT2LMHeadModel

    hf = GPT2LMHeadModel.from_pretrained(BUNDLED)
    assert 2 <= hf.config.n_layer <= 4
    tokens = torch.tensor([[0, 5, 9]])
    with torch.no_grad():
        torch.testing.assert_close(bundled(tokens), hf(tokens).logits, rtol=0, atol=1e-4)


@pytest.mark.parametrize("seed", [1, 2])
def test_held_out_logit_differences_are_positive(bundled: Any, seed: int) -> None:
    batch = held_out_prompts(bundled, seed=seed)
    result = dla.attribute(bundled, batch, dla.logit_diff(batch))
    assert (len(result), result.accuracy.value >= 0.99) == (1000, True)
    assert float(result.gap.abs().max()) < 1e-3


def test_the_standard_prompts_are_answered(bundled: Any) -> None:
    batch = dla.ioi_prompts(bundled)
    result = dla.attribute(bundled, batch, dla.logit_diff(batch))
    assert result.preferred.all()  # the indirect object above the subject
    assert result.accuracy.value == 1.0


def test_training_never_sees_what_is_held_out() -> None:
    assert not set(HELD_OUT_NAMES) & set(TRAINING_NAMES)
    assert not set(HELD_OUT_TEMPLATES) & set(TRAINING_TEMPLATES)
    rng = np.random.default_rng(0)
    sentences = [training_sentence(rng) for _ in range(3000)]
    with_held_out = [s for s in sentences if set(s.replace(".", "").replace(",", "").split()) & set(HELD_OUT_NAMES)]
    given = ("gave", "handed", "offered", "passed", "showed", "lent", "sent", "threw", "sold", "brought", "give")
    assert with_held_out
    assert not [s for s in with_held_out if any(f" {verb} " in s for verb in given)]
    assert not [p for p in PLAIN if any(f" {verb} " in p for verb in given)]


def test_the_script_writes_a_folder_that_loads(tmp_path: Path) -> None:
    measured = list(train_bundled(tmp_path, TrainingPlan(steps=4, sentences=4, measure_every=2)))
    assert [m["step"] for m in measured] == [2, 4]
    assert {f.name for f in tmp_path.iterdir()} == {f.name for f in BUNDLED.iterdir()}
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        assert (tmp_path / name).read_text() == (BUNDLED / name).read_text()
    made, kept = (json.loads((folder / "config.json").read_text()) for folder in (tmp_path, BUNDLED))
    assert {k: v for k, v in made.items() if k in SIZES} == {k: kept[k] for k in SIZES}
    first = dla.load_gpt2(tmp_path)
    list(train_bundled(tmp_path, TrainingPlan(steps=4, sentences=4, measure_every=2)))
    assert torch.equal(dla.load_gpt2(tmp_path).W_E, first.W_E)


def test_a_few_hundred_steps_learn_something(tmp_path: Path) -> None:
    plan = TrainingPlan(steps=60, sentences=16, measure_every=20)
    losses = [m["loss"] for m in train_bundled(tmp_path, plan)]
    assert losses[-1] < 0.8 * losses[0]
