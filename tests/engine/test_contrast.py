"""The halves of a contrast: their identities, an independent computation, and what they refuse."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import maze_dla as dla
from maze_dla.engine.forward.running import SequenceQueue
from maze_dla.engine.metrics import correct_vs_other, linear_metric, logit_diff
from maze_dla.engine.pairs import PromptPairs
from maze_dla.engine.sites import FINAL_SCALE, Site
from maze_dla.errors import CompletenessError, InputError
from maze_dla.results.contrast import ContrastResult
from tests.engine import reference
from tests.engine.pairs_of_tokens import random_pairs
from tests.engine.small_models import D_VOCAB, MODERN, make_model, meddled, shared_model

ARRAYS = ("metric", "layers", "heads", "neurons", "sources", "sources_by_kind", "attn_bias", "mlp_bias", "constant")


@pytest.fixture(scope="module")
def model() -> Any:
    return make_model(torch.float64)


@pytest.fixture(scope="module")
def pairs() -> PromptPairs:
    return random_pairs()


@pytest.fixture(scope="module")
def found(model: Any, pairs: PromptPairs) -> ContrastResult:
    return dla.contrast(model, pairs, neurons=True, sources=True)


def total(half: Any) -> Tensor:
    return half.layers.sum(1) + half.constant


def test_both_runs_are_those_of_attribute(model: Any, pairs: PromptPairs, found: ContrastResult) -> None:
    metric = logit_diff(pairs)
    for batch, run in ((pairs.clean, found.clean), (pairs.corrupted, found.corrupted)):
        alone = dla.attribute(model, batch, replace(metric, made_for=None), neurons=True, sources=True)
        for name in (*ARRAYS, "patterns", "final_scale", "neuron_mean", "neuron_variance"):
            torch.testing.assert_close(getattr(run, name), getattr(alone, name))
        assert run.predicted == alone.predicted
    own = [dla.attribute(model, b, correct_vs_other(b)).correct for b in (pairs.clean, pairs.corrupted)]
    assert found.clean.correct.tolist() == own[0].tolist()
    assert found.corrupted.correct.tolist() == own[1].tolist()


def test_both_halves_are_complete(found: ContrastResult) -> None:
    clean, corrupted = found.clean.metric, found.corrupted.metric
    torch.testing.assert_close(found.dependent.metric, (clean - corrupted) / 2)
    torch.testing.assert_close(found.shared.metric, (clean + corrupted) / 2)
    for half in (found.dependent, found.shared):
        torch.testing.assert_close(total(half), half.metric)
        assert half.gap.abs().max() < 1e-12
        torch.testing.assert_close(half.sources.sum(-1), half.heads)
        torch.testing.assert_close(half.sources_by_kind.sum(-1), half.heads)
        torch.testing.assert_close(half.heads.sum(-1) + half.attn_bias, half.of_kind("attn_out"))
        torch.testing.assert_close(half.neurons.sum(-1) + half.mlp_bias, half.of_kind("mlp_out"))
        torch.testing.assert_close(half.neuron_mean, half.neurons.mean(0))
        torch.testing.assert_close(half.neuron_variance, half.neurons.var(0))
    assert not found.dependent.constant.any()
    assert found.shared.constant.any()


def test_what_writes_alike_in_both_runs_depends_on_nothing(found: ContrastResult) -> None:
    """The token at the read position is the same in all pairs but the shortest changes none of it either."""
    half = found.dependent
    for name in ("attn_bias", "mlp_bias", "constant"):
        assert not getattr(half, name).any()
    for name in ("embed", "pos_embed"):
        column = half.layer_labels.index(name)
        assert not half.layers[:, column].any()
        assert found.shared.layers[:, column].all()
    assert half.heads.ne(0).all()


def test_sources_in_front_of_the_change_write_alike_where_attention_is_alike() -> None:
    """A head whose queries and keys are zero looks everywhere alike: only what comes after the change depends."""
    model = make_model(seed=3)
    with torch.no_grad():
        for block in model.blocks:
            for name in ("W_Q", "b_Q"):
                getattr(block.attn, name).zero_()
    pairs = random_pairs(lengths=(20, 20, 30), changed=5)
    half = dla.contrast(model, pairs, sources=True).dependent
    before = torch.arange(30) < (pairs.clean.lengths - 5)[:, None]
    assert not half.sources[before[:, None, None].expand_as(half.sources)].any()
    assert half.sources[~before[:, None, None].expand_as(half.sources)].any()


def test_equal_prompts_depend_on_nothing(model: Any) -> None:
    clean = random_pairs().clean
    same = dla.contrast(model, PromptPairs(clean, clean), correct_vs_other(clean), neurons=True, sources=True)
    for name in ARRAYS:
        assert not getattr(same.dependent, name).any(), name
        if name not in ("metric",):
            torch.testing.assert_close(
                getattr(same.shared, name)[..., : getattr(same.clean, name).shape[-1]], getattr(same.clean, name)
            )


def test_swapped_pairs_keep_shared_and_turn_dependent_round(model: Any, pairs: PromptPairs) -> None:
    metric = linear_metric(pairs.clean, torch.randn(len(pairs), D_VOCAB, generator=torch.Generator().manual_seed(5)))
    back = linear_metric(pairs.corrupted, metric.coefficients())
    one = dla.contrast(model, pairs, metric, neurons=True, sources=True)
    two = dla.contrast(model, pairs.swapped(), back, neurons=True, sources=True)
    for name in ARRAYS:
        torch.testing.assert_close(getattr(two.shared, name), getattr(one.shared, name))
        torch.testing.assert_close(getattr(two.dependent, name), -getattr(one.dependent, name))


@pytest.mark.parametrize("settings", [{}, MODERN], ids=["LN", "RMS, gated, rotary, grouped"])
def test_halves_are_those_of_an_independent_computation(settings: dict[str, Any], pairs: PromptPairs) -> None:
    """Vectors pushed forward in float64, and the formulas as they are written."""
    model = make_model(torch.float64, **settings)
    found = dla.contrast(model, pairs, neurons=True, sources=True)
    c = logit_diff(pairs).coefficients()
    close = {"atol": 1e-5 if settings else 1e-9, "rtol": 0}  # rotations are in single precision
    for i, at in enumerate(pairs.clean.read_positions.tolist()):
        ids = [batch.tokens[i, : at + 1].tolist() for batch in (pairs.clean, pairs.corrupted)]
        runs = [reference.run(model, tokens) for tokens in ids]
        scales = [run.scale_of(run.final)[at] for run in runs]
        a, b = (float(1 / scale) for scale in scales)

        def unscaled(
            vectors: list[Tensor], i: int = i, at: int = at, runs: Any = runs, scales: Any = scales
        ) -> list[Tensor]:
            pairs = zip(runs, vectors, scales, strict=True)
            return [run.contribution(x, c[i], at) * scale for run, x, scale in pairs]

        def check(half: Tensor, other: Tensor, vectors: list[Tensor], a: float = a, b: float = b) -> None:
            u, v = unscaled(vectors)
            torch.testing.assert_close(half, (u - v) / 2 * (a + b) / 2, **close)
            torch.testing.assert_close(other, (u + v) / 2 * (a + b) / 2, **close)

        for k, name in enumerate(found.dependent.layer_labels[:-1]):
            vectors = [run.layers[name][at] for run in runs]
            check(found.dependent.layers[i, k], found.shared.layers[i, k], vectors)
        for layer in range(model.cfg.n_layers):
            heads = [torch.stack([head[at] for head in run.heads[layer]]) for run in runs]
            check(found.dependent.heads[i, layer], found.shared.heads[i, layer], heads)
            neurons = [run.neurons[layer][at] for run in runs]
            check(found.dependent.neurons[i, layer], found.shared.neurons[i, layer], neurons)
            sources = [torch.stack([head[at, : at + 1] for head in run.sources[layer]]) for run in runs]
            halves = (half.sources[i, layer, :, : at + 1] for half in (found.dependent, found.shared))
            check(*halves, sources)
        u, v = unscaled([run.final[at] for run in runs])
        of_norm = ((u + v) / 2 * (a - b) / 2, (u - v) / 2 * (a - b) / 2)
        for half, expected in zip((found.dependent, found.shared), of_norm, strict=True):
            torch.testing.assert_close(half.layers[i, -1], expected, **close)


def test_numbers_do_not_depend_on_micro_batches(model: Any, pairs: PromptPairs, found: ContrastResult) -> None:
    for at_once in (1, 2, 3, 5):
        again = dla.contrast(model, pairs, neurons=True, sources=True, sequences_at_once=at_once)
        for name in ARRAYS:
            torch.testing.assert_close(getattr(again.dependent, name), getattr(found.dependent, name))
    hooked = dla.contrast(model, pairs, forward="hooked")
    torch.testing.assert_close(hooked.dependent.heads, found.dependent.heads)
    mean = dla.contrast(model, pairs, neurons="mean", sources="kinds").dependent
    assert mean.neurons is None
    assert mean.sources is None
    torch.testing.assert_close(mean.neuron_mean, found.dependent.neuron_mean)


@pytest.mark.parametrize("at_once", [1, 2, 3, 4, 7, 100])
def test_both_sequences_of_a_pair_are_taken_together(pairs: PromptPairs, at_once: int) -> None:
    queue, n, seen = SequenceQueue(pairs.joined(), 48, in_pairs=True), len(pairs), []
    while (micro := queue.take(at_once, 1)) is not None:
        taken = sorted((micro.prompts % n).tolist())
        assert taken == sorted([*set(taken)] * 2)
        seen += taken
    assert sorted(seen) == sorted([*range(n)] * 2)


def test_a_planted_head_that_knows_the_change_is_named_alone() -> None:
    """One head copies the changed token, which the other heads do not look at: its dependent part is all there is."""
    model = make_model(torch.float64, n_layers=1, attn_only=False)
    with torch.no_grad():
        for block in model.blocks:
            for name in ("W_Q", "b_Q"):
                getattr(block.attn, name).zero_()
            block.attn.W_O[1:].zero_()  # head 0 moves what it sees
            block.attn.b_V[1] += 1
        model.blocks[0].attn.W_V[1].zero_()
        model.blocks[0].attn.W_O[1] += 1  # head 1 writes its bias, whatever it sees
        model.blocks[0].attn.W_O[1, :, ::2] *= -2
    found = dla.contrast(model, random_pairs(lengths=(5, 6, 7, 8)))
    dependent, shared = found.dependent.heads.abs().mean(0)[0], found.shared.heads.abs().mean(0)[0]
    assert dependent[0] > 0.01
    assert dependent[1:].max() < 1e-12
    assert shared[1] > 0.01


def test_parts_that_do_not_add_up_are_refused(pairs: PromptPairs) -> None:
    def lies(found: Any, *_: Any) -> Any:
        return {site: value * 1.01 if site == Site("mlp_out", 1) else value for site, value in found.items()}

    view = meddled(shared_model(), lies)
    with pytest.raises(CompletenessError, match=r"prompt \d+: metric = contributions \+ constant"):
        dla.contrast(view, pairs)


def test_a_norm_that_lies_about_its_scale_is_refused(pairs: PromptPairs) -> None:
    def lies(found: Any, *_: Any) -> Any:
        return {site: value * 1.01 if site == FINAL_SCALE else value for site, value in found.items()}

    view = meddled(shared_model(), lies)
    with pytest.raises(CompletenessError):
        dla.contrast(view, pairs)


def test_metrics_of_other_prompts_are_refused(model: Any, pairs: PromptPairs) -> None:
    with pytest.raises(InputError, match="the metric of pairs is logit_diff"):
        dla.contrast(model, pairs, correct_vs_other(pairs.corrupted))
    others = PromptPairs(pairs.clean, random_pairs(changed=2).corrupted)
    with pytest.raises(InputError, match="the metric was made for other pairs: the corrupted prompt of pair 0"):
        dla.contrast(model, others, logit_diff(pairs))
    with pytest.raises(InputError, match="both prompts of a pair: no idea"):
        dla.contrast(model, replace(pairs, unanswered="no idea"), logit_diff(pairs))
    with pytest.raises(InputError, match="pairs are PromptPairs, such as"):
        dla.contrast(model, pairs.clean)  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="metric is a LinearMetric"):
        dla.contrast(model, pairs, "logit")  # pyright: ignore[reportArgumentType]
    assert len(dla.contrast(model, pairs.select([2, 0]), logit_diff(pairs).select([2, 0]))) == 2


def test_infos_say_which_run_and_which_half(found: ContrastResult) -> None:
    assert [found.clean.info["run"], found.corrupted.info["run"]] == ["clean", "corrupted"]
    assert [half.info["part"] for half in (found.dependent, found.shared)] == ["dependent", "shared"]
    for one in (found.clean, found.corrupted, found.dependent, found.shared):
        assert one.info["change"] == "one token"
        assert one.info["metric"] == "logit difference"
        assert one.info["model"]
    assert found.dependent.correct is None
    assert found.dependent.predicted is None
    assert "what depends on the change" in repr(found.dependent)
    assert "accuracy" not in repr(found.dependent)
    assert "not independent of the change" in repr(found.shared)
    words = repr(found)
    assert "dependent part: half the difference of the two runs" in words
    assert "Shared is not independent of the change" in words
    assert "<table>" in found._repr_html_()


def test_the_lens_of_a_half_is_half_of_both_lenses(model: Any, pairs: PromptPairs, found: ContrastResult) -> None:
    lens = found.dependent.lens()
    torch.testing.assert_close(lens.values[:, -1], found.dependent.metric)
    assert lens.labels == found.clean.lens().labels
    assert "mean of the two runs" in repr(lens)
    s, t = found.clean.final_scale[:, None], found.corrupted.final_scale[:, None]
    ones = [run.lens().values[:, :-1] - run.constant[:, None] for run in (found.clean, found.corrupted)]
    expected = (ones[0] * s - ones[1] * t) / 2 * (1 / s + 1 / t) / 2
    torch.testing.assert_close(lens.values[:, :-1], expected)


def test_a_selection_is_the_contrast_of_these_pairs(model: Any, pairs: PromptPairs, found: ContrastResult) -> None:
    part, alone = found.select([3, 0]), dla.contrast(model, pairs.select([3, 0]), neurons=True, sources=True)
    assert dict(part.info) == dict(alone.info)
    assert len(part) == part.info["pairs"] == 2
    for half in ("clean", "corrupted", "dependent", "shared"):
        for name in ARRAYS:
            seen, expected = (getattr(getattr(one, half), name) for one in (part, alone))
            torch.testing.assert_close(seen, expected)
    assert not torch.allclose(part.dependent.metric, found.dependent.metric[:2])
    assert found.select([5, 3, 0]).select([1, 2]).info["selected_from"] == len(found)
    with pytest.raises(InputError, match="prompt 7 outside the 7 prompts"):
        found.select([7])
