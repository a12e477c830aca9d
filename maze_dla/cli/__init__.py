"""The command line; the only place that prints."""

from maze_dla.cli.commands import main

__all__ = ["main"]
