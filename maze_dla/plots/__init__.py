"""Pictures of finished results: each function takes a result and an Axes and returns the Axes."""

from __future__ import annotations

from maze_dla.plots.head_grid import heads
from maze_dla.plots.layer_bars import layers
from maze_dla.plots.lens_curves import lens
from maze_dla.plots.maze_maps import maze_attention, maze_sources, maze_sources_and_attention
from maze_dla.plots.neuron_ranking import neurons
from maze_dla.plots.token_grid import token_lens

__all__ = [
    "heads",
    "layers",
    "lens",
    "maze_attention",
    "maze_sources",
    "maze_sources_and_attention",
    "neurons",
    "token_lens",
]
