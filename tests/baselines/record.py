"""A baseline of the small model as one stack writes it: `python -m tests.baselines.record NAME`."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from maze_dla.baselines.record import record_baseline
from tests.adapters.mazes.small_files import small_checkpoint

if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        source = small_checkpoint().write(Path(folder) / "small.zanj")
        written = record_baseline(Path(folder) / f"{sys.argv[1]}.json", source, n_mazes=6)
        shutil.copy(written, Path(__file__).parent / "data")
