"""The public names, for type checkers and, by `lazy_loader`, at run time."""

from . import plots as plots
from .adapters.gpt2.load import load_gpt2 as load_gpt2
from .adapters.mazes.model import MazeModel as MazeModel
from .adapters.mazes.model import load_maze_model as load_maze_model
from .adapters.mazes.tasks import TASKS as TASKS
from .adapters.text.ioi import IOIPromptBatch as IOIPromptBatch
from .adapters.text.ioi import ioi_prompts as ioi_prompts
from .adapters.text.ioi_pairs import ioi_pairs as ioi_pairs
from .adapters.text.texts import text_prompts as text_prompts
from .analysis import attribute as attribute
from .analysis import contrast as contrast
from .analysis import logit_lens as logit_lens
from .analysis import predict as predict
from .analysis import token_lens as token_lens
from .engine.metrics import LinearMetric as LinearMetric
from .engine.metrics import correct_vs_other as correct_vs_other
from .engine.metrics import linear_metric as linear_metric
from .engine.metrics import logit as logit
from .engine.metrics import logit_diff as logit_diff
from .engine.pairs import PromptPairs as PromptPairs
from .engine.prompts import PromptBatch as PromptBatch
from .errors import CompletenessError as CompletenessError
from .errors import MazeDlaError as MazeDlaError
from .report.write import write_report as write_report
from .results.attribution import AttributionResult as AttributionResult
from .results.comparison import Comparison as Comparison
from .results.comparison import compare as compare
from .results.contrast import ContrastResult as ContrastResult
from .results.groups import GroupedResult as GroupedResult
from .results.lens import LensResult as LensResult
from .results.lens import TokenLensResult as TokenLensResult
from .results.loading import load_result as load_result
from .results.streamed import StreamedResult as StreamedResult
from .results.streaming import stream as stream

__version__: str
