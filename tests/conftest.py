"""Installed before the library is imported: in tests every shape in a signature of the engine is checked."""

from jaxtyping import install_import_hook

install_import_hook(["maze_dla.engine", "maze_dla.results"], "beartype.beartype")
