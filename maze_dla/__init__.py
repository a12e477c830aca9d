"""maze_dla: exact attribution, lenses and interventions for transformers that solve mazes.

The public names stand in `__init__.pyi`. They are fetched when first used, so that importing maze_dla loads neither
torch nor anything else heavy.
"""

import lazy_loader

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
