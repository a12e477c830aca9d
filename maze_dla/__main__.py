"""`python -m maze_dla`."""

import sys

from maze_dla.cli import main

sys.exit(main())
