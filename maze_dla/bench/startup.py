"""How long a fresh process needs to start."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from statistics import median

HERE = Path(__file__).parents[2]  # the folder that holds maze_dla
RUNS = 5
BARE, IMPORT, HELP = ("-c", "pass"), ("-c", "import maze_dla"), ("-m", "maze_dla", "--help")


def startup_seconds() -> tuple[float, float] | None:
    """Medians in seconds of `import maze_dla`, above what Python itself takes, and of `maze-dla --help`.

    The first run of each is left out: it may have to compile the files. None where no process can be started.
    """
    try:
        return _medians()
    except (OSError, subprocess.SubprocessError):
        return None


def _medians() -> tuple[float, float]:
    rounds = [[_fresh_process(arguments) for arguments in (BARE, IMPORT, HELP)] for _ in range(RUNS + 1)]
    bare, importing, helping = (median(seconds) for seconds in zip(*rounds[1:], strict=True))
    return importing - bare, helping


def _fresh_process(arguments: tuple[str, ...]) -> float:
    start = time.perf_counter()
    command, nowhere = [sys.executable, *arguments], subprocess.DEVNULL  # silent also when it is interrupted
    subprocess.run(command, cwd=HERE, stdout=nowhere, stderr=nowhere, check=True)
    return time.perf_counter() - start
