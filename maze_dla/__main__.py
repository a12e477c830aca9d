"""`python -m maze_dla`."""

import sys

from maze_dla.cli import main

if __name__ == "__main__":
    sys.exit(main())
