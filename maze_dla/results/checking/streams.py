"""Checks of a saved stream: sums of parts are sums of their means."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from maze_dla.results.attribution import AttributionResult, ContributionResult
from maze_dla.results.buckets import N_BUCKETS
from maze_dla.results.checking.shapes import check_depths, check_finite, check_names, check_shapes
from maze_dla.results.checking.sums import EXACT, Slack, check_attribution
from maze_dla.results.checking.tokens import distributions, rounding_of_log_probs
from maze_dla.results.lens import LensResult
from maze_dla.results.skill import OF_BASELINES, PLAIN_NUMBERS
from maze_dla.results.streamed import StreamedResult
from maze_dla.results.tolerances import tolerance_of

CONTRIBUTIONS = {c.__name__: c for c in (AttributionResult, ContributionResult)}
OF_A_LAYER = ("layers", "heads", "attn_bias", "mlp_bias", "constant", "final_scale")
TOKENS = ("target_rank", "entropy", "kl")
TARGET = "target_prob"  # streams of version 0.1 have none
NUMBERS: dict[str, tuple[set[str], set[str]]] = {  # that are always there, and that may be
    "AttributionResult": ({"metric", "lens", *OF_A_LAYER}, {"neurons", "sources_by_kind", "moved_by_kind"}),
    "ContributionResult": ({"metric", "lens", *OF_A_LAYER[:-1]}, {"neurons", "sources_by_kind", "moved_by_kind"}),
    "LensResult": ({"metric", "values"}, set()),
    "TokenLensResult": ({"metric"}, {*TOKENS, TARGET}),
}
NAMED = ("layers", "lens", "values", "sources_by_kind", "moved_by_kind", *TOKENS, TARGET, *OF_BASELINES)
JUDGED = ("correct", "preferred")
SUMMED = 1e-9  # of sums in double precision
BATCHES = 10  # times the rounding of the first batch, which is what a stream keeps, may be that of another one


def check_streamed(result: StreamedResult) -> None:
    """Refuse counts, means and variances that those of no prompts are.

    Raises:
        ValueError: naming the field.
    """
    _check_counts(result)
    always, may = NUMBERS[result.of]
    if missing := always - result.means.keys():
        raise ValueError(f"means: none of {', '.join(sorted(missing))}")
    if unknown := result.means.keys() - always - may - set(PLAIN_NUMBERS):
        raise ValueError(f"means: unknown {', '.join(sorted(unknown))}")
    for name, mean in result.means.items():
        _check_moments(result, name, mean)
    for name in result.axis_labels.keys() | (result.means.keys() & set(NAMED)):
        _check_axis(result, name)
    _check_plain(result)
    {"LensResult": _check_lens, "TokenLensResult": _check_tokens}.get(result.of, _check_parts)(result)
    _check_clusters(result)


def _check_counts(result: StreamedResult) -> None:
    counts = [c for c in (result.n_correct, result.n_preferred) if c is not None]
    if result.n < 1 or any(not 0 <= c <= result.n for c in counts):
        raise ValueError(f"n_correct: {result.n_correct} (preferred: {result.n_preferred}) of {result.n} prompts")
    if result.of not in NUMBERS:
        raise ValueError(f"of: {result.of!r:.80}, expected one of {', '.join(NUMBERS)}")
    attribution = result.of in CONTRIBUTIONS
    if attribution and result.scale is not None:
        raise ValueError(f"scale: {result.scale!r} of an attribution")
    gap = result.largest_gap
    if type(gap) not in (int, float) or not 0 <= gap < math.inf or (gap > 0 and not attribution):
        raise ValueError(f"largest_gap: {gap!r:.80} of {result.of}")


def _check_moments(result: StreamedResult, name: str, mean: Tensor) -> None:
    if (variance := result.variances.get(name)) is None or variance.shape != mean.shape:
        raise ValueError(f"variances: {name} has none of shape {tuple(mean.shape)}")
    if not (mean.is_floating_point() and variance.is_floating_point()):
        raise ValueError(f"means: {name} of {mean.dtype}, with variances of {variance.dtype}")
    check_finite(f"means of {name}", mean)
    known = variance if result.n > 1 else variance[~variance.isnan()]
    check_finite(f"variances of {name}", known)
    if (known < 0).any():
        raise ValueError(f"variances: {name} has negative ones")


def _check_clusters(result: StreamedResult) -> None:
    """Errors and sums by bucket are those of the means: none of them in files of version 0.1."""
    if result.n_clusters is None:
        if result.errors or result.bucket_sums or result.n_units is not None or result.bucket_counts is not None:
            raise ValueError("n_clusters: not known, though errors are")
        return
    counts = result.bucket_counts
    for name, value in (("n_clusters", result.n_clusters), ("n_units", result.n_units)):
        if value is None or not 1 <= value <= result.n:
            raise ValueError(f"{name}: {value!r:.80} of {result.n} prompts")
    if counts is None or counts.shape != (N_BUCKETS,) or (counts < 0).any() or int(counts.sum()) != result.n:
        raise ValueError(f"bucket_counts: expected {N_BUCKETS} that sum to {result.n}")
    if missing := result.means.keys() - result.errors.keys():
        raise ValueError(f"errors: none of {', '.join(sorted(missing))}")
    for name, error in result.errors.items():
        _check_error(result, name, error)
    for name, sums in result.bucket_sums.items():
        _check_sums(result, name, sums)


def _check_error(result: StreamedResult, name: str, error: Tensor) -> None:
    """An error belongs to a mean of its shape, or to what was right; it is NaN where there is one cluster."""
    shape = () if name in JUDGED else result.means[name].shape if name in result.means else None
    if shape != tuple(error.shape) or not error.is_floating_point() or (error < 0).any() or error.isinf().any():
        raise ValueError(f"errors: {name} of shape {tuple(error.shape)}, negative or infinite")


def _check_sums(result: StreamedResult, name: str, sums: Tensor) -> None:
    """Sums by bucket sum to the means; those of what was right to its number."""
    of_judged = {"correct": result.n_correct, "preferred": result.n_preferred}
    whole = of_judged.get(name) if name in JUDGED else result.means.get(name)
    if whole is None:
        raise ValueError(f"bucket_sums: {name}, which has no mean")
    whole = torch.as_tensor(whole, dtype=torch.float64) * (1 if name in JUDGED else result.n)
    if sums.shape != (N_BUCKETS, *whole.shape) or not sums.isfinite().all():
        raise ValueError(f"bucket_sums: {name} of shape {tuple(sums.shape)}, or not finite")
    if ((sums.sum(0) - whole).abs() > SUMMED * (sums.abs().sum(0) + whole.abs())).any():
        raise ValueError(f"bucket_sums: {name} do not sum to the mean")


def _check_axis(result: StreamedResult, name: str) -> None:
    labels, mean = result.axis_labels.get(name, ()), result.means.get(name)
    check_names(f"axis_labels of {name}", labels)
    if name not in NAMED or mean is None or mean.ndim < 1 or len(labels) != mean.shape[-1]:
        raise ValueError(
            f"axis_labels: {len(labels)} of {name} for shape {None if mean is None else tuple(mean.shape)}"
        )
    if name in ("lens", "values", *TOKENS, TARGET):
        check_depths(f"axis_labels of {name}", labels)


def _check_plain(result: StreamedResult) -> None:
    """Probabilities, all of them or none, and the accuracy that they make."""
    if not (held := [result.means[name] for name in PLAIN_NUMBERS if name in result.means]):
        return
    if len(held) < len(PLAIN_NUMBERS) or any(x.shape != held[0].shape for x in held[:-1]) or held[-1].ndim:
        raise ValueError(f"means: not all of {', '.join(PLAIN_NUMBERS)}, or of other shapes than each other")
    if len({result.axis_labels[name] for name in OF_BASELINES}) > 1:
        raise ValueError(f"axis_labels: other names of {', '.join(OF_BASELINES)} than of each other")
    compared, plain, above, plain_compared, above_compared, single = held
    share = result.accuracy.value if result.accuracy is not None else 0.0
    wrong = {
        "compared": (compared < -EXACT) | (compared + single > 1 + EXACT),
        "plain": (plain < -EXACT) | (plain > compared + EXACT),
        "above_plain": (plain + above < -EXACT) | (plain + above > compared.clamp(max=share) + EXACT),
        "plain_compared": (plain_compared - plain - compared).abs() > EXACT,
        "above_compared": (above_compared - above - compared).abs() > EXACT,
        "single_candidate": single < -EXACT,
    }
    for name, found in wrong.items():
        if found.any():
            raise ValueError(f"means of {name}: not those of any answers to {result.n} prompts")


def _slack(result: StreamedResult, *names: str) -> Slack:
    """How far means may be off: as far as the mean of the largest parts says, which the root of the sum of their mean
    squares is never below.
    """  # fmt: skip
    squares = [result.means[n].double().square() + result.variances[n].double().nan_to_num(0.0) for n in names]
    size = torch.stack([each.sum() for each in squares]).sum().sqrt()[None]
    single = result.largest_gap <= tolerance_of(torch.float32) * float(size) * result.n**0.5
    slack = Slack.of(result.info, torch.float32 if single else torch.float16, size)
    return replace(slack, rounding=BATCHES * slack.rounding)


def _check_parts(result: StreamedResult) -> None:
    """The means are those of an attribution of a single prompt, as all of its sums are linear."""
    means, labels, slack = result.means, result.axis_labels, _slack(result, "layers", "constant", "metric")
    one = {name: mean[None] for name, mean in means.items()}
    gap = one["metric"] - one["layers"].sum(1) - one["constant"]
    numbers = {name: one[name] for name in (*OF_A_LAYER, "neurons", "sources_by_kind") if name in one}
    shared = {"correct": None, "prompt_tokens": ((),), "targets": ("",), "info": {}}
    names = {"layer_labels": labels["layers"], "kinds": labels.get("sources_by_kind", ())}
    whole = CONTRIBUTIONS[result.of](metric=one["metric"], gap=gap, **shared, **names, **numbers)  # pyright: ignore
    check_shapes(whole)
    check_attribution(whole, slack)
    largest = 2 * slack.tolerance * float(slack.size) * result.n**0.5 + slack.rounding
    if not float(gap.abs()) <= result.largest_gap + EXACT * float(slack.size) or result.largest_gap > largest:
        raise ValueError(f"largest_gap: {result.largest_gap:.3g} where the means' is {float(gap):.3g}")
    lens = whole.lens()
    read = dict(zip(lens.labels, lens.values[0], strict=True))
    if unknown := set(labels["lens"]) - read.keys():
        raise ValueError(f"axis_labels: no layers for the depths {', '.join(sorted(unknown))}")
    running = torch.stack([read[depth] for depth in labels["lens"]])
    slack.check("lens: the depths are sums of layers", one["lens"], running[None], slack.rounding)
    if "moved_by_kind" in means:
        if labels["moved_by_kind"] != labels.get("sources_by_kind"):
            raise ValueError("axis_labels: other kinds of moved_by_kind than of sources_by_kind")
        together = one["sources_by_kind"].sum((1, 2))
        slack.check("moved_by_kind is the sum of sources_by_kind", one["moved_by_kind"], together)


def _check_lens(result: StreamedResult) -> None:
    means = {name: result.means[name][None] for name in ("metric", "values")}
    shared = {"correct": None, "prompt_tokens": ((),), "targets": ("",), "info": {}}
    labels, slack = result.axis_labels["values"], _slack(result, "values", "metric")
    check_shapes(LensResult(**means, **shared, labels=labels, scale=result.scale or "final"))  # pyright: ignore
    last = means["values"][:, -1]
    slack.check("values: the last depth is the metric", means["metric"], last, slack.rounding)


def _check_tokens(result: StreamedResult) -> None:
    slack, read = _slack(result, "metric"), result.means.keys() & set(TOKENS)
    if result.means["metric"].ndim or read not in (set(), set(TOKENS)):
        raise ValueError(f"means: of shape {tuple(result.means['metric'].shape)}, with {', '.join(read)}")
    if not read:
        return
    rank, entropy, kl = (result.means[name] for name in TOKENS)
    if rank.ndim != 1 or len({result.axis_labels[name] for name in TOKENS}) > 1:
        raise ValueError(f"means: target_rank of shape {tuple(rank.shape)}, or other depths of entropy or kl")
    off = float(rounding_of_log_probs(slack))
    prob = result.means.get(TARGET, torch.zeros(()))
    if prob.ndim > 1 or result.axis_labels.get(TARGET, result.axis_labels["kl"]) != result.axis_labels["kl"]:
        raise ValueError(f"means: {TARGET} of shape {tuple(prob.shape)}, or of other depths than kl")
    wrong = {
        "target_rank: negative": rank < 0,
        f"{TARGET}: no probability": (prob < 0) | (prob > 1 + off),
        **distributions(entropy, kl, off),
    }
    for what, found in wrong.items():
        if found.any():
            raise ValueError(f"means of {what}")
