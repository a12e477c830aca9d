"""Logit lens and token lens: the last depth is the model, every depth is what plain torch makes of it."""

from __future__ import annotations

import math
from inspect import unwrap
from typing import Any

import pytest
import torch
from torch import Tensor

from maze_dla.analysis import attribute, logit_lens, token_lens
from maze_dla.engine.direct import lens
from maze_dla.engine.direct import token_lens as tokens
from maze_dla.engine.metrics import logit
from maze_dla.errors import InputError
from maze_dla.results.lens import TokenLensResult
from tests.engine.small_models import hooked_view

from .reference import Run, run
from .small_models import MODERN, make_batch, random_metric, random_tokens, shared_model

SETTINGS = [{}, {"attn_only": True}, MODERN, {"n_layers": 1, "normalization_type": "LNPre"}]
ARRAYS = ("top_ids", "top_probs", "target_rank", "entropy", "kl")


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_the_last_depth_is_the_metric(settings: dict[str, Any]) -> None:
    model, batch = shared_model(**settings), make_batch()
    metric = random_metric(batch)
    with torch.no_grad():
        logits = torch.stack([model(torch.tensor([ids]), return_type="logits")[0, -1] for ids in random_tokens()])
    own = (metric.coefficients() * logits).sum(1)
    for scale in ("final", "own"):
        lens = logit_lens(model, batch, metric, scale=scale)
        assert torch.allclose(lens.values[:, -1].double(), own, atol=1e-4)
        assert torch.allclose(lens.metric.double(), own, atol=1e-4)
        assert not torch.allclose(lens.values[:, 0].double(), own, atol=1e-1)
        assert lens.labels[-1] == "final_post"


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_at_the_final_scale_it_is_the_running_sum_of_the_layers(settings: dict[str, Any]) -> None:
    model, batch = shared_model(**settings), make_batch()
    metric = random_metric(batch)
    lens, sums = logit_lens(model, batch, metric), attribute(model, batch, metric).lens()
    assert lens.labels == sums.labels
    assert lens.scale == sums.scale == "final"
    assert torch.allclose(lens.values, sums.values, atol=2e-5 * float(lens.values.abs().max()))
    own = logit_lens(model, batch, metric, scale="own")
    assert (own.values - sums.values)[:, :-1].abs().amax(0).min() > 1e-2  # the other scale is another lens


def distributions(r: Run, scale: str) -> Tensor:
    """[position, depth, vocab]: the distribution at every depth, from the reference run."""
    final = r.scale_of(r.final)
    logits = [r.logits_at(x, final if scale == "final" else r.scale_of(x)) for x in r.depths.values()]
    weights = (torch.stack(logits, 1) - torch.stack(logits, 1).amax(-1, keepdim=True)).exp()
    return weights / weights.sum(-1, keepdim=True)


def by_hand(probs: list[float], final: list[float], target: int) -> tuple[list[int], int, float, float]:
    """Order of the tokens, rank of the target, entropy, and KL(final || this)."""
    order = sorted(range(len(probs)), key=lambda v: -probs[v])
    entropy = -sum(p * math.log(p) for p in probs if p > 0)
    kl = sum(f * math.log(f / p) for f, p in zip(final, probs, strict=True) if f > 0)
    return order, order.index(target), entropy, kl


def assert_reads(
    lens: TokenLensResult, at: tuple[int, ...], probs: Tensor, target: int, tolerance: float, k: int
) -> None:
    """Every number at one prompt (and position), all depths, against the distributions [depth, vocab]."""
    for depth, row in enumerate(probs.tolist()):
        order, rank, entropy, kl = by_hand(row, probs[-1].tolist(), target)
        here = (*at, depth)
        assert lens.top_ids[here].tolist() == order[:k]
        assert lens.top_probs[here].tolist() == pytest.approx([row[v] for v in order[:k]], abs=tolerance)
        assert int(lens.target_rank[here]) == rank
        assert float(lens.entropy[here]) == pytest.approx(entropy, abs=tolerance)
        assert float(lens.kl[here]) == pytest.approx(kl, rel=tolerance, abs=tolerance)


CASES = [
    ({}, torch.float64, 1e-9),
    ({}, torch.float32, 1e-4),
    ({"attn_only": True}, torch.float64, 1e-9),
    (MODERN, torch.float32, 1e-4),
]


@pytest.mark.parametrize("scale", ["own", "final"])
@pytest.mark.parametrize(("settings", "dtype", "tolerance"), CASES, ids=str)
def test_token_lens_at_the_read_position(settings: Any, dtype: torch.dtype, tolerance: float, scale: Any) -> None:
    model, batch = shared_model(dtype, **settings), make_batch()
    lens = token_lens(model, batch, k=4, scale=scale, sequences_at_once=2)
    runs = [run(model, ids) for ids in random_tokens()]
    assert lens.labels == tuple(runs[0].depths)
    assert not lens.all_positions
    assert lens.top_ids.shape == (len(batch), len(lens.labels), 4)
    for p, r in enumerate(runs):
        assert_reads(lens, (p,), distributions(r, scale)[-1], int(batch.targets[p]), tolerance, 4)
    logits = torch.stack([r.logits[-1] for r in runs])
    assert torch.allclose(lens.metric.double(), logits.gather(1, batch.targets[:, None])[:, 0], atol=tolerance * 10)
    assert torch.equal(lens.correct, logits.argmax(1) == batch.targets)


def test_token_lens_by_default_reads_each_depth_at_its_own_scale() -> None:
    model, batch = shared_model(), make_batch()
    default, own, final = (token_lens(model, batch, **how) for how in ({}, {"scale": "own"}, {"scale": "final"}))
    assert torch.equal(default.kl, own.kl)
    assert default.scale == "own"
    assert (own.kl - final.kl)[:, 0].abs().max() > 1e-2
    assert default.top_ids.shape[-1] == 5


@pytest.mark.parametrize("scale", ["own", "final"])
def test_token_lens_at_all_positions(scale: Any) -> None:
    model, batch = shared_model(torch.float64), make_batch((5, 12, 1, 9))
    lens = token_lens(model, batch, k=3, scale=scale, positions="all", sequences_at_once=2)
    assert lens.all_positions
    assert lens.kl.shape == (4, 12, len(lens.labels))
    for p, ids in enumerate(random_tokens((5, 12, 1, 9))):
        probs = distributions(run(model, ids), scale)
        following = [*ids[1:], int(batch.targets[p])]
        for position, target in enumerate(following):
            assert_reads(lens, (p, position), probs[position], target, 1e-9, 3)


def test_all_positions_and_the_read_position_agree_and_padding_is_marked() -> None:
    model, batch = shared_model(), make_batch()
    everywhere, here = token_lens(model, batch, positions="all"), token_lens(model, batch)
    for p, n in enumerate(batch.lengths.tolist()):
        for name in ARRAYS:
            values, read = getattr(everywhere, name)[p], getattr(here, name)[p]
            assert torch.allclose(values[n - 1].double(), read.double(), atol=1e-5), name
            after = values[n:]
            marked = after.isnan() if after.is_floating_point() else after == -1
            assert marked.all(), name
            inside = values[:n]
            assert not (inside.isnan() if inside.is_floating_point() else inside == -1).any(), name
    for name in ("metric", "correct", "prompt_tokens", "targets"):
        a, b = getattr(everywhere, name), getattr(here, name)
        assert torch.allclose(a.double(), b.double(), atol=1e-5) if isinstance(a, Tensor) else a == b
    assert -1 not in everywhere.token_names


def test_at_the_last_depth_it_is_the_models_distribution() -> None:
    model, batch = shared_model(), make_batch()
    lens = token_lens(model, batch, k=batch.d_vocab)
    for p, ids in enumerate(random_tokens()):
        with torch.no_grad():
            probs = model(torch.tensor([ids]), return_type="logits")[0, -1].softmax(-1)
        assert torch.allclose(lens.top_probs[p, -1], probs[lens.top_ids[p, -1]], atol=1e-6)
    assert lens.kl[:, -1].abs().max() < 1e-6
    assert lens.kl[:, 0].min() > 1e-2
    assert torch.allclose(lens.top_probs.sum(-1), torch.ones(lens.kl.shape), atol=1e-5)
    assert (lens.kl >= 0).all()


def test_top_tokens_are_strings() -> None:
    batch = make_batch(vocabulary=[f"<{v}>" for v in range(23)])
    lens = token_lens(shared_model(), batch, k=2)
    assert lens.top_tokens(3) == [[f"<{v}>" for v in row] for row in lens.top_ids[3].tolist()]
    everywhere = token_lens(shared_model(), batch, k=2, positions="all")
    assert everywhere.top_tokens(3, 8) == lens.top_tokens(3)
    with pytest.raises(ValueError, match="this token lens holds all positions: name one"):
        everywhere.top_tokens(3)


def test_unknown_options_are_refused() -> None:
    model, batch = hooked_view(shared_model()), make_batch()
    logit_lens, token_lens = unwrap(lens.logit_lens), unwrap(tokens.token_lens)  # in tests annotations refuse first
    refused: list[tuple[Any, str]] = [
        (lambda: logit_lens(model, batch, logit(batch), scale="each"), "scale is 'final' or 'own', got 'each'"),
        (lambda: token_lens(model, batch, scale="each"), "scale is 'final' or 'own', got 'each'"),
        (lambda: token_lens(model, batch, positions="last"), "positions is 'read' or 'all', got 'last'"),
        (lambda: token_lens(model, batch, k=0), "k is between 1 and the vocabulary's 23 tokens, got 0"),
        (lambda: token_lens(model, batch, k=24), "k is between 1 and the vocabulary's 23 tokens, got 24"),
    ]
    for ask, message in refused:
        with pytest.raises(InputError) as error:
            ask()
        assert str(error.value) == message
    assert token_lens(model, batch, k=23).top_ids.shape[-1] == 23
