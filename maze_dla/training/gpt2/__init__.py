"""The run that makes the bundled IOI model: `maze-dla train ioi --out DIR`."""
