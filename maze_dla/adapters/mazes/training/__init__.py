"""Training the checkpoint that comes with maze_dla: `maze-dla train --out DIR`."""
