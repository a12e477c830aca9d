"""maze_dla: exact attribution, lenses and interventions for transformers that solve mazes.

The public names stand in `__init__.pyi`. They are fetched when first used, so that importing maze_dla loads neither
torch nor anything else heavy; even the stub is read only then.
"""

from functools import cache

__version__ = "0.1.0"


@cache
def _stub():
    """The stub as `lazy_loader` reads it: how to get a name, how to list them, and the list."""
    import lazy_loader

    return lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> object:
    get, _, names = _stub()
    return names if name == "__all__" else get(name)


def __dir__() -> list[str]:
    return _stub()[1]()
