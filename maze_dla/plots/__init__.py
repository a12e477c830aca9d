"""Pictures of finished results: each function takes a result and an Axes and returns the Axes."""

from __future__ import annotations

from maze_dla.plots.along_path import layers_along_path, lens_along_path
from maze_dla.plots.head_grid import heads
from maze_dla.plots.layer_bars import layers
from maze_dla.plots.lens_curves import lens
from maze_dla.plots.maze_maps import maze_attention, maze_sources, maze_sources_and_attention
from maze_dla.plots.neuron_ranking import neurons
from maze_dla.plots.side_by_side import comparison
from maze_dla.plots.source_kinds import source_kinds
from maze_dla.plots.token_grid import token_lens
from maze_dla.plots.token_sources import token_sources

__all__ = [
    "comparison",
    "heads",
    "layers",
    "layers_along_path",
    "lens",
    "lens_along_path",
    "maze_attention",
    "maze_sources",
    "maze_sources_and_attention",
    "neurons",
    "source_kinds",
    "token_lens",
    "token_sources",
]
