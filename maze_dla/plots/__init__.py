"""Pictures of finished results: each function takes a result and an Axes and returns the Axes."""

from __future__ import annotations

from maze_dla.plots.bars import layers, neurons, source_kinds
from maze_dla.plots.curves import lens
from maze_dla.plots.groups import heads_along_path, heads_by
from maze_dla.plots.heat_map import heads, layers_along_path, lens_along_path, token_sources
from maze_dla.plots.maze import maze_attention, maze_sources, maze_sources_and_attention
from maze_dla.plots.patched import patching
from maze_dla.plots.patched_maze import patching_on_maze
from maze_dla.plots.scatter import direct_and_total, values_and_patterns
from maze_dla.plots.separability import principal_components, probe_accuracy
from maze_dla.plots.side_by_side import comparison
from maze_dla.plots.steered import steering
from maze_dla.plots.tokens import token_lens

__all__ = [
    "comparison",
    "direct_and_total",
    "heads",
    "heads_along_path",
    "heads_by",
    "layers",
    "layers_along_path",
    "lens",
    "lens_along_path",
    "maze_attention",
    "maze_sources",
    "maze_sources_and_attention",
    "neurons",
    "patching",
    "patching_on_maze",
    "principal_components",
    "probe_accuracy",
    "source_kinds",
    "steering",
    "token_lens",
    "token_sources",
    "values_and_patterns",
]
