"""Every method that answers for each prompt, by name, and its results compared field by field."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

from maze_dla.analysis import (
    ablate,
    activations,
    attention,
    attribute,
    contrast,
    head_scores,
    logit_lens,
    patch,
    steer,
    token_lens,
)
from maze_dla.engine.attention.relations import Relations
from maze_dla.engine.metrics import LinearMetric
from maze_dla.engine.pairs import PromptPairs
from maze_dla.engine.prompts import PromptBatch

from .numbers import batch_of

Method = Callable[[Any, PromptBatch, LinearMetric, PromptBatch], Any]
"""Of a model, prompts, their metric and a reference."""
SQUARES = ("neuron_variance", "neuron_error", "neuron_crossed", "neuron_sums")  # of the metric's unit


def _steer(model: Any, batch: PromptBatch, metric: LinearMetric, reference: PromptBatch) -> Any:
    vector = torch.linspace(-1, 1, model.cfg.d_model, dtype=torch.float64) ** 3
    return steer(model, batch, metric, vector, layer=0, strengths=(0.5, 2.0), controls=1)


def _scores(model: Any, batch: PromptBatch, metric: LinearMetric, reference: PromptBatch) -> Any:
    relation = Relations.of(batch, {"first token": lambda tokens: [(i, 0) for i in range(1, len(tokens))]})
    return head_scores(model, batch, relation, random=0)


METHODS: dict[str, Method] = {
    "attribute": lambda m, b, c, r: attribute(m, b, c, neurons=not m.cfg.attn_only, sources=True),
    "logit_lens": lambda m, b, c, r: logit_lens(m, b, c, "own"),
    "token_lens": lambda m, b, c, r: token_lens(m, b, 2, positions="all"),
    "ablate": lambda m, b, c, r: ablate(m, b, c, value="mean", positions="all", reference=r),
    "resample": lambda m, b, c, r: ablate(m, b, c, value="resample", reference=r, seed=2, answers=True),
    "activations": lambda m, b, c, r: activations(m, b, site="resid", positions="all"),
    "attention": lambda m, b, c, r: attention(m, b),
    "head_scores": _scores,
    "steer": _steer,
}
OF_PAIRS: dict[str, Callable[[Any, PromptPairs], Any]] = {
    "contrast": lambda m, p: contrast(m, p, neurons=not m.cfg.attn_only, sources=True),
    "patch": lambda m, p: patch(m, p, site="resid_pre"),
    "patch heads": lambda m, p: patch(m, p, site="z", direction="noise"),
}


def pairs_of(tokens: list[list[int]], d_vocab: int) -> PromptPairs:
    """Each prompt with a counterfactual that has another token somewhere, and another right answer."""
    clean = batch_of(tokens, d_vocab)
    corrupted = [list(ids) for ids in tokens]
    for i, ids in enumerate(corrupted):
        place = (7 * i) % len(ids)
        ids[place] = (ids[place] + 1) % d_vocab
    other = replace(batch_of(corrupted, d_vocab), targets=(clean.targets + 1) % d_vocab, answers=None)
    return PromptPairs(clean, other, {"change": "one token"})


def flat(result: Any, prefix: str = "") -> dict[str, Any]:
    """All fields of a result, those of its parts by dotted names."""
    found = {}
    for f in fields(result):
        value = getattr(result, f.name)
        if is_dataclass(value) and not isinstance(value, type):
            found |= flat(value, f"{prefix}{f.name}.")
        else:
            found[prefix + f.name] = value
    return found


def assert_alike(seen: Any, expected: Any, bound: float) -> None:
    """Two results have the same numbers, up to `bound` of the largest part of each prompt, and the same words."""
    assert type(seen) is type(expected)
    one, two = flat(seen), flat(expected)
    assert one.keys() == two.keys()
    n = len(expected)
    parts = [x.double().nan_to_num().reshape(n, -1).abs().amax(1) for x in two.values() if _by_prompt(x, n)]
    largest = torch.stack(parts).amax(0).clamp_min(1e-300)
    for name, value in two.items():
        if isinstance(value, Tensor):
            if name.rsplit(".", 1)[-1] not in SQUARES:
                _assert_near(name, one[name], value, largest if _by_prompt(value, n) else largest.amax(), bound)
        elif name.endswith("info"):
            assert _facts(one[name]) == _facts(value)
        elif name.endswith("columns"):
            assert {k: list(v) for k, v in one[name].items()} == {k: list(v) for k, v in value.items()}
        elif not name.endswith("token_names"):
            assert one[name] == value, name


def _by_prompt(value: Any, n: int) -> bool:
    return isinstance(value, Tensor) and value.ndim > 0 and len(value) == n and value.numel() > 0


def _assert_near(name: str, seen: Tensor, expected: Tensor, largest: Tensor, bound: float) -> None:
    assert seen.shape == expected.shape, name
    assert torch.equal(seen.isnan(), expected.isnan()), name
    apart = (seen.double() - expected.double()).nan_to_num().abs()
    share = apart / largest.reshape(-1, *[1] * (apart.ndim - 1)) if apart.ndim else apart / largest.max()
    worst = float(share.amax()) if share.numel() else 0.0
    assert worst <= bound, f"{name} moved by {worst:.1e} of the largest part, at most {bound:.0e}"


def _facts(info: Any) -> dict[str, Any]:
    """What a result says of itself, without what differs between batches."""
    return {name: value for name, value in info.items() if name not in ("rounding", "selected_from")}


def assert_identical(seen: Any, expected: Any) -> None:
    """Every field is the same, to the bit."""
    assert type(seen) is type(expected)
    one, two = flat(seen), flat(expected)
    for name, value in two.items():
        if isinstance(value, Tensor):
            assert one[name].dtype == value.dtype, name
            same = torch.equal(one[name].isnan(), value.isnan()) and torch.equal(
                one[name].nan_to_num(), value.nan_to_num()
            )
            assert same, name
        elif name.endswith("columns"):
            assert {k: list(v) for k, v in one[name].items()} == {k: list(v) for k, v in value.items()}
        else:
            assert one[name] == value, name
