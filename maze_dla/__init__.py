"""maze_dla: exact direct logit attribution and logit lens for transformers that solve mazes."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maze_dla import plots
    from maze_dla.adapters.gpt2.load import load_gpt2
    from maze_dla.adapters.mazes.model import MazeModel, load_maze_model
    from maze_dla.adapters.mazes.tasks import TASKS
    from maze_dla.adapters.text.ioi import IOIPromptBatch, ioi_prompts
    from maze_dla.adapters.text.texts import text_prompts
    from maze_dla.analysis import attribute, logit_lens, token_lens
    from maze_dla.engine.metrics import LinearMetric, correct_vs_other, linear_metric, logit, logit_diff
    from maze_dla.engine.prompts import PromptBatch
    from maze_dla.errors import CompletenessError, MazeDlaError
    from maze_dla.report import write_report
    from maze_dla.results.attribution import AttributionResult
    from maze_dla.results.comparison import Comparison, compare
    from maze_dla.results.lens import LensResult, TokenLensResult
    from maze_dla.results.loading import load_result
    from maze_dla.results.streamed import StreamedResult
    from maze_dla.streaming import stream

__version__ = "0.1.0"

_HOME = {
    "TASKS": "adapters.mazes.tasks",
    "AttributionResult": "results.attribution",
    "Comparison": "results.comparison",
    "CompletenessError": "errors",
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
    "stream": "streaming",
    "text_prompts": "adapters.text.texts",
    "token_lens": "analysis",
    "write_report": "report",
}

__all__ = [
    "TASKS",
    "AttributionResult",
    "Comparison",
    "CompletenessError",
    "IOIPromptBatch",
    "LensResult",
    "LinearMetric",
    "MazeDlaError",
    "MazeModel",
    "PromptBatch",
    "StreamedResult",
    "TokenLensResult",
    "attribute",
    "compare",
    "correct_vs_other",
    "ioi_prompts",
    "linear_metric",
    "load_gpt2",
    "load_maze_model",
    "load_result",
    "logit",
    "logit_diff",
    "logit_lens",
    "plots",
    "stream",
    "text_prompts",
    "token_lens",
    "write_report",
]


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
