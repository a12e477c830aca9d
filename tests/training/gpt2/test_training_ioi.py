"""The script that trains the bundled IOI model: what it never shows, what it writes, and that it learns."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

import maze_dla as dla
from maze_dla.adapters.gpt2.sources import BUNDLED
from maze_dla.adapters.text.words import HELD_OUT_NAMES, HELD_OUT_TEMPLATES, TRAINING_NAMES, TRAINING_TEMPLATES
from maze_dla.training.gpt2.corpus import PLAIN, training_sentence
from maze_dla.training.gpt2.run import TrainingPlan, train_bundled

SIZES = ("n_layer", "n_head", "n_embd", "n_inner", "n_positions", "vocab_size", "activation_function", "model_type")


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
