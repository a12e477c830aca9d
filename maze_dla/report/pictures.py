"""The pictures of a report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtyping import Int
from torch import Tensor

from maze_dla import plots
from maze_dla.geometry import MazeGeometry
from maze_dla.report.close_up import CloseUp
from maze_dla.results.attribution import AttributionResult
from maze_dla.results.lens import LensResult

PICTURES = (  # of any report; those that a new one does not have are removed with the old one
    *("lens.png", "layers.png", "heads.png", "neurons.png", "source_kinds.png", "lens_along_path.png"),
    *("layers_along_path.png", "token_lens.png", "maze_all_heads.png", "maze_strongest_head.png", "token_sources.png"),
)


@dataclass(frozen=True)
class Picture:
    """A picture's file with its title and a sentence on how to read it."""

    file: Path
    title: str
    caption: str


def draw_pictures(
    result: AttributionResult, own: LensResult, close_up: CloseUp, steps: Int[Tensor, " prompt"] | None, folder: Path
) -> list[Picture]:
    """Draw all pictures of a report into a folder; those along the path where the step of each prompt is known."""
    along = [] if steps is None else _along_the_path(result, own, steps, folder)
    return [*_over_all_prompts(result, own, folder), *along, *_of_one_prompt(result, close_up, folder)]


def _over_all_prompts(result: AttributionResult, own: LensResult, folder: Path) -> list[Picture]:
    drawn = [
        _save(
            plots.lens(result.lens(), own, labels=("final norm's scale", "own scale")),
            folder / "lens.png",
            "From which depth on can the answer be read?",
            "The metric read from the residual stream at every depth, mean over prompts with its 95% interval: at the "
            "scale that the final norm recorded, and at each depth's own.",
        ),
        _save(
            plots.layers(result),
            folder / "layers.png",
            "Which layers write it?",
            "What embeddings, attention layers, MLPs and the constant contribute. The bars sum to the metric.",
        ),
        _save(
            plots.heads(result),
            folder / "heads.png",
            "Which heads write it?",
            "The mean contribution of every head; the strongest are named.",
        ),
    ]
    if result.neuron_mean is not None:
        caption = "The neurons with the largest mean contributions, with 95% intervals."
        drawn.append(_save(plots.neurons(result), folder / "neurons.png", "Which neurons write it?", caption))
    if result.sources_by_kind is not None and result.heads.numel():
        drawn.append(
            _save(
                plots.source_kinds(result),
                folder / "source_kinds.png",
                "From which tokens do heads move it?",
                "What heads moved to the prediction from each kind of token: the sum over heads that add, the sum over "
                "those that take away, and both together with the 95% interval over prompts.",
            )
        )
    return drawn


def _along_the_path(
    result: AttributionResult, own: LensResult, steps: Int[Tensor, " prompt"], folder: Path
) -> list[Picture]:
    return [
        _save(
            plots.lens_along_path(own, steps),
            folder / "lens_along_path.png",
            "From which depth on can each step be read?",
            "The metric read from the residual stream at every depth, mean over the prompts of each step of the path.",
        ),
        _save(
            plots.layers_along_path(result, steps),
            folder / "layers_along_path.png",
            "Which layers write each step?",
            "What each layer contributes, mean over the prompts of each step. Every column sums to the step's metric.",
        ),
    ]


def _of_one_prompt(result: AttributionResult, close_up: CloseUp, folder: Path) -> list[Picture]:
    drawn = [
        _save(
            plots.token_lens(close_up.tokens),
            folder / "token_lens.png",
            f"What the model would say at every depth, prompt {close_up.number}",
            f"The most likely next tokens at each depth (each depth's own scale); the next token is "
            f"{close_up.result.targets[0].strip()}. Darker cells are further from the final distribution.",
        )
    ]
    if close_up.maze is None:
        return [*drawn, _draw_tokens(close_up, folder)]
    drawn.append(_draw_maze(close_up, close_up.maze, None, folder / "maze_all_heads.png", "all heads together"))
    for part in result.top_heads(1):
        who = f"{part.name}, the strongest head on average over all prompts"
        place, file = (part.layer, part.number), folder / "maze_strongest_head.png"
        drawn.append(_draw_maze(close_up, close_up.maze, place, file, who))
    return drawn


def _draw_tokens(close_up: CloseUp, folder: Path) -> Picture:
    caption = (
        "What the strongest heads on this prompt, and all heads together, moved from each token to the prediction, "
        "in logits."
    )
    title = f"From which tokens, prompt {close_up.number}"
    return _save(plots.token_sources(close_up.result), folder / "token_sources.png", title, caption)


def _draw_maze(close_up: CloseUp, maze: MazeGeometry, head: tuple[int, int] | None, file: Path, who: str) -> Picture:
    axes = plots.maze_sources_and_attention(close_up.result, maze, head=head)
    caption = (
        "Left: what was moved to the prediction from the tokens that name each cell, in logits; the bars between cells "
        "show what came from the <--> and ; of their passage in the adjacency list. Right: the attention paid to the "
        "same tokens. Grey cells lie outside the maze."
    )
    return _save(axes[0], file, f"From which cells, by {who}, prompt {close_up.number}", caption)


def save_figure(axes: Any, file: Path) -> None:
    """Write the figure that some axes belong to, and close it."""
    from matplotlib import pyplot as plt

    try:
        axes.figure.savefig(file, dpi=110, bbox_inches="tight")
    finally:
        plt.close(axes.figure)


def _save(axes: Any, file: Path, title: str, caption: str) -> Picture:
    save_figure(axes, file)
    return Picture(file, title, caption)
