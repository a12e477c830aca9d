"""Training the checkpoint that comes with maze_dla: `python -m maze_dla.adapters.mazes.training`."""
