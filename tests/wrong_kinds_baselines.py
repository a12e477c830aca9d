"""Calls of the functions of baselines for `wrong_kinds.py`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import maze_dla as dla


def of_baselines(folder: Path) -> dict[str, Callable[[Any], object]]:
    """The functions of baselines by their names and the argument that is wrong."""
    file, new = dla.record_baseline(folder / "b.json", n_mazes=2), folder / "new.json"
    asked = ("source", "task", "metric", "reduce", "n_mazes", "seed", "prepend_bos", "padding", "dataset")
    placed, run = ("dtype", "device"), ("source", "sequences_at_once", "forward", "task", "dataset")
    few_mazes: dict[str, Any] = {"n_mazes": 2}
    return {
        "record_baseline path": lambda w: dla.record_baseline(w, n_mazes=2),
        **{
            f"record_baseline {n}": lambda w, n=n: dla.record_baseline(new, **{**few_mazes, n: w})
            for n in (*asked, *placed)
        },
        "check_baseline path": dla.check_baseline,
        **{f"check_baseline {n}": lambda w, n=n: dla.check_baseline(file, **{n: w}) for n in (*run, *placed)},
    }
