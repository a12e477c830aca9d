"""The tests on every stack of versions: `nox`, or `nox -s classic -- tests/engine` for one of them or a part.

Each session has an environment of its own, with the version of torch that is installed beside nox (or named in TORCH).
"""

from __future__ import annotations

import os
from importlib.metadata import version

import nox

TORCH = os.environ.get("TORCH") or version("torch").split("+")[0]
NEW = ("maze-dataset==1.4.2", "muutils==0.8.12", "zanj==0.6.0")
CLASSIC = ("maze-dataset==0.5.6", "muutils==0.6.7", "zanj==0.3.1", "transformer-lens==2.18.0", "numpy==1.26.4")
# of tests/engine: they make no model, so its class cannot matter
NO_MODEL = ("memory_of_metrics", "metrics", "pairs", "shapes", "sharing", "wrong_fields")

nox.options.default_venv_backend = "venv"
nox.options.sessions = ["newest", "middle", "classic"]


def test(session: nox.Session, *pins: str) -> None:
    """Install the stack, torch first, and run pytest with whatever arguments are given."""
    session.install("--no-compile", f"torch=={TORCH}")  # most of it is never imported
    session.install("--no-compile", "-e", ".[test]", *pins)
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session
def newest(session: nox.Session) -> None:
    """TransformerLens 4, which has bridges alone."""
    test(session, *NEW, "transformer-lens==4.3.0")


@nox.session
def middle(session: nox.Session) -> None:
    """TransformerLens 3, with bridges; and its HookedTransformer through the engine, where a test has a model."""
    test(session, *NEW, "transformer-lens==3.9.0")
    without = [f"--ignore=tests/engine/test_{name}.py" for name in NO_MODEL]
    session.run("python", "-m", "pytest", "tests/engine", *without, env={"MAZE_DLA_TEST_CLASS": "HookedTransformer"})


@nox.session
def classic(session: nox.Session) -> None:
    """What maze-transformer pins: TransformerLens 2 and maze-dataset before 1.0."""
    test(session, *CLASSIC)
