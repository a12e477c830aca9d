"""The figures of the bundled checkpoint on fifty recorded prompts.

`python tests/training/mazes/figures.py` records them anew, after training the checkpoint again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import maze_dla as dla

FILE = Path(__file__).parent / "data" / "figures.json"
TASK, N_PROMPTS, SEED = "first_path_choice", 50, 0


def prompts(maze: dla.MazeModel, texts: list[str]) -> tuple[dla.PromptBatch, dla.LinearMetric]:
    batch = maze.prompts(texts, task=TASK)
    return batch, dla.correct_vs_other(batch, others="cells")


def figures(model: Any, batch: dla.PromptBatch, metric: dla.LinearMetric) -> dict[str, Any]:
    """Metric of each prompt; means of layers, heads and the lens at each depth's own scale."""
    result = dla.attribute(model, batch, metric)
    lens = dla.logit_lens(model, batch, metric, scale="own")
    return {
        "metric": result.metric.tolist(),
        "layers": dict(zip(result.layer_labels, result.layers.double().mean(0).tolist(), strict=True)),
        "heads": result.heads.double().mean(0).tolist(),
        "lens": dict(zip(lens.labels, lens.values.double().mean(0).tolist(), strict=True)),
        "accuracy": result.accuracy.value,
    }


def record() -> None:
    maze = dla.load_maze_model()
    generated = maze.prompts(task=TASK, n_mazes=N_PROMPTS, seed=SEED)
    texts = [" ".join(generated.text(i).tokens) for i in range(N_PROMPTS)]
    content = {"texts": texts, "sha256": maze.info["sha256"], **figures(maze.model, *prompts(maze, texts))}
    FILE.write_text(json.dumps(content, indent=1), encoding="utf-8")


if __name__ == "__main__":
    record()
