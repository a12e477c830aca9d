"""Methods for what components write directly: attribution, contrast, lenses and predictions, for any model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from maze_dla.adapters.transformer_lens.view import Forward
from maze_dla.analysis.running import BATCH, METRIC, PAIRS, running
from maze_dla.engine.direct import attribution, lens, prediction
from maze_dla.engine.direct import contrast as contrasts
from maze_dla.engine.direct import token_lens as token_lenses
from maze_dla.engine.metrics import LinearMetric
from maze_dla.engine.pairs import PromptPairs
from maze_dla.engine.prompts import PromptBatch
from maze_dla.errors import check_kind, check_whole
from maze_dla.results.attribution import AttributionResult
from maze_dla.results.contrast import ContrastResult
from maze_dla.results.lens import LensResult, Scale, TokenLensResult
from maze_dla.results.predictions import prediction_table

if TYPE_CHECKING:
    import pandas as pd


def attribute(
    model: Any,
    batch: PromptBatch,
    metric: LinearMetric,
    *,
    neurons: bool | Literal["mean"] = False,
    sources: bool | Literal["kinds"] = False,
    sequences_at_once: int | None = None,
    forward: Forward = "auto",
    engine: Forward | None = None,
) -> AttributionResult:
    """Split the metric of every prompt over layers, heads and, on request, neurons and source positions.

    One forward pass. All contributions are in logits, at the scale that the final norm recorded for that prompt.

    Args:
        model: a `MazeModel`, a model of TransformerLens, or the engine's view of one.
        batch: the prompts.
        metric: a linear functional of the logits, made for this batch.
        neurons: True for [prompt, layer, neuron]; "mean" for mean and variance over prompts alone, which holds no
            array with a prompt axis.
        sources: also split every head over the positions that it attends to; "kinds" keeps only the sums over the
            tokens of each kind that the batch names (a maze's adjacency list, origin, ...).
        sequences_at_once: how many sequences go through the model together; changes speed, not numbers. Default: as
            many as are fast on the model's device.
        forward: "auto" runs plain pre-norm decoders (the maze models, GPT-2) by a forward pass of maze_dla's own,
            which is compared with the model's own logits at the start of every run; "hooked" always runs the model
            itself. Both give the same numbers.
        engine: the earlier name of `forward`.

    Raises:
        InputError: batch or metric do not fit the model, an unknown value of `neurons`, `sources` or `forward`, or
            kinds asked of a batch that names none.
        ModelError: a model whose residual stream is not a plain sum.
        CompletenessError: parts do not add up, at 1e-4 of the largest part in float32, 1e-10 in float64 and 5e-2 in
            half precision, of whatever the model computes its logits in.
    """
    check_kind(batch, PromptBatch, BATCH)
    check_kind(metric, LinearMetric, METRIC)
    options = {"neurons": neurons, "sources": sources, "sequences_at_once": sequences_at_once}
    with running(model, forward, engine) as residual:
        return attribution.attribute(residual, batch, metric, **options)


def contrast(
    model: Any,
    pairs: PromptPairs,
    metric: LinearMetric | None = None,
    *,
    neurons: bool | Literal["mean"] = False,
    sources: bool | Literal["kinds"] = False,
    forward: Forward = "auto",
    sequences_at_once: int | None = None,
) -> ContrastResult:
    """Attribute the metric in both prompts of every pair, and say how much of each contribution depends on the change.

    With u, v the unscaled contributions of a part (activation times pulled-back direction) in the clean and the
    corrupted run and a, b the inverse final scales of the two, `dependent` is (u - v)/2 * (a + b)/2 and `shared` is
    (u + v)/2 * (a + b)/2; one component named `norm` takes sum(u + v)/2 * (a - b)/2 and sum(u - v)/2 * (a - b)/2, and
    the constant stands in shared alone. So the halves sum to half the difference and half the sum of the two metrics,
    and a part that writes the same in both runs has a dependent part of exactly 0. Shared is not independent of the
    change: a part that writes 2 in one prompt and 0 in the other is half shared.

    One forward pass over both prompts of every pair. All contributions are in logits. Sources are compared position by
    position.

    Args:
        model: as in `attribute`.
        pairs: of `maze.pairs` or `ioi_pairs`, or two batches of your own in `PromptPairs`.
        metric: read in both prompts. Default `logit_diff(pairs)`: the clean prompt's answer minus the corrupted
            prompt's, where several are right each weighing the same. Any other is made from `pairs.clean`; whether the
            tokens that it names mean anything in the corrupted prompts as well is yours to know. In the corrupted run
            the corrupted prompts' answers count as right, unless the metric has answers of its own.
        neurons: as in `attribute`, for both runs and both halves.
        sources: as in `attribute`, for both runs and both halves.
        forward: as in `attribute`.
        sequences_at_once: as in `attribute`, at least the two of a pair.

    Raises:
        InputError: pairs or metric do not fit the model or each other; pairs whose corrupted prompts have no right
            answer, with the reason; an unknown value of `neurons`, `sources` or `forward`.
        ModelError: a model whose residual stream is not a plain sum.
        CompletenessError: parts of a run, or of a half, do not add up.
    """
    check_kind(pairs, PromptPairs, PAIRS)
    if metric is not None:
        check_kind(metric, LinearMetric, METRIC)
    options = {"neurons": neurons, "sources": sources, "sequences_at_once": sequences_at_once}
    with running(model, forward) as residual:
        return contrasts.contrast(residual, pairs, metric, **options)


def logit_lens(
    model: Any,
    batch: PromptBatch,
    metric: LinearMetric,
    scale: Scale = "final",
    *,
    sequences_at_once: int | None = None,
    forward: Forward = "auto",
    engine: Forward | None = None,
) -> LensResult:
    """The metric read from the residual stream at every depth, in logits.

    Args:
        model: as in `attribute`.
        batch: the prompts.
        metric: made for this batch.
        scale: "final" reads every depth at the scale that the final norm recorded, so that the difference between
            two depths is what the layer between them contributes; "own" lets the final norm see each depth as if it
            were the last, as the original logit lens does. They can differ a lot in early layers.
        sequences_at_once: as in `attribute`.
        forward: as in `attribute`.
        engine: the earlier name of `forward`.

    Raises:
        InputError: batch or metric do not fit the model, or an unknown scale.
        ModelError: a model whose residual stream is not a plain sum.
        CompletenessError: the last depth is not the metric.
    """
    check_kind(batch, PromptBatch, BATCH)
    check_kind(metric, LinearMetric, METRIC)
    with running(model, forward, engine) as residual:
        return lens.logit_lens(residual, batch, metric, scale, sequences_at_once=sequences_at_once)


def token_lens(
    model: Any,
    batch: PromptBatch,
    k: int = 5,
    scale: Scale = "own",
    positions: token_lenses.Positions = "read",
    *,
    tokens: Any = None,
    sequences_at_once: int | None = None,
    forward: Forward = "auto",
    engine: Forward | None = None,
) -> TokenLensResult:
    """The k most likely tokens at every depth, with entropy and divergence, and rank and probability of the target.

    The divergence is KL(final || depth) in nats, as nostalgebraist's logit lens and the tuned lens have it: the sum
    over tokens of p_final log(p_final / p_depth). With positions="all" it is the token grid, depth by position. Logits
    are held for a few positions and one depth at a time, so that large vocabularies fill no memory.

    Args:
        model: as in `attribute`.
        batch: the prompts.
        k: how many tokens to keep at each depth.
        scale: "own" (the original logit lens) or "final", as in `logit_lens`.
        positions: "read" for the read position; "all" for every position of the prompt, the target then being the
            prompt's own next token. This adds a position axis in front of the depths, and needs a model that answers
            with the tokens that it reads.
        tokens: more tokens whose probability and rank are kept at every depth: the name of one of the batch's token
            sets ("cells", "neighbors"), a list of strings or ids, or one for each prompt (`batch.foils`, say).
        sequences_at_once: as in `attribute`.
        forward: as in `attribute`.
        engine: the earlier name of `forward`.

    Raises:
        InputError: the batch does not fit the model, k outside 1..vocabulary, unknown scale, positions or token set.
        PromptError: tokens that are not in the vocabulary, or one twice.
        ModelError: a model whose residual stream is not a plain sum.
        CompletenessError: the logits at the last depth are not the model's own.
    """
    check_kind(batch, PromptBatch, BATCH)
    check_whole("k", k, 1)
    with running(model, forward, engine) as residual:
        options = {"tokens": tokens, "sequences_at_once": sequences_at_once}
        return token_lenses.token_lens(residual, batch, k, scale, positions, **options)


def predict(
    model: Any, batch: PromptBatch, k: int = 5, *, sequences_at_once: int | None = None, forward: Forward = "auto"
) -> pd.DataFrame:
    """The `k` most likely next tokens of every prompt, with their probabilities: a table to look at first.

    One row for each prompt and rank. Columns: prompt; rank, 0 for the most likely; token; probability; is_answer,
    whether it is one of the prompt's right answers; and the prompts' own columns, such as a maze's distance.

    Args:
        model: as in `attribute`.
        batch: the prompts.
        k: how many tokens of each prompt.
        sequences_at_once: as in `attribute`.
        forward: as in `attribute`.

    Raises:
        InputError: the batch does not fit the model, or k outside 1..vocabulary.
        ModelError: a model whose residual stream is not a plain sum.
    """
    check_kind(batch, PromptBatch, BATCH)
    with running(model, forward) as residual:
        return prediction_table(**prediction.predict(residual, batch, k, sequences_at_once=sequences_at_once))
