"""The pictures of a report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtyping import Int
from torch import Tensor

from maze_dla import plots
from maze_dla.geometry import MazeGeometry
from maze_dla.report.close_up import RULES, CloseUp
from maze_dla.report.facts import N_RANKED
from maze_dla.report.scales import Scales
from maze_dla.results.attribution import AttributionResult
from maze_dla.results.components import Component
from maze_dla.results.lens import LensResult

OF_ALL = ("lens", "layers", "heads", "neurons", "source_kinds", "lens_along_path", "layers_along_path")
OF_HALVES = tuple(f"{half}_{name}" for half in ("dependent", "shared") for name in ("layers", "heads", "maze"))
OF_CAUSES = tuple(f"patched_{name}" for name in ("positions", "kinds", "heads", "maze"))
OF_CAUSES += ("direct_and_total_heads", "direct_and_total_MLPs")
OF_ONE = ("token_lens", "token_sources", "maze_all_heads", "maze_strongest_here", "maze_strongest_on_average")
EARLIER = ("token_lens", "token_sources", "maze_all_heads", "maze_strongest_head")  # of reports with one close-up
# of any report; those that a new one does not have are removed with the old one
PICTURES = tuple(
    f"{name}.png"
    for name in (
        *OF_ALL,
        *OF_HALVES,
        *OF_CAUSES,
        *EARLIER,
        *(f"{rule}_{name}" for rule in RULES for name in OF_ONE),
    )
)
IN_BRACKETS = "A name in brackets is of a head whose interval includes zero."
HOW_TO_READ = (
    "Left: what was moved to the prediction from the tokens that name each cell, in logits; the bars between cells "
    "show what came from the <--> and ; of their passage in the adjacency list. Right: the attention paid to the same "
    "tokens. Grey cells lie outside the maze."
)


@dataclass(frozen=True)
class Picture:
    """A picture's file with its title and a sentence on how to read it."""

    file: Path
    title: str
    caption: str


def draw_pictures(
    result: AttributionResult, own: LensResult, steps: Int[Tensor, " prompt"] | None, scales: Scales, folder: Path
) -> list[Picture]:
    """Draw the pictures over all prompts; those along the path where the step of each prompt is known."""
    along = [] if steps is None else _along_the_path(result, own, steps, folder)
    return [*_over_all_prompts(result, own, scales, folder), *along]


def _over_all_prompts(result: AttributionResult, own: LensResult, scales: Scales, folder: Path) -> list[Picture]:
    drawn = [
        save_picture(
            scales.applied("lens", plots.lens(result.lens(), own, labels=("final norm's scale", "own scale"))),
            folder / "lens.png",
            "From which depth on can the answer be read?",
            "The metric read from the residual stream at every depth, mean over prompts with its 95% interval: at the "
            "scale that the final norm recorded, and at each depth's own.",
        ),
        save_picture(
            scales.applied("layers", plots.layers(result)),
            folder / "layers.png",
            "Which layers write it?",
            "What embeddings, attention layers, MLPs and the constant contribute. The bars sum to the metric.",
        ),
        save_picture(
            scales.applied("heads", plots.heads(result)),
            folder / "heads.png",
            "Which heads write it?",
            f"The mean contribution of every head; the strongest are named. {IN_BRACKETS}",
        ),
    ]
    if result.neuron_mean is not None:
        caption = (
            "The neurons most often among the strongest, each measured on prompts that did not choose it where "
            "there are enough, with 95% intervals."
        )
        drawn.append(
            save_picture(
                scales.applied("neurons", plots.neurons(result)),
                folder / "neurons.png",
                "Which neurons write it?",
                caption,
            )
        )
    if result.sources_by_kind is not None and result.heads.numel():
        drawn.append(
            save_picture(
                scales.applied("source_kinds", plots.source_kinds(result)),
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
        save_picture(
            plots.lens_along_path(own, steps),
            folder / "lens_along_path.png",
            "From which depth on can each step be read?",
            "The metric read from the residual stream at every depth, mean over the prompts of each step of the path.",
        ),
        save_picture(
            plots.layers_along_path(result, steps),
            folder / "layers_along_path.png",
            "Which layers write each step?",
            "What each layer contributes, mean over the prompts of each step. Every column sums to the step's metric.",
        ),
    ]


def draw_close_up(result: AttributionResult, close_up: CloseUp, folder: Path) -> list[Picture]:
    """Draw the pictures of one prompt."""
    prompt = f"prompt {close_up.number}"
    drawn = [
        save_picture(
            plots.token_lens(close_up.tokens),
            folder / f"{close_up.rule}_token_lens.png",
            f"What the model would say at every depth, {prompt}",
            f"The most likely next tokens at each depth (each depth's own scale); the next token is "
            f"{close_up.result.targets[0].strip()}. Darker cells are further from the final distribution.",
        )
    ]
    if close_up.maze is None:
        return [*drawn, _draw_tokens(close_up, folder)]
    drawn.append(_draw_maze(close_up, close_up.maze, None, "all_heads", "all heads together", folder))
    return [*drawn, *_of_strongest_heads(result, close_up, close_up.maze, folder)]


def _of_strongest_heads(
    result: AttributionResult, close_up: CloseUp, maze: MazeGeometry, folder: Path
) -> list[Picture]:
    """Pictures of the strongest head of this prompt, and of the strongest on average where that is another."""
    n_heads = result.heads.shape[2]
    ranked = close_up.result.heads[0].abs().flatten().argsort(descending=True, stable=True).tolist()
    drawn = []
    for part in result.top_heads(N_RANKED)[:1]:
        here = divmod(ranked[0], n_heads)
        rank = 1 + ranked.index(part.layer * n_heads + part.number)
        name = str(Component("head", *here))
        zero = " (its interval includes zero)" if part.may_be_zero else ""
        on_average = f"{part.name}, the strongest head on average{zero}, number {rank} of {len(ranked)} on this prompt"
        both = f"{name}, the strongest head on this prompt and on average"
        who = both if rank == 1 else f"{name}, the strongest head on this prompt"
        drawn.append(_draw_maze(close_up, maze, here, "strongest_here", who, folder))
        if rank > 1:
            place = (part.layer, part.number)
            drawn.append(_draw_maze(close_up, maze, place, "strongest_on_average", on_average, folder))
    return drawn


def _draw_tokens(close_up: CloseUp, folder: Path) -> Picture:
    caption = (
        "What the strongest heads on this prompt, and all heads together, moved from each token to the prediction, "
        "in logits."
    )
    title = f"From which tokens, prompt {close_up.number}"
    return save_picture(
        plots.token_sources(close_up.result), folder / f"{close_up.rule}_token_sources.png", title, caption
    )


def _draw_maze(
    close_up: CloseUp, maze: MazeGeometry, head: tuple[int, int] | None, name: str, who: str, folder: Path
) -> Picture:
    axes = plots.maze_sources_and_attention(close_up.result, maze, head=head)
    file = folder / f"{close_up.rule}_maze_{name}.png"
    return save_picture(
        axes[0], file, f"From which cells, by {who}, prompt {close_up.number}", HOW_TO_READ if head is None else ""
    )


def save_figure(axes: Any, file: Path) -> None:
    """Write the figure that some axes belong to, and close it."""
    from matplotlib import pyplot as plt

    try:
        axes.figure.savefig(file, dpi=110, bbox_inches="tight")
    finally:
        plt.close(axes.figure)


def save_picture(axes: Any, file: Path, title: str, caption: str) -> Picture:
    """Write the figure that some axes belong to, and close it."""
    save_figure(axes, file)
    return Picture(file, title, caption)
