"""Shapes are checked, and tests compute on one thread.

The import hook is installed before the library is imported, so that every shape in a signature of the engine is
checked. Tests have small tensors: more threads would wait for each other, very long where the cores are busy.
"""

import os
from collections.abc import Iterator
from importlib.metadata import entry_points

import pytest
from jaxtyping import install_import_hook

PLUGIN = "maze_dla.baselines.plugin"
AUTOLOAD = not os.environ.get("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
if not (AUTOLOAD and any(entry.value == PLUGIN for entry in entry_points(group="pytest11"))):
    pytest_plugins = [PLUGIN]  # an editable install from before the plugin does not know it

install_import_hook(["maze_dla.engine", "maze_dla.results", "maze_dla.geometry"], "beartype.beartype")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
