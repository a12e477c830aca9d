"""Files that one stack writes and the others have to read: `python tests/stacks/record.py NAME`.

NAME names the stack that is installed, such as classic, middle or newest. Written are small data sets in every form
that its maze-dataset knows, and a saved result; `python tests/stacks/record.py figures` writes the figures that every
stack has to reproduce.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from zanj import ZANJ

import maze_dla as dla
from maze_dla.adapters.gpt2.sources import BUNDLED
from maze_dla.adapters.mazes.library import import_maze_dataset

DATA = Path(__file__).parent / "data"
FORMS = ("full", "minimal", "minimal_soln_cat")
TASK, N_MAZES = "first_path_choice", 2
NAMES = ("2023-model.final", "2024-model.final", "2024-model.iter_0", "bundled", "ioi")


def question(name: str, texts: list[str] | None) -> tuple[Any, dla.PromptBatch, dla.LinearMetric]:
    """A model with prompts and a metric; texts are the mazes that were recorded."""
    if name == "ioi":
        gpt2 = dla.load_gpt2(BUNDLED)
        batch = dla.ioi_prompts(gpt2).select([0, 3])
        return gpt2, batch, dla.logit_diff(batch)
    file = None if name == "bundled" else Path(os.environ["MAZE_DLA_TEST_DATA"]) / "checkpoints" / f"{name}.zanj"
    maze = dla.load_maze_model(file)
    mazes = maze.prompts(texts, task=TASK, n_mazes=None if texts else N_MAZES)
    return maze.model, mazes, dla.correct_vs_other(mazes, "cells")


def figures(name: str, texts: list[str] | None) -> dict[str, np.ndarray]:
    """Everything that attribution and lens say."""
    model, batch, metric = question(name, texts)
    result = dla.attribute(model, batch, metric, neurons=True, sources=True)
    own = dla.logit_lens(model, batch, metric, scale="own")
    parts = ("metric", "constant", "final_scale", "layers", "heads", "attn_bias", "mlp_bias", "neurons", "sources")
    return {part: getattr(result, part).numpy() for part in parts} | {"lens": own.values.numpy()}


def record_figures() -> None:
    texts = {}
    for name in NAMES:
        _, batch, _ = question(name, None)
        texts[name] = None if name == "ioi" else [" ".join(batch.text(i).tokens) for i in range(N_MAZES)]  # pyright: ignore
        np.savez_compressed(DATA / f"figures-{name}.npz", **figures(name, texts[name]))
    (DATA / "texts.json").write_text(json.dumps(texts, indent=1), encoding="utf-8")


def record_files(stack: str) -> None:
    library = import_maze_dataset()
    config = library.MazeDatasetConfig(name="small", grid_n=3, n_mazes=3, seed=3)
    how = {"load_local": False, "save_local": False, "do_download": False, "verbose": False}
    dataset = library.MazeDataset.from_config(config, **how)
    for form in FORMS:
        if hasattr(dataset, f"_serialize_{form}"):
            ZANJ().save(getattr(dataset, f"_serialize_{form}")(), str(DATA / f"dataset-{stack}-{form}.zanj"))
    paths = [[[int(x) for x in cell] for cell in maze.solution] for maze in dataset.mazes]
    (DATA / f"paths-{stack}.json").write_text(json.dumps(paths), encoding="utf-8")
    model, batch, metric = question("ioi", None)
    result = dla.attribute(model, batch, metric, neurons="mean", sources="kinds")
    result.save(DATA / f"result-{stack}.zanj")
    dla.token_lens(model, batch, k=2).save(DATA / f"tokens-{stack}.zanj")


if __name__ == "__main__":
    DATA.mkdir(exist_ok=True)
    record_figures() if sys.argv[1] == "figures" else record_files(sys.argv[1])
