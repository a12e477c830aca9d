"""How often 95% intervals hold the truth: draws of mazes from one large pool, whose means are the truth.

By hand, for the bundled model (minutes on one core):
    python tests/results/simulate_intervals.py intervals  # metric, layers, heads, accuracy: 2,000 draws of 50 and 100
    python tests/results/simulate_intervals.py compare    # every measure of `compare`: 200 draws of 100 mazes
The suite runs the same on simulated values, with fewer draws.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

import maze_dla as dla
from maze_dla.results.attribution import AttributionResult
from maze_dla.results.columns import chosen_rows, groups_of
from maze_dla.results.statistics import proportion, summarize

TASKS = {
    "first_path_choice": "neighbors",
    "origin_after_path_start, first_path_choice, path_end": "all",
    "every_path_step": "neighbors",
}


def pool(task: str, n_mazes: int = 8000, seed: int = 11) -> AttributionResult:
    """The bundled model on a task, against the set of tokens that suits it."""
    maze, others = dla.load_maze_model(), TASKS[task]
    batch = maze.prompts(task=task.split(", "), n_mazes=n_mazes, seed=seed)
    batch = batch.having(others) if others == "neighbors" else batch
    return dla.attribute(maze, batch, dla.correct_vs_other(batch, others), sources="kinds")


def draws(clusters: Tensor, n_mazes: int, n_draws: int, seed: int) -> Iterator[Tensor]:
    """The prompts of mazes drawn from a pool without replacement, draw by draw."""
    generator = torch.Generator().manual_seed(seed)
    rows = clusters.argsort(stable=True).split(clusters.bincount().tolist())
    for _ in range(n_draws):
        yield torch.cat([rows[i] for i in torch.randperm(len(rows), generator=generator)[:n_mazes].tolist()])


def coverage(
    values: Tensor, right: Tensor, clusters: Tensor, n_mazes: int, n_draws: int, seed: int = 0
) -> tuple[Tensor, float]:
    """In what share of draws the interval of each mean, [prompt, number], and that of the accuracy hold the pool's."""
    truth, accuracy = values.double().mean(0), float(right.double().mean())
    held, held_accuracy = torch.zeros_like(truth), 0
    for rows in draws(clusters, n_mazes, n_draws, seed):
        mine = groups_of(clusters[rows])
        summary = summarize(values[rows], mine)
        held += (summary.low <= truth) & (truth <= summary.high)
        low, high = proportion(right[rows], mine).interval
        held_accuracy += low <= accuracy <= high
    return held / n_draws, held_accuracy / n_draws


def chosen(result: AttributionResult, rows: Tensor) -> AttributionResult:
    """The result of some of the prompts."""
    arrays = {f.name: v[rows] for f in fields(result) if isinstance(v := getattr(result, f.name), Tensor)}
    texts = {name: tuple(getattr(result, name)[i] for i in rows.tolist()) for name in ("prompt_tokens", "targets")}
    return replace(result, **arrays, **texts, predicted=None, columns=chosen_rows(result.columns, rows))


def compared(result: AttributionResult, n_mazes: int, n_draws: int, seed: int = 0) -> dict[str, dict[str, float]]:
    """Of each measure of `compare`: truth, mean, bias over the interval's width, coverage, and how often it is told."""
    whole = dla.compare(result)
    seen = []
    for rows in draws(result.clusters, n_mazes, n_draws, seed):
        one = dla.compare(chosen(result, rows))
        seen.append(torch.stack([one.values[:, 0], one.low[:, 0], one.high[:, 0]], -1)[_order(one, whole)])
    table, found = torch.stack(seen), {}
    for i, name in enumerate(whole.measures):
        truth, told = float(whole.values[i, 0]), table[:, i][~table[:, i].isnan().any(1)]
        held = ((told[:, 1] <= truth) & (truth <= told[:, 2])).double()
        width = (told[:, 2] - told[:, 1]).median()
        numbers = (truth, told[:, 0].mean(), (told[:, 0].mean() - truth) / width, held.mean(), len(told) / n_draws)
        found[name] = dict(zip(("truth", "mean", "bias", "held", "told"), map(float, numbers), strict=True))
    return found


def _order(one: Any, whole: Any) -> list[int]:
    return [one.measures.index(name) if name in one.measures else 0 for name in whole.measures]


def main(what: str) -> None:
    """Print the table of all tasks."""
    for task in TASKS:
        result = pool(task)
        if what == "compare":
            for name, row in compared(result, 100, 200).items():
                print(f"{task:40} {name:45}", *(f"{key} {value:8.3f}" for key, value in row.items()), flush=True)
            continue
        assert result.correct is not None
        values = torch.cat([result.metric[:, None], result.layers, result.heads.flatten(1)], 1)
        n_layers = result.layers.shape[1]
        for n_mazes in (50, 100):
            held, accuracy = coverage(values, result.correct, result.clusters, n_mazes, 2000)
            parts = {"metric": held[:1], "layers": held[1 : 1 + n_layers], "heads": held[1 + n_layers :]}
            shown = "  ".join(f"{k} {float(v.min()):.3f} to {float(v.max()):.3f}" for k, v in parts.items())
            print(f"{task:55} {n_mazes:4} mazes  {shown}  accuracy {accuracy:.3f}", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1] if len(sys.argv) > 1 else "intervals")
