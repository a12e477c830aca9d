"""The methods of the engine for any model that an adapter can see.

`attribute`, `logit_lens` and `token_lens` take a `MazeModel`, a TransformerLens model or the engine's own view of one.
Arguments, results and errors are those of the engine's functions of the same names, and one argument more:
`engine="auto"` runs plain pre-norm decoders (the maze models, GPT-2) by a forward pass of the engine's own, which is
compared with the model's logits at the start of every run; `engine="hooked"` always runs the model itself. Both give
the same numbers. A model is run in eval mode, for one run at a time, and is left as it was found.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any, TypeVar

from maze_dla.adapters.mazes.model import MazeModel
from maze_dla.adapters.transformer_lens import TransformerLensModel, reader
from maze_dla.adapters.transformer_lens.exclusive import exclusive
from maze_dla.engine import attribution, lens
from maze_dla.engine import token_lens as tokens
from maze_dla.engine.metrics import LinearMetric
from maze_dla.engine.prompts import PromptBatch
from maze_dla.errors import check_kind, check_whole
from maze_dla.torch_defaults import torch_defaults

if TYPE_CHECKING:
    from maze_dla.adapters.transformer_lens.engines import Engine

Result = TypeVar("Result")
ENGINE = """Args:
        engine: "auto" runs plain pre-norm decoders by a forward pass of maze_dla's own, which is compared with the
            model's own logits at the start of every run; "hooked" always runs the model itself."""


def _of_any_model(method: Callable[..., Result]) -> Callable[..., Result]:
    """The engine's method, which takes the engine's view of a model, for the model itself."""

    @wraps(method)
    def of_any_model(model: Any, *arguments: Any, engine: Engine = "auto", **options: Any) -> Result:
        _check_kinds(shown.bind(model, *arguments, **options).arguments)
        model = model.model if isinstance(model, MazeModel) else model
        with torch_defaults(), exclusive(model.model if isinstance(model, TransformerLensModel) else model):
            return method(reader(model, engine), *arguments, **options)

    shown = signature(method)
    choice = Parameter("engine", Parameter.KEYWORD_ONLY, default="auto", annotation="Engine")
    setattr(of_any_model, "__signature__", shown.replace(parameters=[*shown.parameters.values(), choice]))  # noqa: B010
    of_any_model.__doc__ = (method.__doc__ or "").replace("Args:", ENGINE, 1)
    return of_any_model


def _check_kinds(given: dict[str, Any]) -> None:
    """Refuse what is no batch, no metric or no number, before anything is run.

    Raises:
        InputError: which says what the argument is.
    """
    kinds = {
        "batch": (PromptBatch, "batch is a PromptBatch, such as that of maze.prompts()"),
        "metric": (LinearMetric, "metric is a LinearMetric, such as correct_vs_other(batch)"),
    }
    for name in given.keys() & kinds.keys():
        check_kind(given[name], *kinds[name])
    if "k" in given:
        check_whole("k", given["k"], 1)


attribute = _of_any_model(attribution.attribute)
logit_lens = _of_any_model(lens.logit_lens)
token_lens = _of_any_model(tokens.token_lens)
