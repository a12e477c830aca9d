"""Every plot function's use of figures."""

from __future__ import annotations

import ast
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from maze_dla import plots
from tests.plots.test_walk import SOLUTION, walk
from tests.results.attention_results import make_attention, make_distances
from tests.results.causal_results import make_effects, make_patch, make_steered
from tests.results.outlier_results import make_outliers
from tests.results.separability_results import make_separability


def with_kinds(result):
    by_kind = torch.stack([result.heads, 0 * result.heads], -1)
    return replace(result, kinds=("words", "rest"), sources_by_kind=by_kind)


def both_of_heads():
    return [make_patch(("layer", "head"), site=site) for site in ("v", "pattern")]


def of_this(maze):
    made = make_attention((len(maze.tokens),) * 2, n_heads=2)
    return replace(made, prompt_tokens=(maze.tokens,) * 2)


@pytest.fixture
def every(attribution, depths, tokens, maze):
    result = attribution()
    steps = [i % 12 for i in range(30)]
    walked = replace(attribution(n=30), columns={"step": torch.tensor(steps)})
    return {
        "lens": lambda ax: plots.lens(depths(), ax=ax),
        "layers": lambda ax: plots.layers(result, ax=ax),
        "lens_along_path": lambda ax: plots.lens_along_path(depths(), steps, ax=ax),
        "layers_along_path": lambda ax: plots.layers_along_path(attribution(n=30), steps, ax=ax),
        "heads": lambda ax: plots.heads(result, ax=ax),
        "heads_by": lambda ax: plots.heads_by(result, range(len(result)), ax=ax),
        "heads_along_path": lambda ax: plots.heads_along_path(walked, ax=ax),
        "neurons": lambda ax: plots.neurons(result, ax=ax),
        "token_lens": lambda ax: plots.token_lens(tokens(), ax=ax),
        "token_grid": lambda ax: plots.token_grid(tokens(all_positions=True), ax=ax),
        "tokens_over_depth": lambda ax: plots.tokens_over_depth(tokens(), ax=ax),
        "maze_sources": lambda ax: plots.maze_sources(result, maze, ax=ax),
        "maze_attention": lambda ax: plots.maze_attention(result, maze, ax=ax),
        "token_sources": lambda ax: plots.token_sources(result, ax=ax),
        "source_kinds": lambda ax: plots.source_kinds(with_kinds(result), ax=ax),
        "patching": lambda ax: plots.patching(make_patch(), ax),
        "values_and_patterns": lambda ax: plots.values_and_patterns(*both_of_heads(), ax=ax),
        "direct_and_total": lambda ax: plots.direct_and_total(make_effects(), ax),
        "steering": lambda ax: plots.steering(make_steered(), ax),
        "mlp_outliers": lambda ax: plots.mlp_outliers(make_outliers(), ax),
        "mlp_outliers_after_norm": lambda ax: plots.mlp_outliers_after_norm(make_outliers(), ax),
        "attention_maze": lambda ax: plots.attention_maze(of_this(maze), maze, ax=ax),
        "attention_by_distance": lambda ax: plots.attention_by_distance(make_distances(), ax=ax),
        "rollout": lambda ax: plots.rollout(walk(SOLUTION, {}), ax=ax),
        "probe_accuracy": lambda ax: plots.probe_accuracy(make_separability(), ax),
    }


def test_all_are_tried(every):
    several = {"maze_sources_and_attention", "comparison", "patching_on_maze"}  # of axes, in a figure of their own
    several |= {"attention_mazes", "head_scores", "lens_maze", "principal_components"}
    assert {*every, *several} == set(plots.__all__)


def test_a_call_with_axes_draws_there_and_opens_no_figure(every):
    from matplotlib import pyplot as plt

    for name, draw in every.items():
        _, ax = plt.subplots()
        before = plt.get_fignums()
        assert draw(ax) is ax, name
        assert plt.get_fignums() == before, name
        assert ax.has_data(), name
        plt.close("all")


def test_a_call_without_axes_opens_one_figure_that_can_be_drawn(every):
    from matplotlib import pyplot as plt

    for name, draw in every.items():
        ax = draw(None)
        assert plt.get_fignums() == [ax.figure.number], name
        ax.figure.canvas.draw()
        plt.close("all")


def test_axes_in_a_subfigure(every):
    from matplotlib.figure import Figure

    for name, draw in every.items():
        ax = Figure(layout="constrained").subfigures(1, 2)[0].subplots()
        assert draw(ax) is ax, name


def test_nothing_is_written_outside_its_axes_figure(every):
    """Titles, tick labels and legends end up on the paper."""
    from matplotlib import pyplot as plt

    for name, draw in every.items():
        figure = draw(None).figure
        figure.canvas.draw()
        paper, drawn = figure.bbox, figure.get_tightbbox().transformed(figure.dpi_scale_trans)
        assert drawn.x0 >= paper.x0 - 1, name
        assert drawn.y0 >= paper.y0 - 1, name
        assert drawn.x1 <= paper.x1 + 1, name
        assert drawn.y1 <= paper.y1 + 1, name
        plt.close("all")


OWN = ("maze_dla.plots", "maze_dla.results", "maze_dla.geometry", "maze_dla.errors")
ALLOWED = ("matplotlib", "numpy", "torch", "jaxtyping", *OWN)


def strangers(source: str) -> list[str]:
    """The imports that no plot may have: the engine, the adapters, and pyplot at the top of a module."""
    tree = ast.parse(source)
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        outside = [n for n in names if n.split(".")[0] not in sys.stdlib_module_names and not n.startswith(ALLOWED)]
        found += outside + [n for n in names if n == "matplotlib.pyplot" and node in tree.body]
    return found


def test_plots_import_neither_engine_nor_adapters_nor_pyplot_at_the_top():
    for path in Path(plots.__file__).parent.glob("*.py"):
        assert strangers(path.read_text(encoding="utf-8")) == [], path.name


@pytest.mark.parametrize(
    "line",
    [
        "import maze_dla.engine.direct.lens",
        "from maze_dla.adapters import mazes",
        "from matplotlib import pyplot as plt",
    ],
)
def test_a_stranger_is_found(line):
    assert len(strangers(line)) == 1
