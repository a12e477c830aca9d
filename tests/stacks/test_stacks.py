"""Every stack of versions reads the files of every other, and all compute the same numbers."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
import torch

import maze_dla as dla

from .record import DATA, NAMES, figures, question

DATASETS = sorted(DATA.glob("dataset-*.zanj"))
RESULTS = sorted(DATA.glob("result-*.zanj"))
TEXTS = json.loads((DATA / "texts.json").read_text(encoding="utf-8"))


def test_there_are_files_of_old_and_new_versions() -> None:
    assert {f.name.split("-")[1] for f in DATASETS} == {f.stem.split("-")[1] for f in RESULTS} == {"classic", "newest"}
    assert len(DATASETS) == 6


@pytest.mark.parametrize("file", DATASETS, ids=lambda f: f.stem)
def test_data_sets(file) -> None:
    batch = dla.load_maze_model().prompts(file)
    expected = json.loads((DATA / f"paths-{file.name.split('-')[1]}.json").read_text())
    assert [[list(cell) for cell in batch.text(i).path] for i in range(len(batch))] == expected


@pytest.mark.parametrize("file", RESULTS, ids=lambda f: f.stem)
def test_saved_results(file) -> None:
    model, batch, metric = question("ioi", None)
    now = dla.attribute(model, batch, metric, neurons="mean", sources="kinds")
    saved = dla.load_result(file)
    assert isinstance(saved, dla.AttributionResult)
    assert (saved.layer_labels, saved.kinds, saved.prompt_tokens) == (now.layer_labels, now.kinds, now.prompt_tokens)
    for part in ("metric", "layers", "heads", "sources_by_kind", "neuron_mean", "constant"):
        torch.testing.assert_close(getattr(saved, part), getattr(now, part), rtol=0, atol=1e-5)
    tokens = dla.load_result(file.with_name(file.name.replace("result", "tokens")))
    assert isinstance(tokens, dla.TokenLensResult)
    assert tokens.top_tokens(0) == dla.token_lens(model, batch, k=2).top_tokens(0)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_numbers(name: str) -> None:
    """Guards against change: the figures were recorded by this library on the newest stack."""
    if name.startswith("20") and "MAZE_DLA_TEST_DATA" not in os.environ:
        pytest.skip("MAZE_DLA_TEST_DATA does not name the folder with the real checkpoints")
    now = figures(name, TEXTS[name])
    recorded = np.load(DATA / f"figures-{name}.npz")
    assert set(now) == set(recorded.files)
    for part, values in now.items():
        assert values.shape == recorded[part].shape
        size = max(1.0, float(np.abs(recorded["layers"]).max()))
        assert float(np.abs(values - recorded[part]).max()) < 1e-5 * size, part
