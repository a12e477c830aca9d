"""The pictures of a report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maze_dla import plots
from maze_dla.results.attribution import AttributionResult
from maze_dla.results.geometry import MazeGeometry
from maze_dla.results.lens import LensResult, TokenLensResult


@dataclass(frozen=True)
class Picture:
    """A picture's file with its title and a sentence on how to read it."""

    file: Path
    title: str
    caption: str


@dataclass(frozen=True)
class Example:
    """One prompt looked at closely: its sources, its token lens, its maze."""

    result: AttributionResult
    tokens: TokenLensResult
    maze: MazeGeometry
    number: int


def draw_pictures(result: AttributionResult, own: LensResult, example: Example, folder: Path) -> list[Picture]:
    """Draw all pictures of a report into a folder."""
    strongest = result.top_heads(1)[0] if result.heads.numel() else None
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
    title = f"What the model would say at every depth, prompt {example.number}"
    caption = (
        f"The most likely next tokens at each depth (each depth's own scale); the next token is "
        f"{example.result.targets[0]}. Darker cells are further from the final distribution."
    )
    drawn.append(_save(plots.token_lens(example.tokens), folder / "token_lens.png", title, caption))
    drawn.append(_draw_maze(example, None, folder / "maze_all_heads.png", "all heads together"))
    if strongest is not None:
        place = (strongest.layer, strongest.number)
        drawn.append(
            _draw_maze(
                example,
                place,
                folder / "maze_strongest_head.png",
                f"{strongest.name}, the strongest head on average over all prompts",
            )
        )
    return drawn


def _draw_maze(example: Example, head: tuple[int, int] | None, file: Path, who: str) -> Picture:
    axes = plots.maze_sources_and_attention(example.result, example.maze, head=head)
    caption = (
        "Left: what was moved to the prediction from the tokens that name each cell, in logits; the bars between cells "
        "show what came from the <--> and ; of their passage in the adjacency list. Right: the attention paid to the "
        "same tokens. Grey cells lie outside the maze."
    )
    return _save(axes[0], file, f"From which cells, by {who}, prompt {example.number}", caption)


def _save(axes: Any, file: Path, title: str, caption: str) -> Picture:
    from matplotlib import pyplot as plt

    axes.figure.savefig(file, dpi=110, bbox_inches="tight")
    plt.close(axes.figure)
    return Picture(file, title, caption)
