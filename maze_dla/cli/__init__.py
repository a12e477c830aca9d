"""The command line; the only place that prints."""

from maze_dla.cli.main import main

__all__ = ["main"]
