"""Pictures of finished results: each function takes a result and an Axes and returns the Axes."""

from __future__ import annotations

from maze_dla.plots import _matplotlib  # noqa: F401 # isort: skip (before all that imports from matplotlib)

from maze_dla.plots.attention import attention_by_distance, attention_maze, attention_mazes
from maze_dla.plots.bars import layers, neurons, source_kinds
from maze_dla.plots.curves import lens
from maze_dla.plots.groups import heads_along_path, heads_by
from maze_dla.plots.head_scores import head_scores
from maze_dla.plots.heat_map import heads, layers_along_path, lens_along_path, token_sources
from maze_dla.plots.lens_maze import lens_maze
from maze_dla.plots.maze import maze_attention, maze_sources, maze_sources_and_attention
from maze_dla.plots.outliers import mlp_outliers, mlp_outliers_after_norm
from maze_dla.plots.patched import patching
from maze_dla.plots.patched_maze import patching_on_maze
from maze_dla.plots.scatter import direct_and_total, values_and_patterns
from maze_dla.plots.separability import principal_components, probe_accuracy
from maze_dla.plots.side_by_side import comparison
from maze_dla.plots.steered import steering
from maze_dla.plots.token_grid import token_grid
from maze_dla.plots.tokens import token_lens
from maze_dla.plots.tokens_over_depth import tokens_over_depth
from maze_dla.plots.walk import rollout

__all__ = [
    "attention_by_distance",
    "attention_maze",
    "attention_mazes",
    "comparison",
    "direct_and_total",
    "head_scores",
    "heads",
    "heads_along_path",
    "heads_by",
    "layers",
    "layers_along_path",
    "lens",
    "lens_along_path",
    "lens_maze",
    "maze_attention",
    "maze_sources",
    "maze_sources_and_attention",
    "mlp_outliers",
    "mlp_outliers_after_norm",
    "neurons",
    "patching",
    "patching_on_maze",
    "principal_components",
    "probe_accuracy",
    "rollout",
    "source_kinds",
    "steering",
    "token_grid",
    "token_lens",
    "token_sources",
    "tokens_over_depth",
    "values_and_patterns",
]
