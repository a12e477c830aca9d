"""maze_dla: exact direct logit attribution and logit lens for transformers that solve mazes."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the same names as in _HOME, for type checkers
    from maze_dla import plots as plots
    from maze_dla.adapters.gpt2.load import load_gpt2 as load_gpt2
    from maze_dla.adapters.mazes.model import MazeModel as MazeModel
    from maze_dla.adapters.mazes.model import load_maze_model as load_maze_model
    from maze_dla.adapters.mazes.tasks import TASKS as TASKS
    from maze_dla.adapters.text.ioi import IOIPromptBatch as IOIPromptBatch
    from maze_dla.adapters.text.ioi import ioi_prompts as ioi_prompts
    from maze_dla.adapters.text.texts import text_prompts as text_prompts
    from maze_dla.analysis import attribute as attribute
    from maze_dla.analysis import logit_lens as logit_lens
    from maze_dla.analysis import predict as predict
    from maze_dla.analysis import token_lens as token_lens
    from maze_dla.engine.metrics import LinearMetric as LinearMetric
    from maze_dla.engine.metrics import correct_vs_other as correct_vs_other
    from maze_dla.engine.metrics import linear_metric as linear_metric
    from maze_dla.engine.metrics import logit as logit
    from maze_dla.engine.metrics import logit_diff as logit_diff
    from maze_dla.engine.prompts import PromptBatch as PromptBatch
    from maze_dla.errors import CompletenessError as CompletenessError
    from maze_dla.errors import MazeDlaError as MazeDlaError
    from maze_dla.report.write import write_report as write_report
    from maze_dla.results.attribution import AttributionResult as AttributionResult
    from maze_dla.results.comparison import Comparison as Comparison
    from maze_dla.results.comparison import compare as compare
    from maze_dla.results.groups import GroupedResult as GroupedResult
    from maze_dla.results.lens import LensResult as LensResult
    from maze_dla.results.lens import TokenLensResult as TokenLensResult
    from maze_dla.results.loading import load_result as load_result
    from maze_dla.results.streamed import StreamedResult as StreamedResult
    from maze_dla.results.streaming import stream as stream

__version__ = "0.1.0"

_HOME = {
    "TASKS": "adapters.mazes.tasks",
    "AttributionResult": "results.attribution",
    "Comparison": "results.comparison",
    "CompletenessError": "errors",
    "GroupedResult": "results.groups",
    "IOIPromptBatch": "adapters.text.ioi",
    "LensResult": "results.lens",
    "LinearMetric": "engine.metrics",
    "MazeDlaError": "errors",
    "MazeModel": "adapters.mazes.model",
    "PromptBatch": "engine.prompts",
    "StreamedResult": "results.streamed",
    "TokenLensResult": "results.lens",
    "attribute": "analysis",
    "compare": "results.comparison",
    "correct_vs_other": "engine.metrics",
    "ioi_prompts": "adapters.text.ioi",
    "linear_metric": "engine.metrics",
    "load_gpt2": "adapters.gpt2.load",
    "load_maze_model": "adapters.mazes.model",
    "load_result": "results.loading",
    "logit": "engine.metrics",
    "logit_diff": "engine.metrics",
    "logit_lens": "analysis",
    "plots": "",
    "predict": "analysis",
    "stream": "results.streaming",
    "text_prompts": "adapters.text.texts",
    "token_lens": "analysis",
    "write_report": "report.write",
}

if not TYPE_CHECKING:
    __all__ = [*_HOME]


def __getattr__(name: str) -> Any:
    """Names are fetched when first used, so that importing maze_dla loads neither torch nor anything else heavy."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = _HOME[name]
    value = getattr(import_module(f"{__name__}.{home}"), name) if home else import_module(f"{__name__}.{name}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
