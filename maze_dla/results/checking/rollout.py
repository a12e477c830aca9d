"""Checks of the numbers of saved rollouts."""

from __future__ import annotations

from typing import Any

import torch

from maze_dla.results.checking.shapes import check_finite, check_names
from maze_dla.results.rollout import FAULTS, SCORES, YES_OR_NO


def check_rollout(result: Any) -> None:
    """Refuse walks whose numbers are not of their tokens.

    Raises:
        ValueError: naming the field.
    """
    check_names("walker_names", result.walker_names)
    check_finite("metric", result.metric)
    n_scores, n_walkers = result.scores.shape[1], result.walkers.shape[1]
    if n_scores != len(SCORES) or n_walkers != len(result.walker_names):
        raise ValueError(f"scores: {n_scores} of {n_walkers} walkers, expected {len(SCORES)}")
    yes_or_no = result.scores[:, : len(YES_OR_NO)]
    if not bool(((yes_or_no == 0) | (yes_or_no == 1)).all()):
        raise ValueError(f"scores: {', '.join(YES_OR_NO)} are 0 or 1")
    shares = result.walkers[..., : len(YES_OR_NO)]
    if not bool(((shares >= 0) & (shares <= 1)).all()):
        raise ValueError("walkers: shares outside 0 to 1")
    if result.correct is None or not torch.equal(result.correct, result.holds("solved")):
        raise ValueError("correct: not the walks that are solved")
    _check_tokens(result)


def _check_tokens(result: Any) -> None:
    """Refuse faults and log-probabilities of another number than the tokens that the model said."""
    said = [len(walk) - given for walk, given in zip(result.walks, result.given.tolist(), strict=True)]
    if len(said) != len(result) or min(said, default=0) < 0 or bool((result.given < 0).any()):
        raise ValueError("given: more tokens than the walk has")
    if not isinstance(result.faults, tuple) or [len(row) for row in result.faults] != said:
        raise ValueError("faults: not one for each token that was said")
    if strange := {fault for row in result.faults for fault in row} - {"", *FAULTS}:
        raise ValueError(f"faults: {sorted(map(str, strange))[0]!r:.60} is none")
    numbers = result.log_probs
    there = torch.arange(numbers.shape[1]) < torch.tensor(said)[:, None]
    if max(said, default=0) > numbers.shape[1] or not torch.equal(~numbers.isnan(), there):
        raise ValueError("log_probs: not one for each token that was said")
    if bool((numbers > 1e-9).any()) or not torch.allclose(numbers.nansum(1), result.metric.to(numbers.dtype)):
        raise ValueError("metric: not the sum of log_probs")
