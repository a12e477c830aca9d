"""The models, prompts and results that `wrong_kinds.py` tries its functions on, and the arguments of wrong kinds."""

from __future__ import annotations

import warnings

import torch

import maze_dla as dla

warnings.simplefilter("ignore")
torch.set_num_threads(1)
maze, gpt2 = dla.load_maze_model(), dla.load_gpt2("bundled")
batch = maze.prompts(n_mazes=3)
few = dla.text_prompts(gpt2, ["When Mary"], [" Mary"])
metric = dla.logit(batch)
result = dla.attribute(maze.model, batch, metric, neurons="mean", sources=True)
pairs = maze.pairs(n_mazes=3)
by_kind = dla.attribute(maze.model, batch, metric, sources="kinds")
lens, tokens = result.lens(), dla.token_lens(maze.model, batch, tokens="cells")
grid = dla.token_lens(maze.model, batch, k=2, positions="all", tokens="cells")
stream = dla.stream(lambda part: dla.attribute(maze.model, part, dla.logit(part)), [batch])
lens_stream = dla.stream(lambda part: dla.logit_lens(maze.model, part, dla.logit(part)), [batch])
WRONG = {
    "None": None,
    "3": 3,
    "-1": -1,
    "x": "x",
    "[]": [],
    "result": result,
    "lens": lens,
    "tokens": tokens,
    "stream": stream,
    "lens stream": lens_stream,
    "model": maze,
    "batch": batch,
    "metric": metric,
    "pairs": pairs,
    "object": object(),
}
