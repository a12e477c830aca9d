"""Saved results that no run can have made are refused, by what is wrong with them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import maze_dla as dla
from maze_dla.results.checking import check_result
from maze_dla.results.loading import load_result
from maze_dla.results.streaming import stream

from .test_storage import POSITIONS, RESULTS, assert_same, attribution, lens, random, refused, token_lens


def changed(name: str, change: Any) -> Any:
    return with_field(attribution(6, full=True), name, change)


def with_field(result: Any, name: str, change: Any) -> Any:
    """The result with a field that its own class, whose shapes are checked in tests, would not take."""
    other = copy.copy(result)
    object.__setattr__(other, name, change(getattr(result, name)))
    return other


def one_more(values: Tensor) -> Tensor:
    values = values.clone()
    values.view(-1)[0] += 1
    return values


LIES: dict[str, tuple[str, Any]] = {
    "transposed heads": ("heads", lambda v: v.transpose(1, 2).contiguous()),
    "a head more": ("heads", lambda v: torch.cat([v, v[:, :, :1]], 2)),
    "NaN": ("constant", lambda v: v * torch.nan),
    "99 targets": ("targets", lambda v: ("x",) * 99),
    "five prompts": ("prompt_tokens", lambda v: v[:5]),
    "a label less": ("layer_labels", lambda v: v[:-1]),
    "whole numbers": ("layers", lambda v: v.long()),
    "numbers for yes and no": ("correct", lambda v: v.float()),
    "a layer changed": ("layers", one_more),
    "a metric changed": ("metric", one_more),
    "a head changed": ("heads", one_more),
    "a neuron changed": ("neurons", one_more),
    "a source changed": ("sources", one_more),
    "no gap": ("gap", one_more),
    "infinite scale": ("final_scale", lambda v: v * torch.inf),
}


@pytest.mark.parametrize("name", LIES)
def test_results_that_no_run_can_have_made(name: str, tmp_path: Path) -> None:
    field, change = LIES[name]
    refused(changed(field, change).save(tmp_path / "r.zanj"), "a field of the AttributionResult is damaged")
    same = changed(field, lambda v: v)
    assert_same(load_result(same.save(tmp_path / "same.zanj")), same)


def no_number(values: Tensor) -> Tensor:
    return values * torch.nan


def entry(name: str, change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """One entry of a mapping changed, or put there."""
    return lambda held: {**held, name: change(held.get(name))}


def at(index: Any, value: float) -> Callable[[Tensor], Tensor]:
    """One place holding another number."""

    def change(values: Tensor) -> Tensor:
        values = values.clone()
        values[index] = value
        return values

    return change


def said(name: str, value: Any) -> tuple[str, Callable[[Any], Any]]:
    return "info", entry(name, lambda _: value)


def renamed(old: str, new: Any) -> Callable[[Any], Any]:
    return lambda names: tuple(new if name == old else name for name in names)


def kinds_of(n: int) -> dla.AttributionResult:
    """With sources by kind as well."""
    result = attribution(n, full=True)
    assert result.sources is not None
    return replace(
        result,
        kinds=("a", "b"),
        sources_by_kind=torch.stack([result.sources[..., :2].sum(-1), result.sources[..., 2:].sum(-1)], -1),
    )


def without_mlps(result: dla.AttributionResult) -> dla.AttributionResult:
    """The columns of the embeddings and of attention alone."""
    kept = [i for i, label in enumerate(result.layer_labels) if "mlp" not in label]
    layers = result.layers[:, kept]
    metric = layers.sum(1) + result.constant
    gap = metric.double() - layers.double().sum(1) - result.constant.double()
    labels = tuple(result.layer_labels[i] for i in kept)
    return replace(result, layers=layers, layer_labels=labels, metric=metric, gap=gap)


def streamed(*results: Any) -> dla.StreamedResult:
    one_by_one = iter(results)
    return stream(lambda batch: next(one_by_one), [None] * len(results))  # pyright: ignore


ALL, KINDS = attribution(6, full=True), kinds_of(6)
LENS, READ, EVERYWHERE = lens(4), token_lens(4), token_lens(5, POSITIONS)  # both with right and with wrong answers
NEW, NEW_EVERYWHERE = (replace(r, info={**r.info, "precision": "float32"}) for r in (READ, EVERYWHERE))
STREAM, LENSES, TOKENS = streamed(kinds_of(5), kinds_of(3)), streamed(lens(4), lens(3)), streamed(READ, token_lens(3))
FRESH = replace(STREAM, info={**STREAM.info, "precision": "float32", "rounding": 1e-4})
PAD = (1, POSITIONS - 1)  # a place after the second prompt's end

HOSTILE: dict[str, list[tuple[Any, str, Callable[[Any], Any], str]]] = {
    "info": [
        *[
            (r, *said("rounding", x), "info: rounding")
            for r in (ALL, LENS, READ, STREAM)
            for x in (1e9, -1.0, float("nan"), float("inf"), "x", True)
        ],
        *[
            (r, *said("precision", x), "info: precision")
            for r in (ALL, LENS, READ, STREAM)
            for x in ("single", "int64", "nn", 3, None)
        ],
        (replace(ALL, info={**ALL.info, "metric": "logit difference"}), *said("rounding", 0.11), "info: rounding"),
    ],
    "attribution": [
        (ALL, "neuron_mean", one_more, "neuron_mean and mlp_bias sum"),
        (ALL, "neuron_mean", lambda v: v + torch.tensor([1.0, -1.0]).repeat(100), "neuron_mean is the mean of neurons"),
        (ALL, "neuron_mean", lambda v: None, "neuron_mean: without"),
        (ALL, "neuron_variance", one_more, "neuron_variance is that of neurons"),
        (ALL, "neuron_variance", at((0, 0), -0.1), "neuron_variance: some are negative"),
        (ALL, "neuron_variance", no_number, "neuron_variance: some are negative or no"),
        (attribution(1, full=True), "neuron_variance", at((0, 0), -0.1), "neuron_variance: some are negative"),
        (KINDS, "kinds", lambda v: ("a", "b", "c"), "kinds: 3 of them for 2"),
        (KINDS, "kinds", lambda v: ("a", "a"), "kinds: expected different names"),
        (ALL, "kinds", lambda v: ("a",), "kinds: 1 of them for 0"),
        (KINDS, "sources_by_kind", one_more, "sources_by_kind sum to heads"),
        (ALL, "patterns", at((0, 0, 0, 0), -0.1), "patterns: some are no shares"),
        (ALL, "patterns", lambda v: 1.01 * v, "patterns: some are no shares"),
        (ALL, "patterns", at((1, 0, 0, -1), 1e-9), "patterns: not zero behind"),
        (ALL, "sources", at((1, 0, 0, -1), 1e-9), "sources: not zero behind"),
        (ALL, "patterns", lambda v: None, "patterns: without sources"),
        (ALL, "prompt_tokens", lambda v: tuple(tokens[:4] for tokens in v), "prompt_tokens: the longest has 4"),
        (ALL, "final_scale", at(0, 0.0), "final_scale: some are not above zero"),
        (ALL, "final_scale", lambda v: -v, "final_scale: some are not above zero"),
        (ALL, "gap", lambda v: v + 1e-6, "gap is the metric minus its parts"),
        (ALL, "layer_labels", renamed("0_attn_out", "9_attn_out"), "layer_labels: expected embeddings"),
        (ALL, "layer_labels", renamed("0_attn_out", "first"), "layer_labels: expected embeddings"),
        (
            ALL,
            "layer_labels",
            renamed("pos_embed", "embed"),
            "layer_labels: .*(expected different names|expected a list of texts)",
        ),
        (
            ALL,
            "layer_labels",
            renamed("pos_embed", 3),
            "layer_labels: .*(expected different names|expected a list of texts)",
        ),
        (ALL, "layer_labels", renamed("pos_embed", "2_attn_out"), "layer_labels: expected embeddings"),
        (ALL, "layer_labels", lambda v: v[::-1], "layer_labels: expected embeddings"),
        (ALL, "layer_labels", lambda v: tuple(x.replace("mlp_out", "other") for x in v), "layer_labels: expected"),
        (without_mlps(ALL), "correct", lambda v: v, "layer_labels: 0 of mlp_out"),
        (ALL, "targets", lambda v: (3, *v[1:]), "targets: .* expected a list of texts"),
        (ALL, "correct", lambda v: v[:3], ""),
        (ALL, "preferred", lambda v: torch.ones(2, 3).bool(), ""),
    ],
    "lens": [
        (LENS, "metric", no_number, "metric: 4 values that are NaN"),
        (LENS, "values", at((1, -1), 9.0), "values: the last depth is the metric: not for prompt 1"),
        (LENS, "labels", renamed("0_mid", "0_pre"), "labels: expected different names"),
        (LENS, "labels", lambda v: v[::-1], "labels: expected depths in order"),
        (LENS, "labels", renamed("final_post", "1_pre"), "labels: expected depths in order"),
        (LENS, "scale", lambda v: "other", ""),
        (READ, "scale", lambda v: None, ""),
    ],
    "token lens": [
        (READ, "metric", no_number, "metric: 4 values"),
        (READ, "target_rank", at((1, 1), -1), "target_rank: 1 values"),
        (READ, "target_rank", at((1, 1), 10**9), "target_rank: larger"),
        (READ, "top_ids", at((0, 0, 0), -1), "top_ids: 1 values"),
        (READ, "top_ids", lambda v: v[..., :1].repeat(1, 1, 2), "top_ids: a token is there twice"),
        (READ, "top_probs", lambda v: v.flip(-1), "top_probs: not the largest first"),
        (READ, "top_probs", lambda v: v * 0 + 0.6, "top_probs: some are no prob"),
        (READ, "top_probs", lambda v: v * torch.tensor([1, -1]), "top_probs: some are no prob"),
        (READ, "kl", at((0, 0), -0.1), "kl: negative"),
        (READ, "kl", at((2, -1), 0.1), "kl: the last depth"),
        (READ, "kl", at((2, 0), torch.inf), "kl: 1 values"),
        (READ, "entropy", at((0, 0), -0.1), "entropy: negative"),
        (READ, "entropy", at((0, 0), 99.0), "entropy: negative, or larger"),
        (READ, "entropy", at((0, 0), 0.0), "entropy: smaller than"),
        (READ, "token_names", lambda v: dict.fromkeys(v, 3), "token_names: .* expected whole numbers with texts"),
        (NEW, "correct", lambda v: ~v, "correct: not what target_rank"),
        (NEW, "target_rank", lambda v: v * 0 + 9, "correct: not what target_rank"),
        (NEW, "target_rank", lambda v: v * 0, "correct: not what target_rank"),
        (NEW_EVERYWHERE, "correct", lambda v: ~v, "correct: not what target_rank"),
        (EVERYWHERE, "target_rank", at((*PAD, 0), 3), "target_rank: 1 values"),
        (EVERYWHERE, "target_rank", at((0, 0, 0), -1), "target_rank: 1 values"),
        (EVERYWHERE, "target_rank", at((*PAD, 0), -2), "target_rank: 1 values"),
        *[(EVERYWHERE, name, at((*PAD, 0), 0.5), f"{name}: . values") for name in ("kl", "entropy", "top_probs")],
        (EVERYWHERE, "prompt_tokens", lambda v: (("a",) * POSITIONS,) * 5, "top_ids: .* values"),
        (EVERYWHERE, "prompt_tokens", lambda v: (("a",),) * 5, "prompt_tokens: the longest has 1"),
    ],
    "stream": [
        *[
            (STREAM, "means", entry(name, one_more), text)
            for name, text in {
                "metric": "layers and constant sum",
                "layers": "layers and constant sum",
                "constant": "layers and constant sum",
                "heads": "heads and attn_bias sum",
                "attn_bias": "heads and attn_bias sum",
                "neurons": "neurons and mlp_bias sum",
                "mlp_bias": "neurons and mlp_bias sum",
                "sources_by_kind": "sources_by_kind sum to heads",
                "moved_by_kind": "moved_by_kind is the sum",
                "lens": "lens: the depths are sums",
            }.items()
        ],
        *[(STREAM, "means", entry(name, lambda v: v[None]), "") for name in STREAM.means],
        *[
            (s, field, entry("metric", lambda v: v.long()), "")
            for s in (STREAM, LENSES, TOKENS)
            for field in ("means", "variances")
        ],
        *[
            (s, "means", lambda means: {k: v for k, v in means.items() if k != "metric"}, "means: none of metric")
            for s in (STREAM, LENSES, TOKENS)
        ],
        *[
            (STREAM, name, lambda n, x=x: x, f"(n_correct|{name}): ")
            for name in ("n", "n_correct", "n_preferred")
            for x in (True, 3.0, "3", -1)
        ],
        *[(s, "of", lambda v: "Other", "of: 'Other'") for s in (STREAM, LENSES)],
        *[
            (FRESH, "largest_gap", lambda v, x=x: x, "largest_gap: ")
            for x in (-1.0, float("nan"), float("inf"), 0.9, "x", True, 0)
        ],
        (LENSES, "largest_gap", lambda v: 0.1, "largest_gap: 0.1 of LensResult"),
        (STREAM, "scale", lambda v: "own", "scale: 'own' of an attribution"),
        (LENSES, "scale", lambda v: "x", ""),
        (STREAM, "means", entry("final_scale", lambda v: -v), "final_scale: some"),
        (STREAM, "means", entry("other", lambda v: torch.zeros(2)), "means: unknown other"),
        (STREAM, "axis_labels", lambda names: {}, "axis_labels: 0 of"),
        (STREAM, "axis_labels", entry("heads", lambda v: ("a", "b", "c")), "axis_labels: 3 of heads"),
        (STREAM, "axis_labels", entry("layers", renamed("0_attn_out", "9_attn_out")), "layer_labels: "),
        (STREAM, "axis_labels", entry("moved_by_kind", lambda v: v[::-1]), "axis_labels: other kinds"),
        (STREAM, "axis_labels", entry("lens", renamed("0_mid", "0_pre")), "axis_labels of lens: "),
        (LENSES, "means", entry("metric", one_more), "values: the last depth is the metric"),
        (LENSES, "means", entry("values", lambda v: v[None]), ""),
        (TOKENS, "means", entry("metric", lambda v: v[None]), ""),
        (TOKENS, "means", entry("kl", lambda v: v + 0.1), "means of kl: the last depth"),
        (TOKENS, "means", entry("kl", lambda v: v - 9), "means of kl: negative"),
        (TOKENS, "means", entry("entropy", lambda v: v - 9), "means of entropy: negative"),
        (TOKENS, "means", entry("target_rank", lambda v: v - 99), "means of target_rank: negative"),
    ],
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_results(kind: str, tmp_path: Path) -> None:
    """The classes themselves refuse some here, where tests check their fields, so that the check is asked as well."""
    for i, (result, field, change, message) in enumerate(HOSTILE[kind]):
        lie = with_field(result, field, change)
        refused(lie.save(tmp_path / f"{i}.zanj"), f"a field of the {type(result).__name__} is damaged")
        with pytest.raises((ValueError, TypeError), match=f"^{message}"):
            check_result(lie)


@pytest.mark.parametrize(
    "result",
    [
        ALL,
        KINDS,
        LENS,
        READ,
        EVERYWHERE,
        NEW,
        NEW_EVERYWHERE,
        without_mlps(attribution(3, full=False)),
        STREAM,
        FRESH,
        LENSES,
        TOKENS,
    ],
    ids=lambda r: type(r).__name__,
)
def test_the_same_results_unchanged(result: Any, tmp_path: Path) -> None:
    assert_same(load_result(result.save(tmp_path / "r.zanj")), result)


OTHER_LIES = {
    "token lens, infinite": (token_lens(3), "kl", no_number),
    "token lens, padded and infinite": (token_lens(3, POSITIONS), "entropy", no_number),
    "token lens, no probability": (token_lens(3), "top_probs", one_more),
    "token lens, no name": (token_lens(3), "token_names", lambda names: {0: "<0>"}),
    "token lens, shape": (token_lens(3), "entropy", lambda v: v[:, :2].clone()),
    "stream, infinite": (RESULTS["stream"], "means", lambda means: {name: no_number(v) for name, v in means.items()}),
    "stream, negative": (RESULTS["stream"], "variances", lambda found: {name: -v - 1 for name, v in found.items()}),
    "stream, too many right": (RESULTS["stream"], "n_correct", lambda n: 99),
    "stream, a variance less": (RESULTS["stream"], "variances", lambda found: dict(list(found.items())[1:])),
    "stream, a label more": (RESULTS["stream"], "axis_labels", lambda names: {k: (*v, "x") for k, v in names.items()}),
}


@pytest.mark.parametrize("name", OTHER_LIES)
def test_other_results_that_no_run_can_have_made(name: str, tmp_path: Path) -> None:
    result, field, change = OTHER_LIES[name]
    assert_same(load_result(result.save(tmp_path / "same.zanj")), result)
    refused(with_field(result, field, change).save(tmp_path / "r.zanj"), f"a field of the {type(result).__name__} is")


def test_heads_of_as_many_layers_as_heads_are_not_transposed(tmp_path: Path) -> None:
    """Where no shape tells, the sums do."""
    result = attribution(3, full=False)
    heads = random(3, 2, 2)
    layers = result.layers.clone()
    layers[:, [2, 4]] = heads.sum(-1) + result.attn_bias
    metric = layers.sum(1) + result.constant
    gap = metric.double() - layers.double().sum(1) - result.constant.double()
    square = replace(result, heads=heads, layers=layers, metric=metric, gap=gap)
    load_result(square.save(tmp_path / "r.zanj"))
    file = replace(square, heads=heads.transpose(1, 2).contiguous()).save(tmp_path / "t.zanj")
    refused(file, ".*heads and attn_bias sum to their layers: not for prompt")
