"""matplotlib, also where what it is set up with is nonsense."""

from __future__ import annotations

import os
import sys
import warnings

from maze_dla.errors import InputError


def load_matplotlib() -> None:
    """Import matplotlib; where MPLBACKEND names no backend, with a warning and as if it were not set.

    Pictures that go to files need no backend. matplotlib itself cannot be imported then.

    Raises:
        InputError: it cannot be imported for another reason: a damaged `matplotlibrc`, no folder to write in.
    """
    backend = os.environ.get("MPLBACKEND")
    try:
        _import()
    except (ValueError, OSError) as problem:
        if not backend or "backend" not in str(problem):
            raise _unusable(problem) from problem
        _import_without_backend(backend)
        warnings.warn(f"MPLBACKEND is {backend!r}, which matplotlib does not have: it is not used", stacklevel=2)


def _import_without_backend(backend: str) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        del sys.modules[name]  # parts of what could not be imported as a whole
    del os.environ["MPLBACKEND"]
    try:
        _import()
    except (ValueError, OSError) as problem:
        raise _unusable(problem) from problem
    finally:
        os.environ["MPLBACKEND"] = backend


def _import() -> None:
    import matplotlib  # noqa: F401


def _unusable(problem: Exception) -> InputError:
    return InputError(
        f"matplotlib cannot be imported ({type(problem).__name__}: {problem}): "
        "see the file matplotlibrc and the variables MPLBACKEND, MATPLOTLIBRC and MPLCONFIGDIR"
    )


load_matplotlib()
