"""Training the IOI model that comes with maze_dla: `maze-dla train ioi --out DIR`."""
