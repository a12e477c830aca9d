"""Real files of maze-transformer: the numbers of its own code, and those of a float64 computation from the file."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from maze_dla.adapters.mazes.model import MazeModel
from maze_dla.adapters.mazes.prompts import MazePromptBatch
from maze_dla.adapters.mazes.tasks import TASKS
from maze_dla.analysis import attribute, logit_lens
from maze_dla.engine.metrics import correct_vs_other, linear_metric

from .reference_maze import ReferenceRun, read_file, run

FINAL = ("2023-model.final", "2024-model.final")
ALL = (*FINAL, "2024-model.iter_0")
Loaded = Callable[[str], MazeModel]
Reference = dict[str, np.ndarray]


def reference(test_data: Path, name: str) -> Reference:
    with np.load(test_data / "reference" / f"{name}.logits.npz", allow_pickle=False) as arrays:
        return dict(arrays)


def asked(maze: MazeModel, seen: Reference, bos: bool) -> MazePromptBatch:
    """The prompts of the reference: up to <PATH_START>, the rest of the path after it."""
    rest = zip(seen["prompt_tokens"].tolist(), seen["origin"].tolist(), seen["first_choice"].tolist(), strict=True)
    texts = [[*prompt, origin, choice] for prompt, origin, choice in rest]
    return maze.prompts(texts, task="origin_after_path_start", prepend_bos=bos)


@pytest.mark.parametrize("bos", [True, False], ids=["bos", "no-bos"])
@pytest.mark.parametrize("name", FINAL)
def test_ids_and_logits_are_those_of_maze_transformer(
    name: str, bos: bool, test_data: Path, real_model: Loaded
) -> None:
    maze, seen = real_model(name), reference(test_data, name)
    batch, suffix = asked(maze, seen, bos), "_with_bos" if bos else ""
    assert batch.tokens.tolist() == seen[f"ids{suffix}"].tolist()
    with torch.no_grad():
        logits = maze.model(batch.tokens)[:, -1].numpy()
    assert np.abs(logits - seen[f"logits{suffix}"]).max() < 1e-4
    other = seen["logits" if bos else "logits_with_bos"]
    assert np.abs(logits - other).max() > 1e-2  # the extra BOS matters

    c = np.random.default_rng(0).standard_normal(logits.shape)
    metric = linear_metric(batch, torch.tensor(c))
    expected = (c * seen[f"logits{suffix}"]).sum(1)
    assert np.allclose(attribute(maze.model, batch, metric).metric, expected, atol=1e-4 * np.abs(c).sum(1).max())


@pytest.mark.parametrize("name", FINAL)
def test_correct_vs_other_by_its_definition_on_the_reference(name: str, test_data: Path, real_model: Loaded) -> None:
    maze, seen = real_model(name), reference(test_data, name)
    batch = asked(maze, seen, True)
    result = attribute(maze.model, batch, correct_vs_other(batch))
    rows = seen["logits_with_bos"].astype(np.float64)
    targets = [maze.vocabulary.tokens.index(origin) for origin in seen["origin"].tolist()]
    expected = [row[t] - np.delete(row, t).mean() for row, t in zip(rows, targets, strict=True)]
    assert np.allclose(result.metric, expected, atol=2e-4)
    assert result.targets == tuple(seen["origin"].tolist())
    assert result.correct.tolist() == [int(row.argmax()) == t for row, t in zip(rows, targets, strict=True)]


def test_the_bos_is_prepended_unless_told_otherwise(real_model: Loaded) -> None:
    batch = real_model(FINAL[0]).prompts(n_mazes=2)
    assert batch.tokens[:, :2].tolist() == [[0, 0], [0, 0]]
    assert batch.labels[0][:2] == ("<ADJLIST_START>", "<ADJLIST_START>")


def test_the_vocabulary_of_2023_in_its_own_order(test_data: Path, real_model: Loaded) -> None:
    with zipfile.ZipFile(test_data / "checkpoints" / "2023-model.final.zanj") as archive:
        config = json.loads(archive.read("__zanj__.json"))["zanj_model_config"]["dataset_cfg"]
    vocabulary = real_model("2023-model.final").vocabulary
    assert vocabulary.tokens == tuple(config["token_arr"])
    assert vocabulary.ids == config["tokenizer_map"]
    rasterized = [f"({row},{column})" for row in range(6) for column in range(6)]
    assert list(vocabulary.tokens[11:]) != rasterized
    assert sorted(vocabulary.tokens[11:]) == rasterized


def test_the_vocabulary_of_2024_is_the_tokenizers(real_model: Loaded) -> None:
    for name in ALL[1:]:
        tokens = real_model(name).vocabulary.tokens
        assert len(tokens) == 4096
        assert tokens[:3] == ("<ADJLIST_START>", "<ADJLIST_END>", "<TARGET_START>")
        assert tokens[1631] == "(5,5)"


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", ALL)
def test_everything_adds_up_on_every_task(name: str, task: str, real_model: Loaded) -> None:
    maze = real_model(name)
    batch = maze.prompts(task=task, n_mazes=2, seed=1)
    result = attribute(maze.model, batch, correct_vs_other(batch), neurons=True, sources=True)
    assert result.neurons is not None
    assert result.sources is not None
    size = 1e-4 * result.layers.abs().amax()
    gap = result.metric.double() - result.layers.double().sum(1) - result.constant.double()
    assert torch.allclose(result.gap, gap, atol=1e-9)
    assert 0 < result.gap.abs().max() < size  # the true gap of float32, not a polished one
    attn, mlp = result.layers[:, 2::2], result.layers[:, 3::2]
    assert torch.allclose(result.heads.sum(-1) + result.attn_bias, attn, atol=size)
    assert torch.allclose(result.neurons.sum(-1) + result.mlp_bias, mlp, atol=size)
    assert torch.allclose(result.sources.sum(-1), result.heads, atol=size)
    assert not torch.allclose(result.heads[:, :, 1:].sum(-1) + result.attn_bias, attn, atol=size)
    assert result.info["task"] == task
    assert len(str(result.info["sha256"])) == 64


@cache
def weights(file: Path) -> dict[str, torch.Tensor]:
    return read_file(file)[0]


def reference_runs(test_data: Path, name: str, batch: MazePromptBatch) -> list[ReferenceRun]:
    w = weights(test_data / "checkpoints" / f"{name}.zanj")
    return [run(w, row[:n].tolist()) for row, n in zip(batch.tokens, batch.lengths, strict=True)]


def own_coefficients(batch: MazePromptBatch, others: str) -> torch.Tensor:
    """Correct minus the mean of the others, from the tokens' names."""
    tokens = list(batch.vocabulary or ())
    sets = {"all": set(tokens), "cells": {f"({r},{c})" for r in range(6) for c in range(6)}}
    rows = []
    for p in range(len(batch)):
        target = tokens[int(batch.targets[p])]
        kept = sorted(sets[others] - {target})
        row = torch.zeros(len(tokens), dtype=torch.float64)
        row[[tokens.index(t) for t in kept]] = -1 / len(kept)
        row[tokens.index(target)] = 1
        rows.append(row)
    return torch.stack(rows)


@pytest.mark.parametrize("others", ["all", "cells"])
@pytest.mark.parametrize(
    ("name", "task"),
    [("2023-model.final", "rand_path_token"), ("2024-model.final", "path_end"), ("2024-model.iter_0", "path_start")],
)
def test_contributions_are_those_of_a_float64_computation(
    name: str, task: str, others: str, test_data: Path, real_model: Loaded
) -> None:
    maze = real_model(name)
    batch = maze.prompts(task=task, n_mazes=3, seed=5)
    metric = correct_vs_other(batch, others)
    result = attribute(maze.model, batch, metric, neurons=True, sources=True)
    final, own = (logit_lens(maze.model, batch, metric, scale=s) for s in ("final", "own"))
    assert result.neurons is not None
    assert result.sources is not None
    runs, coefficients = reference_runs(test_data, name, batch), own_coefficients(batch, others)
    for p, (r, c) in enumerate(zip(runs, coefficients, strict=True)):
        close(result.metric[p], r.logits @ c)
        close(result.constant[p], r.bias() @ c)
        close(result.layers[p], torch.stack([r.contribution(v, c) for v in r.layers.values()]))
        close(result.heads[p], torch.stack([r.contribution(torch.stack(h), c) for h in r.heads]))
        close(result.neurons[p], torch.stack([r.contribution(n, c) for n in r.neurons]))
        moved = torch.stack([torch.stack([r.contribution(s, c) for s in layer]) for layer in r.sources])
        close(result.sources[p, :, :, : moved.shape[-1]], moved)
        for lens in (final, own):
            close(lens.values[p], torch.stack([r.logits_at(d, lens.scale) @ c for d in r.depths]))
    assert tuple(runs[0].layers) == result.layer_labels
    assert tuple(runs[0].depths) == final.labels == own.labels


def close(seen: torch.Tensor, expected: torch.Tensor) -> None:
    assert seen.shape == expected.shape
    assert float((seen.double() - expected).abs().max()) < 1e-4


def test_another_checkpoint_has_other_contributions(test_data: Path, real_model: Loaded) -> None:
    maze = real_model("2024-model.final")
    batch = maze.prompts(task="path_start", n_mazes=2)
    result = attribute(maze.model, batch, correct_vs_other(batch))
    wrong = reference_runs(test_data, "2024-model.iter_0", batch)[0]
    with pytest.raises(AssertionError):
        close(result.metric[0], wrong.logits @ own_coefficients(batch, "all")[0])
