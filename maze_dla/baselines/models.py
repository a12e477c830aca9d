"""What a baseline says of its model beside the numbers: which weights, and what its norms do."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from maze_dla.adapters.mazes.model import MazeModel
from maze_dla.adapters.transformer_lens.identity import heads_hashes, weights_hashes
from maze_dla.adapters.transformer_lens.refusals import foreign_errors_named
from maze_dla.baselines.wording import listed
from maze_dla.engine.model import ResidualModel

NORMS = ("ln1", "ln2")
STATED = " as stated"
PROBE = 2.0**-10  # so small that a norm's epsilon counts, and no rounding does, in half precision either
LARGE_PROBE = 32.0
SAME_EPSILON, SAME_IN_HALF = 2e-3, 2e-2  # as shares; and beside them, of variances of the small probe:
SMALLEST_EPSILON, SMALLEST_IN_HALF = 1e-10, 1e-8


def described_model(view: ResidualModel, model: Any) -> dict[str, Any]:
    """Name, hashes of the weights' values, sizes, norms, hash of the vocabulary where that is a list, and BOS.

    Args:
        view: the engine's view of the model.
        model: a `MazeModel`, or what the view is of.
    """
    weights = view.weights
    words = model.vocabulary.tokens if isinstance(model, MazeModel) else view.vocabulary
    return {
        "name": str(view.info["model"]),
        "checkpoint": str(view.info.get("checkpoint", "in memory")),
        "sha256": str(view.info["sha256"]),
        "weights": weights_hashes(view.source),
        "heads": {f"L{layer}H{head}": found for (layer, head), found in heads_hashes(view.source).items()},
        "sizes": asdict(weights.shape),
        "norm": weights.final_norm.kind,
        "norm_epsilons": norm_epsilons(view.source, weights.shape.d_mlp),
        "logit_cap": weights.logit_cap,
        "vocabulary_sha256": _words_hash(words) if isinstance(words, tuple | list) else None,
        "prepend_bos": model.prepend_bos if isinstance(model, MazeModel) else None,
    }


def model_changes(now: Mapping[str, Any], before: Mapping[str, Any], *, in_half: bool = False) -> list[str]:
    """What is no longer as it was recorded, each with both values.

    Args:
        now, before: of `described_model`.
        in_half: whether one of them is in half precision.
    """
    found = [*_changed_weights(now, before)]
    found += [
        f"{name} was {before['sizes'].get(name)}, now it is {now['sizes'].get(name)}"
        for name in {**before["sizes"], **now["sizes"]}
        if now["sizes"].get(name) != before["sizes"].get(name)
    ]
    for name in ("norm", "logit_cap"):
        if now[name] != before[name]:
            found.append(f"{name} was {before[name]}, now it is {now[name]}")
    found += _changed_epsilons(now["norm_epsilons"], before["norm_epsilons"], in_half)
    if now["vocabulary_sha256"] != before["vocabulary_sha256"]:
        found.append("the vocabulary holds other tokens, or in another order")
    if now["prepend_bos"] != before["prepend_bos"]:
        found.append(f"the model's prepend_bos (BOS before each prompt) was {before['prepend_bos']}, "
                     f"now it is {now['prepend_bos']}")  # fmt: skip
    return found


def is_another_model(now: Mapping[str, Any], before: Mapping[str, Any]) -> str | None:
    """Why this is not a later state of the recorded model, but another one; None where it may be."""
    for name in ("name", "sizes", "norm"):
        if now[name] != before[name]:
            return f"{name} was {before[name]}, now it is {now[name]}"
    return None


def _changed_weights(now: Mapping[str, Any], before: Mapping[str, Any]) -> Iterator[str]:
    """Which weights have other values, and which heads have those of another one."""
    if now["sha256"] != before["sha256"]:
        hashes = f"their hash was {before['sha256'][:12]}..., now it is {now['sha256'][:12]}..."
        yield f"the weights' values are others: {hashes}"
    new, old = now["weights"], before["weights"]
    if others := [name for name in new if name in old and new[name] != old[name]]:
        yield f"other values in {listed(others)}"
    if gone := [name for name in old if name not in new]:
        yield f"all zero now, or gone: {listed(gone)}"
    if added := [name for name in new if name not in old]:
        yield f"all zero or absent before: {listed(added)}"
    yield from _exchanged(now["heads"], before["heads"])
    if now["sha256"] == before["sha256"] and now["heads"] != before["heads"]:
        yield "the file's hashes of heads are not those of its weights"


def _exchanged(now: Mapping[str, str], before: Mapping[str, str]) -> Iterator[str]:
    owners = {before[head]: head for head in before}
    moved = {head: owners[now[head]] for head in now if now[head] != before.get(head) and now[head] in owners}
    if pairs := [f"{head} and {other}" for head, other in moved.items() if head < other and moved.get(other) == head]:
        yield f"the weights of heads changed places: {listed(pairs)}"
    if copies := [f"{head} has those of {other}" for head, other in moved.items() if moved.get(other) != head]:
        yield f"heads have the weights of others: {listed(copies)}"


@torch.no_grad()
def norm_epsilons(model: Any, d_mlp: int | None) -> dict[str, float]:
    """The epsilon that each norm adds to the variance, by what it does; and those that config and modules state.

    These may differ, and only one of them counts, which one by the class. Measured with vectors of small and of large
    variance v, since a norm gives w * x / sqrt(v + epsilon) + b.

    Raises:
        ModelError: a norm that cannot be run.
    """
    found = {"config": getattr(model.cfg, "eps", None)}
    with foreign_errors_named(getattr(model.cfg, "model_name", None) or "unnamed", "running its norms"):
        for name, module, size in _norms(model, d_mlp):
            found[name] = _epsilon(module, torch.empty(size, dtype=model.W_U.dtype, device=model.W_U.device))
            found[f"{name}{STATED}"] = _stated(module)
    return {name: float(f"{epsilon:.3g}") for name, epsilon in found.items() if isinstance(epsilon, int | float)}


def _norms(model: Any, d_mlp: int | None) -> Iterator[tuple[str, nn.Module, int]]:
    d_model = int(model.W_U.shape[0])
    places = [("ln_final", getattr(model, "ln_final", None), d_model)]
    for i, block in enumerate(getattr(model, "blocks", ())):
        places += [(f"{i}.{name}", getattr(block, name, None), d_model) for name in NORMS]
        places.append((f"{i}.mlp.ln", getattr(getattr(block, "mlp", None), "ln", None), d_mlp or 0))
    for name, module, size in places:
        if isinstance(module, nn.Module) and size:
            yield name, module, size


def _stated(norm: nn.Module) -> Any:
    return getattr(norm, "eps", getattr(norm, "variance_epsilon", None))


def _epsilon(norm: nn.Module, like: Tensor) -> float | None:
    signs = torch.ones_like(like)
    signs[1::2] = -1
    if len(signs) % 2:
        signs[-1] = 0  # the mean is zero
    large, small = (_odd_part(norm, size * signs) for size in (LARGE_PROBE, PROBE))
    seen = (large.abs() > 0) & (signs != 0)
    if not bool(seen.any()):
        return None  # all weights are zero
    ratio = float((small[seen] / large[seen]).median())  # sqrt(v / (v + epsilon))
    variance = float((PROBE * signs.double()).square().mean())
    return variance * (1 / ratio**2 - 1) if ratio > 0 else None


def _odd_part(norm: nn.Module, x: Tensor) -> Tensor:
    """What a norm makes of a vector, without its bias, in double precision."""
    up, down = norm(x[None, None]), norm(-x[None, None])
    return (up.double() - down.double())[0, 0] / 2


def _changed_epsilons(now: Mapping[str, float], before: Mapping[str, float], in_half: bool) -> Iterator[str]:
    least, share = (SMALLEST_IN_HALF, SAME_IN_HALF) if in_half else (SMALLEST_EPSILON, SAME_EPSILON)
    both = [name for name in before if name in now]
    others = [name for name in both if not abs(now[name] - before[name]) <= share * abs(before[name]) + least]
    done = [name for name in others if name != "config" and not name.endswith(STATED)]
    told = [name for name in others if name not in done and not done]
    for names, whose in (
        (done, "the norms' epsilon"),
        (told, "the epsilon that config or modules state, not the norms',"),
    ):
        if names:
            was, is_now = before[names[0]], now[names[0]]
            yield f"{whose} was {was:.3g}, now it is {is_now:.3g} (in {listed(names)})"
    if alone := sorted(name for name in {*now} ^ {*before} if name != "config" and not name.endswith(STATED)):
        yield f"norms that only the recorded model or only this one has, or that are zero in one: {listed(alone)}"


def _words_hash(words: Sequence[str]) -> str:
    return hashlib.sha256("\x1f".join(words).encode(errors="surrogatepass")).hexdigest()
