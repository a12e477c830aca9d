"""Interventions, for what the answer hangs on: patching, ablation, circuits and steering, for any model.

Every edit is made by the engine's own forward pass where that runs the model, as one growing batch that computes only
what an edit can change, and through hooks of the model everywhere else. Both give the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor

from maze_dla.adapters.transformer_lens.view import Forward
from maze_dla.analysis.running import BATCH, METRIC, PAIRS, running
from maze_dla.engine.causal import ablation, circuits, patching, steering
from maze_dla.engine.metrics import LinearMetric
from maze_dla.engine.pairs import PromptPairs
from maze_dla.engine.prompts import PromptBatch
from maze_dla.errors import check_kind
from maze_dla.results.circuits import CircuitResult
from maze_dla.results.effects import EffectResult
from maze_dla.results.parts import Head, Neuron
from maze_dla.results.patching import PatchResult
from maze_dla.results.ranking import RankedPart
from maze_dla.results.steering import SteerResult


def patch(
    model: Any,
    pairs: PromptPairs,
    metric: LinearMetric | None = None,
    *,
    site: str = "resid_pre",
    direction: Literal["denoise", "noise"] = "denoise",
    positions: Literal["each", "all", "read"] | None = None,
    neurons: Sequence[Neuron] | None = None,
    estimate: Literal["exact", "gradient"] = "exact",
    seed: int = 0,
    sequences_at_once: int | None = None,
    forward: Forward = "auto",
) -> PatchResult:
    """Activation patching: put one run's activation into the other, site by site, and read the metric.

    Denoising puts clean activations into the corrupted run and finds what is enough to bring the answer back; noising
    puts corrupted ones into the clean run and finds what the answer needs. They are not the same: of two parts that
    each would do, noising either one changes nothing (Heimersheim and Nanda 2024, "How to use and interpret activation
    patching", section 3). Effects of several sites do not add up to that of all of them.

    Where both runs have the same activation the change is exactly zero, and nothing is run.

    Args:
        model: as in `attribute`.
        pairs: of `maze.pairs` or `ioi_pairs`, or two batches of your own in `PromptPairs`.
        metric: read in both runs. Default `logit_diff(pairs)`, the clean prompt's answer minus the corrupted prompt's;
            of pairs whose corrupted prompts have no answer, `logit_diff(pairs.clean)`.
        site: "resid_pre", "resid_mid", "attn_out" or "mlp_out", by layer and position; "z", "q", "k", "v" or "pattern",
            by layer and head; or "neurons".
        direction: "denoise" or "noise".
        positions: "each" for every position by itself, the default of the stream; "all" for all positions together, the
            default of heads and neurons; "read" for the read position alone. A position of a pattern is that of the
            query.
        neurons: which ones, as (layer, number), "L2N117" or entries of `top_neurons()`, where the site is "neurons".
        estimate: "gradient" estimates all sites at once, to first order, from one pass with its gradient (attribution
            patching, Syed et al. 2023, arXiv 2310.10348), and tells in `agreement` how well that agrees with the truth
            on a sample of sites. It can be far off, and for models run by the engine's own pass it is no faster.
        seed: of that sample.
        sequences_at_once: as in `attribute`, at least the two of a pair.
        forward: as in `attribute`.

    Returns:
        `values` [prompt, *site axes] in logits, `change` against the run that is edited, and `recovered`: 0 where the
        metric is that of the corrupted prompts, 1 that of the clean ones.

    Raises:
        InputError: pairs or metric do not fit the model or each other, an unknown site, direction, estimate or value of
            `positions`, or neurons that do not go with the site.
        ModelError: a site that the model does not have, or that cannot be edited.
        CompletenessError: the metric of the plain runs is not what the final residual gives.
    """
    check_kind(pairs, PromptPairs, PAIRS)
    if metric is not None:
        check_kind(metric, LinearMetric, METRIC)
    options = {"site": site, "direction": direction, "positions": positions, "neurons": neurons, "estimate": estimate}
    with running(model, forward) as residual:
        return patching.patch(residual, pairs, metric, **options, seed=seed, sequences_at_once=sequences_at_once)


def ablate(
    model: Any,
    batch: PromptBatch,
    metric: LinearMetric,
    *,
    parts: Literal["heads", "mlps", "layers", "sources", "source_positions"] | Sequence[str | Head] = "heads",
    heads: Sequence[Head] | None = None,
    value: Literal["zero", "mean", "resample", "renormalize"] = "mean",
    positions: Literal["read", "all"] = "read",
    reference: PromptBatch | None = None,
    seed: int = 0,
    answers: bool = False,
    sequences_at_once: int | None = None,
    forward: Forward = "auto",
) -> EffectResult:
    """Ablate each part by itself: what that does to the metric in all, directly, and through everything that follows.

    The total effect is the metric of the edited run minus that of the plain one. The direct effect is the change of the
    part's own contribution at the read position, at the plain run's final scale: what direct logit attribution sees.
    The indirect effect is the rest, and splits exactly over later heads, later MLPs and the final norm, a sum that is
    checked for every prompt and part. An edit at all positions also travels through earlier positions; its direct
    effect still counts the read position alone.

    Args:
        model: as in `attribute`.
        batch: the prompts.
        metric: made for this batch.
        parts: "heads"; "mlps"; "layers", the attention and the MLP of each; "sources", what each head takes from each
            kind of token that the batch names; "source_positions", from each position; or a list of names, such as
            ["L5H3", "2_mlp_out", "L2N117"].
        heads: of sources, those of these heads alone.
        value: what takes their place. "zero": nothing (of a head, b_O stays; of a layer it goes too). "mean": the
            mean over the reference's read positions; at all positions, over its tokens of the same kind. "resample":
            what another prompt of the reference has, about another maze; at all positions, a prompt as long. Of
            sources: "zero" takes attention away, "renormalize" gives it to the other positions.
        positions: "read", the read position alone, or "all" up to it.
        reference: the prompts that supply means and samples. Default: the batch, so that of a single prompt the mean is
            its own and nothing changes: give others there.
        seed: of resampling.
        answers: also find which answers are right without each part, and the cross-entropy.
        sequences_at_once: as in `attribute`.
        forward: as in `attribute`.

    Returns:
        `total`, `direct` and `indirect` [prompt, *part axes] in logits; `indirect_by`; `disagreements()`.

    Raises:
        InputError: batch, reference or metric do not fit the model, or an unknown part, value or position.
        ModelError: a part that cannot be edited.
        PromptError: resampling finds no donor for a prompt.
        CompletenessError: effects do not add up.
    """
    check_kind(batch, PromptBatch, BATCH)
    check_kind(metric, LinearMetric, METRIC)
    options: dict[str, Any] = {"parts": parts, "heads": heads, "value": value, "positions": positions, "seed": seed}
    options |= {"reference": _reference(reference), "answers": answers, "sequences_at_once": sequences_at_once}
    with running(model, forward) as residual:
        return ablation.ablate(residual, batch, metric, **options)


def keep_only(
    model: Any,
    batch: PromptBatch,
    metric: LinearMetric,
    parts: Sequence[str | Head],
    *,
    value: Literal["zero", "mean", "resample"] = "mean",
    positions: Literal["read", "all"] = "read",
    reference: PromptBatch | None = None,
    seed: int = 0,
    sequences_at_once: int | None = None,
    forward: Forward = "auto",
) -> CircuitResult:
    """Ablate all heads and MLPs but some, all at once: how much of the metric these keep (a circuit's faithfulness).

    Args:
        model: as in `attribute`.
        batch: the prompts.
        metric: made for this batch.
        parts: the heads and MLPs that are kept, such as ["L5H3", "2_mlp_out"].
        value: what takes the place of the others, as in `ablate`.
        positions: where: at the read position alone, so that earlier positions still do all that they do, or at all.
        reference: as in `ablate`.
        seed: of resampling.
        sequences_at_once: as in `attribute`.
        forward: as in `attribute`.

    Returns:
        `kept` and `ablated` [prompt] in logits, and `share`: 0 where all is ablated, 1 where none is.

    Raises:
        InputError: batch, reference or metric do not fit the model, an unknown value or position, or a part that is
            neither a head nor an MLP.
        PromptError: resampling finds no donor for a prompt.
        CompletenessError: the metric of the plain run is not what the final residual gives.
    """
    check_kind(batch, PromptBatch, BATCH)
    check_kind(metric, LinearMetric, METRIC)
    options: dict[str, Any] = {"value": value, "positions": positions, "seed": seed}
    options |= {"reference": _reference(reference), "sequences_at_once": sequences_at_once}
    with running(model, forward) as residual:
        return circuits.keep_only(residual, batch, metric, parts, **options)


def find_circuit(
    model: Any,
    batch: PromptBatch,
    metric: LinearMetric,
    *,
    share: float = 0.9,
    value: Literal["zero", "mean", "resample"] = "mean",
    reference: PromptBatch | None = None,
    seed: int = 0,
    sequences_at_once: int | None = None,
    forward: Forward = "auto",
) -> CircuitResult:
    """A set of heads and MLPs that keeps a share of the metric at the read position, found greedily.

    All are ablated at the read position; then the part is added that raises the mean metric most, again and again until
    the share is reached. Half of the mazes choose, by a hash of their tokens; the result is that of the other half. A
    greedy search finds a set, neither the smallest nor the only one.

    Args:
        model: as in `attribute`.
        batch: the prompts of both halves.
        metric: made for this batch.
        share: of the difference between the whole model and one with everything ablated, on the half that chooses.
        value: what takes the place of the others, as in `ablate`.
        reference: as in `ablate`.
        seed: of resampling.
        sequences_at_once: as in `attribute`.
        forward: as in `attribute`.

    Raises:
        InputError: as `keep_only`; a share outside 0..1; mazes that all fall into one half; or a metric that ablating
            all heads and MLPs does not lower.
        PromptError: as `keep_only`.
    """
    check_kind(batch, PromptBatch, BATCH)
    check_kind(metric, LinearMetric, METRIC)
    options: dict[str, Any] = {"share": share, "value": value, "seed": seed}
    options |= {"reference": _reference(reference), "sequences_at_once": sequences_at_once}
    with running(model, forward) as residual:
        return circuits.find_circuit(residual, batch, metric, **options)


def steer(
    model: Any,
    batch: PromptBatch,
    metric: LinearMetric,
    vector: Float[Tensor, " d_model"],
    *,
    layer: int,
    site: Literal["resid_pre", "resid_mid"] = "resid_pre",
    strengths: Sequence[float] = (0.0, 0.5, 1.0, 2.0),
    positions: Literal["read", "all"] | int = "read",
    controls: int = 5,
    seed: int = 0,
    sequences_at_once: int | None = None,
    forward: Forward = "auto",
) -> SteerResult:
    """Add a vector to the residual stream: metric, accuracy and answers by its strength, beside random directions.

    Turner et al. 2023 (arXiv 2308.10248, section 3).

    Args:
        model: as in `attribute`.
        batch: the prompts.
        metric: made for this batch.
        vector: as from `difference_of_means`, `component_mean` or `unembedding_direction`.
        layer: the layer whose stream it is added to.
        site: in front of that layer's attention, or of its MLP.
        strengths: how many times it is added, each by itself.
        positions: "read", "all", or how many positions in front of the read position.
        controls: how many random directions of the vector's length are added instead, for comparison.
        seed: of these directions.
        sequences_at_once: as in `attribute`.
        forward: as in `attribute`.

    Raises:
        InputError: batch or metric do not fit the model, a vector of another size or with numbers that are not finite,
            no strengths, an unknown site, layer or position, or prompts too short for it.
        ModelError: a site that cannot be edited.
        CompletenessError: the metric of the plain run is not what the final residual gives.
    """
    check_kind(batch, PromptBatch, BATCH)
    check_kind(metric, LinearMetric, METRIC)
    options: dict[str, Any] = {"layer": layer, "site": site, "strengths": strengths, "positions": positions}
    options |= {"controls": controls, "seed": seed, "sequences_at_once": sequences_at_once}
    with running(model, forward) as residual:
        return steering.steer(residual, batch, metric, vector, **options)


def difference_of_means(
    model: Any, one: PromptBatch, two: PromptBatch, *, layer: int, site: str = "resid_pre", forward: Forward = "auto"
) -> Float[Tensor, " d_model"]:
    """The mean activation at the read positions of one set of prompts minus that of another: a vector to `steer` by.

    The site is "resid_pre", "resid_mid", "attn_out" or "mlp_out".

    Raises:
        InputError: batches do not fit the model, or another site.
        ModelError: a site that the model does not have, or activations that are not finite.
    """
    for batch in (one, two):
        check_kind(batch, PromptBatch, BATCH)
    with running(model, forward) as residual:
        return steering.difference_of_means(residual, one, two, layer=layer, site=site)


def component_mean(
    model: Any, batch: PromptBatch, part: str | Head | RankedPart, *, forward: Forward = "auto"
) -> Float[Tensor, " d_model"]:
    """The mean of what a head ("L5H3"), an attention layer ("2_attn_out") or an MLP ("2_mlp_out") writes at the read
    positions: a vector to `steer` by. Of a head it is without b_O, which all heads of a layer share.

    Raises:
        InputError: the batch does not fit the model, a part that the model does not have, or a neuron.
        ModelError: activations that are not finite.
    """  # fmt: skip
    check_kind(batch, PromptBatch, BATCH)
    with running(model, forward) as residual:
        return steering.component_mean(residual, batch, part)


def unembedding_direction(
    model: Any, batch: PromptBatch, metric: LinearMetric, *, forward: Forward = "auto"
) -> Float[Tensor, " d_model"]:
    """The direction in the stream that raises the metric, mean over prompts, of length 1: a vector to `steer` by.

    Raises:
        InputError: batch or metric do not fit the model, or directions that cancel each other.
        ModelError: a direction that is not finite.
    """
    check_kind(batch, PromptBatch, BATCH)
    check_kind(metric, LinearMetric, METRIC)
    with running(model, forward) as residual:
        return steering.unembedding_direction(residual, batch, metric)


def _reference(reference: PromptBatch | None) -> PromptBatch | None:
    if reference is not None:
        check_kind(reference, PromptBatch, "reference is a PromptBatch, such as that of maze.prompts()")
    return reference
