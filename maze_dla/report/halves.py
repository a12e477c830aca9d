"""A report's section on pairs of prompts: what depends on the change, and what both prompts share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from maze_dla import plots
from maze_dla.analysis import contrast
from maze_dla.engine.pairs import PromptPairs
from maze_dla.report.pictures import IN_BRACKETS, Picture, save_picture
from maze_dla.results.base import format_mean
from maze_dla.results.contrast import ContrastResult

HALVES = ("dependent", "shared")
DIFFERENCE = "logit difference"  # the metric's name
OWN_SCALE = "Each half is drawn to a scale of its own."


def draw_halves(model: Any, pairs: PromptPairs, folder: Path) -> tuple[str, list[Picture]]:
    """A contrast in words, and its pictures: heads and layers of both halves, and one maze's cells."""
    both = contrast(model, pairs, sources=True)
    return _in_words(both, pairs), [*_over_all_pairs(both, folder), *_of_one_pair(both, pairs, folder)]


def _in_words(both: ContrastResult, pairs: PromptPairs) -> str:
    clean, corrupted, dependent, shared = (
        format_mean(one.metric_summary()) for one in (both.clean, both.corrupted, both.dependent, both.shared)
    )
    heads = [", ".join(map(str, half.top_heads(3))) for half in (both.dependent, both.shared)]
    left_out = f" ({n} mazes are left out: they have no such pair)" if (n := pairs.info.get("left_out")) else ""
    sizes = both.sizes_in_words()
    return (
        f"{len(pairs)} pairs of prompts that differ in one thing ({pairs.info.get('change', 'own pairs')}) and have as "
        f"many tokens{left_out}. The metric of both runs is {_metric(both)}: "
        f"{clean} logits in the clean run and {corrupted} in the corrupted one. "
        f"Half their difference, {dependent} logits, depends on what was changed: strongest heads {heads[0]}. "
        f"Half their sum, {shared} logits, is what both runs share: strongest heads {heads[1]}. "
        + (f"In a single pair, whatever the sign, the shared part is largest of {sizes} logits. " if sizes else "")
        + "The mean over pairs can be near zero all the same, since one pair's right step is another's wrong one. "
        "A part that writes the same in both runs does not depend on the change, however much it writes; one that "
        "writes in one run alone is half in each."
    )


def _metric(both: ContrastResult) -> str:
    """The metric's name; where it is that of the two answers, which ones."""
    name = str(both.clean.info.get("metric"))
    return f"{name}, the clean prompt's answer minus the corrupted prompt's" if name == DIFFERENCE else name


def _over_all_pairs(both: ContrastResult, folder: Path) -> list[Picture]:
    drawn = []
    for half in HALVES:
        result = getattr(both, half)
        for name, draw in (("layers", plots.layers), ("heads", plots.heads)):
            title = f"{name.capitalize()}: the {half} part"
            caption = f"Mean over pairs of the {half} part of each contribution, in logits. {OWN_SCALE}"
            caption += f" {IN_BRACKETS}" if name == "heads" else ""
            drawn.append(save_picture(draw(result), folder / f"{half}_{name}.png", title, caption))
    return drawn


def _of_one_pair(both: ContrastResult, pairs: PromptPairs, folder: Path) -> list[Picture]:
    """Pictures of the cells that all heads moved from, for the pair whose dependent part is nearest to the median."""
    metric: Tensor = both.dependent.metric
    number = int((metric - metric.median()).abs().argmin())
    if pairs.geometry(number) is None:
        return []
    captions = {
        "dependent": "What was moved from each cell and depends on the change.",
        "shared": "Half the sum of what was moved in the two runs: where both moved the same, all of it is here.",
    }
    why = f"Pair {number}, whose dependent part is nearest to the median of all."
    return [
        save_picture(
            plots.maze_sources(getattr(both, half), pairs, number),
            folder / f"{half}_maze.png",
            f"From which cells: the {half} part",
            f"{captions[half]} {why} {OWN_SCALE}",
        )
        for half in HALVES
    ]
