"""Checks of the numbers of a saved token lens."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from maze_dla.results.checking.shapes import check_finite
from maze_dla.results.checking.sums import Slack, after_the_end

LARGEST_VOCABULARY = 1e7  # which results do not say
ROUNDED = 10  # times the tolerance of a sum: what log-probabilities, of sums over a vocabulary, may be off by


def check_token_lens(result: Any) -> None:
    """Refuse a token lens whose numbers are of no distribution, or whose last depth is not the model's own.

    Raises:
        ValueError: naming the field.
    """
    check_finite("metric", result.metric)
    off = rounding_of_log_probs(Slack.of(result.info, result.metric.dtype, result.metric.double().abs()))
    padding = after_the_end(result, result.kl.shape[1]) if result.all_positions else torch.zeros(len(result)).bool()
    _check_padding(result, padding)
    if result.target_prob is not None:
        _check_target(result, ~padding, off)
    _check_chosen(result, ~padding, off)
    here = {name: getattr(result, name)[~padding] for name in ("top_ids", "top_probs", "target_rank", "entropy", "kl")}
    ids, probs, ranks, entropy, kl = here.values()
    rounded = 4 * torch.finfo(probs.dtype).eps
    certain = ((probs < 0).any(-1)) | (probs.double().sum(-1) > 1 + max(float(off.min()), 1e-4))
    wrong = {
        "top_probs: some are no probabilities": certain,
        "top_probs: not the largest first": probs.diff(dim=-1) > rounded,
        "top_ids: a token is there twice": ids.sort(-1).values.diff(dim=-1) == 0,
        "target_rank: larger than any vocabulary": ranks >= LARGEST_VOCABULARY,
        **distributions(entropy, kl, float(off.max())),
        "entropy: smaller than that of the likeliest token": entropy < -probs[..., 0].log() - off.max(),
    }
    for what, found in wrong.items():
        if found.any():
            raise ValueError(what)
    names = result.token_names
    if unnamed := set(ids.unique().tolist()) - set(names):
        raise ValueError(f"token_names: none for token {min(unnamed)}")
    if result.correct is not None and "precision" in result.info:  # in version 0.1 it was what is now preferred
        _check_correct(result, off)


def rounding_of_log_probs(slack: Slack) -> Float[Tensor, " prompt"]:
    """The error that log-probabilities may have, beside the size of logits, of which the metric is one."""
    return max(ROUNDED * slack.tolerance, 1e-6) * slack.size.clamp_min(1)


def distributions(entropy: Tensor, kl: Tensor, off: float) -> dict[str, Bool[Tensor, "..."]]:
    """Where entropies and divergences, depths on the last axis, are those of no distribution, by what is wrong."""
    most = torch.log(torch.tensor(LARGEST_VOCABULARY))
    return {
        "entropy: negative, or larger than any vocabulary's": (entropy < -off) | (entropy > most),
        "kl: negative": kl < -off,
        "kl: the last depth is not the final one": kl[..., -1] > off,
    }


def _check_padding(result: Any, padding: Bool[Tensor, " prompt *position"]) -> None:
    """-1 and NaN after a prompt's end, and nowhere else."""
    for name in ("top_ids", "target_rank", "top_probs", "entropy", "kl", "target_prob"):
        if (value := getattr(result, name)) is None:
            continue
        pads = padding.reshape(*padding.shape, *[1] * (value.ndim - padding.ndim))
        floating = value.is_floating_point()
        right = torch.where(
            pads, value.isnan() if floating else value == -1, value.isfinite() & (floating | (value >= 0))
        )
        if not right.all():
            raise ValueError(f"{name}: {int((~right).sum())} values that are no numbers, or numbers in padding")


def _check_target(result: Any, inside: Bool[Tensor, " prompt *position"], off: Float[Tensor, " prompt"]) -> None:
    """The target's probability is one, and at least the likeliest token's where it is on top; at the end it is so."""
    prob, rank, top = (x[inside] for x in (result.target_prob, result.target_rank, result.top_probs[..., 0]))
    slack = off.max()
    if ((prob < 0) | (prob > 1 + slack)).any():
        raise ValueError("target_prob: some are no probabilities")
    if ((rank == 0) & (prob < top * (-slack).exp() * (1 - 1e-6))).any():
        raise ValueError("target_prob: smaller than that of the likeliest token, which the target is")


def _check_chosen(result: Any, inside: Bool[Tensor, " prompt *position"], off: Float[Tensor, " prompt"]) -> None:
    """Probabilities and ranks of each chosen token, and none where there is none; as the likeliest tokens have them."""
    ids, probs, ranks = result.chosen_ids, result.chosen_probs, result.chosen_ranks
    if (ids is None, probs is None, ranks is None) not in ((True,) * 3, (False,) * 3):
        raise ValueError("chosen_ids: without chosen_probs and chosen_ranks, or these without them")
    if ids is None:
        return
    if unnamed := set(ids[ids >= 0].tolist()) - set(result.token_names):
        raise ValueError(f"token_names: none for token {min(unnamed)}")
    if (ids < -1).any() or ((ids.sort(1).values.diff(dim=1) == 0) & (ids.sort(1).values[:, 1:] >= 0)).any():
        raise ValueError("chosen_ids: some are no tokens, or there twice")
    known = inside.reshape(*inside.shape, *[1] * (probs.ndim - inside.ndim))
    at = ids.reshape(len(ids), *[1] * (probs.ndim - 2), -1)
    known = known & (at >= 0)
    for name, value, right in (("chosen_probs", probs, probs.isfinite()), ("chosen_ranks", ranks, ranks >= 0)):
        blank = value.isnan() if value.is_floating_point() else value == -1
        if not torch.where(known, right, blank).all():
            raise ValueError(f"{name}: some are no numbers, or numbers where there is no token")
    together = probs.nan_to_num(0).double().sum(-1)
    slack = float(off.max())
    if (probs < 0).any() or (together > 1 + max(slack, 1e-4)).any() or (ranks >= LARGEST_VOCABULARY).any():
        raise ValueError("chosen_probs: those of no distribution")
    same = (at[..., None] == result.top_ids[..., None, :]) & known[..., None]
    if (same & ((probs[..., None] - result.top_probs[..., None, :]).abs() > 1e-5 + slack)).any():
        raise ValueError("chosen_probs: not those of top_probs")


def _check_correct(result: Any, off: Float[Tensor, " prompt"]) -> None:
    """The likeliest token is right where it is so at the last depth, unless two are as likely up to rounding."""
    every = torch.arange(len(result))
    at = (every, torch.tensor([len(t) - 1 for t in result.prompt_tokens])) if result.all_positions else (every,)
    rank, probs = result.target_rank[at][:, -1], result.top_probs[at][:, -1].double()
    k = probs.shape[1]
    tied = probs >= probs[:, :1] * (-off).exp()[:, None]
    right = tied.gather(1, rank.clamp_max(k - 1)[:, None])[:, 0]  # the best right token has as many above it
    wrong = (rank > 0) | (tied[:, 1] if k > 1 else True)
    if not torch.where(result.correct, right, wrong).all():
        raise ValueError("correct: not what target_rank says at the last depth")
