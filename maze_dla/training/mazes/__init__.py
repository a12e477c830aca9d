"""The run that makes the bundled maze model: `maze-dla train --out DIR`."""
