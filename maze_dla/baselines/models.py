"""What a baseline says of its model beside the numbers: which weights, and what its norms do."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from maze_dla.engine.model import ResidualModel

NORMS = ("ln1", "ln2", "ln_final")
PROBE = 1e-3  # so small that a norm's epsilon counts, and no rounding does
SAME_EPSILON = 1e-3  # as a share; and beside it what float32 can tell
SMALLEST_EPSILON = 1e-10


def described_model(view: ResidualModel) -> dict[str, Any]:
    """Name, hash of the weights' values, sizes, norms, and hash of the vocabulary, where that is a list."""
    weights = view.weights
    words = view.vocabulary if isinstance(view.vocabulary, tuple | list) else None
    return {
        "name": str(view.info["model"]),
        "checkpoint": str(view.info.get("checkpoint", "in memory")),
        "sha256": str(view.info["sha256"]),
        "sizes": asdict(weights.shape),
        "norm": weights.final_norm.kind,
        "norm_epsilons": norm_epsilons(view.source),
        "logit_cap": weights.logit_cap,
        "vocabulary_sha256": None if words is None else _words_hash(words),
    }


def model_changes(now: Mapping[str, Any], before: Mapping[str, Any]) -> list[str]:
    """What is no longer as it was recorded, each with both values."""
    found = []
    if now["sha256"] != before["sha256"]:
        found.append(f"the weights' values are others: their hash was {_short(before)}, now it is {_short(now)}")
    found += [
        f"{name} was {before['sizes'].get(name)}, now it is {size}"
        for name, size in now["sizes"].items()
        if size != before["sizes"].get(name)
    ]
    for name in ("norm", "logit_cap"):
        if now[name] != before[name]:
            found.append(f"{name} was {before[name]}, now it is {now[name]}")
    if not _same_epsilons(now["norm_epsilons"], before["norm_epsilons"]):
        shown = [", ".join(f"{k} {v:.3g}" for k, v in of["norm_epsilons"].items()) for of in (before, now)]
        found.append(f"the norms' epsilon was {shown[0]}, now it is {shown[1]}")
    if now["vocabulary_sha256"] != before["vocabulary_sha256"]:
        found.append("the vocabulary holds other tokens, or in another order")
    return found


def is_another_model(now: Mapping[str, Any], before: Mapping[str, Any]) -> str | None:
    """Why this is not a later state of the recorded model, but another one; None where it may be."""
    for name in ("name", "sizes", "norm"):
        if now[name] != before[name]:
            return f"{name} was {before[name]}, now it is {now[name]}"
    return None


@torch.no_grad()
def norm_epsilons(model: Any) -> dict[str, float]:
    """The epsilon that each kind of norm adds to the variance, the largest over the layers, by what the norms do.

    A config may say something else than the modules hold, and classes hold it under several names. Measured with
    vectors of small and of large variance v, since a norm gives w * x / sqrt(v + epsilon) + b.
    """
    found: dict[str, float] = {}
    for holder in (*getattr(model, "blocks", ()), model):
        for name in NORMS:
            module = getattr(holder, name, None)
            if isinstance(module, nn.Module) and (epsilon := _epsilon(module, model)) is not None:
                found[name] = max(epsilon, found.get(name, 0.0))
    return found


def _epsilon(norm: nn.Module, model: Any) -> float | None:
    like = model.W_U
    if like.dtype not in (torch.float32, torch.float64):
        return None  # too coarse to tell
    signs = torch.ones(like.shape[0], dtype=like.dtype, device=like.device)
    signs[1::2] = -1
    if len(signs) % 2:
        signs[-1] = 0  # the mean is zero
    large, small = (_odd_part(norm, size * signs) for size in (1e3, PROBE))
    seen = (large.abs() > 0) & (signs != 0)
    if not bool(seen.any()):
        return None  # all weights are zero
    ratio = float((small[seen] / large[seen]).median())  # sqrt(v / (v + epsilon))
    variance = float((PROBE * signs).square().mean())
    return variance * (1 / ratio**2 - 1) if ratio > 0 else None


def _odd_part(norm: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """What a norm makes of a vector, without its bias, in double precision."""
    up, down = norm(x[None, None]), norm(-x[None, None])
    return (up.double() - down.double())[0, 0] / 2


def _same_epsilons(now: Mapping[str, float], before: Mapping[str, float]) -> bool:
    if not now or not before:  # half precision cannot tell
        return True
    return now.keys() == before.keys() and all(
        abs(now[name] - before[name]) <= SAME_EPSILON * before[name] + SMALLEST_EPSILON for name in now
    )


def _words_hash(words: Sequence[str]) -> str:
    return hashlib.sha256("\x1f".join(words).encode(errors="surrogatepass")).hexdigest()


def _short(model: Mapping[str, Any]) -> str:
    return f"{model['sha256'][:12]}..."
