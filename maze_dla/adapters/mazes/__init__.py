"""Mazes: checkpoints, data sets, vocabularies, tasks, and the checkpoint that comes with maze_dla."""
