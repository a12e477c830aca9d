"""Contributions + constant = metric, on every kind of model; and a view of a model that lies is found out."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from maze_dla.analysis import attribute, logit_lens, token_lens
from maze_dla.engine.completeness import SumChecks, check_sums
from maze_dla.engine.metrics import logit, logit_diff
from maze_dla.engine.model import Norm
from maze_dla.engine.prompts import PromptBatch
from maze_dla.engine.sites import LOGITS, Activations
from maze_dla.errors import CompletenessError
from maze_dla.results.loading import load_result

from .reference import own_norm
from .small_models import (
    HOOKED,
    LENGTHS,
    MODERN,
    b_in,
    hooked_view,
    make_batch,
    make_model,
    meddled,
    random_metric,
    random_tokens,
    shared_model,
    with_block,
    with_weights,
)

MODELS = [
    ({"normalization_type": kind, "n_layers": n}, dtype)
    for kind, n in [("LN", 1), ("LN", 2), ("LNPre", 5), ("RMS", 2), ("RMSPre", 1), (None, 2), ("LN", 12)]
    for dtype in (torch.float32, torch.float64)
] + [
    ({"n_heads": 5, "d_head": 3}, torch.float32),
    ({"n_heads": 1, "d_head": 7, "n_layers": 5}, torch.float64),
    ({"attn_only": True, "n_layers": 5}, torch.float32),
    (MODERN, torch.float32),
    ({**MODERN, "normalization_type": "LN"}, torch.float64),
]


def largest_relative(whole: Tensor, parts: Tensor, size: Tensor) -> float:
    gap = (whole.double() - parts.double().sum(-1)).abs()
    return float((gap / size.double().view(-1, *[1] * (gap.ndim - 1))).max())


@pytest.mark.parametrize(("settings", "dtype"), MODELS, ids=str)
def test_parts_sum_to_the_metric(settings: dict[str, Any], dtype: torch.dtype) -> None:
    model, batch = shared_model(dtype, **settings), make_batch()
    result = attribute(model, batch, random_metric(batch), neurons=True, sources=True, sequences_at_once=3)
    size = torch.cat([result.layers, result.metric[:, None]], 1).abs().amax(1)
    tolerance = 1e-12 if hooked_view(model).weights.precision == torch.float64 else 2e-5
    parts = torch.cat([result.layers, result.constant[:, None]], 1)
    assert largest_relative(result.metric, parts, size) < tolerance
    assert largest_relative(result.metric, parts[:, 1:], size) > 1e-3  # a component that is missing is seen
    assert largest_relative(result.metric, parts[:, :-1], size) > 1e-3  # and so is the constant
    attn = result.layers[:, [label.endswith("attn_out") for label in result.layer_labels]]
    heads = torch.cat([result.heads, result.attn_bias[..., None]], -1)
    assert largest_relative(attn, heads, size) < tolerance
    assert result.sources is not None
    assert largest_relative(result.heads, result.sources, size) < tolerance
    if result.neurons is not None:
        mlp = result.layers[:, [label.endswith("mlp_out") for label in result.layer_labels]]
        assert largest_relative(mlp, torch.cat([result.neurons, result.mlp_bias[..., None]], -1), size) < tolerance
    assert torch.allclose(result.gap.double(), result.metric.double() - parts.double().sum(1), atol=1e-12)


def test_heads_that_cancel_each_other_are_held_to_their_own_size(tmp_path: Path) -> None:
    """Two heads write some thousand logits each and next to nothing together: float32 cannot sum them to less."""
    model, batch = make_model(), make_batch()
    with torch.no_grad():
        for attn in (block.attn for block in model.blocks):
            attn.b_V[:2] = 4e3  # views of the weights themselves, in every class
            attn.W_O[1] = -attn.W_O[0]
    result = attribute(model, batch, random_metric(batch), sources=True, forward="hooked")
    largest, whole = result.heads.abs().amax((1, 2)), result.layers.abs().amax(1)
    assert float((largest / whole).min()) > 30
    load_result(result.save(tmp_path / "result.zanj"))


@pytest.mark.parametrize(("settings", "dtype"), MODELS[::3], ids=str)
def test_the_metric_is_that_of_the_models_own_logits(settings: dict[str, Any], dtype: torch.dtype) -> None:
    """Nothing in the sums would show a read position that is off by one: the logits would come from there as well."""
    model, batch = shared_model(dtype, **settings), make_batch()
    metric = random_metric(batch)
    result = attribute(model, batch, metric)
    with torch.no_grad():
        rows = [model(torch.tensor([ids]), return_type="logits")[0] for ids in random_tokens()]
    c = metric.coefficients().to(dtype)
    own = (torch.stack([row[-1] for row in rows]) * c).sum(1)
    early = (torch.stack([row[-2] for row in rows]) * c).sum(1)
    assert torch.allclose(result.metric, own, rtol=1e-4, atol=1e-4)
    assert (result.metric - early).abs().max() > 0.1


def swapped_heads(model: Any) -> Any:
    W_O = hooked_view(model).weights.blocks[1].W_O
    return with_block(model, 1, W_O=W_O[[1, 0, 2]])


def shuffled_neurons(model: Any) -> Any:
    W_out = hooked_view(model).weights.blocks[0].W_out
    return with_block(model, 0, W_out=W_out.roll(1, 0))


def without_norm_bias(model: Any) -> Any:
    return with_weights(model, final_norm=replace(hooked_view(model).weights.final_norm, bias=None))


def without_norm_weight(model: Any) -> Any:
    return with_weights(model, final_norm=replace(hooked_view(model).weights.final_norm, weight=None))


def without_centring(model: Any) -> Any:
    norm = hooked_view(model).weights.final_norm
    return with_weights(model, final_norm=Norm("rms", norm.weight, norm.bias, norm.eps))


def read_one_early(model: Any) -> Any:
    """Components from one position before the logits' position."""
    return meddled(model, lambda found, at, run: {**run(at - 1), LOGITS: found[LOGITS]})


def sources_one_off(model: Any) -> Any:
    return meddled(model, lambda found, *_: {s: x.roll(1, -1) if s.name == "pattern" else x for s, x in found.items()})


LIES = [
    (swapped_heads, "attention layer = heads + b_O at index [1]"),
    (lambda model: with_block(model, 0, b_O=None), "attention layer = heads + b_O at index [0]"),
    (lambda model: with_block(model, 1, b_out=None), "MLP = neurons + b_out at index [1]"),
    (shuffled_neurons, "MLP = neurons + b_out at index [0]"),
    (sources_one_off, "head = sources at index ["),
    (lambda model: with_weights(model, b_U=None), "metric = contributions + constant:"),
    (without_norm_bias, "metric = contributions + constant:"),
    (without_norm_weight, "metric = contributions + constant:"),
    (without_centring, "metric = contributions + constant:"),
    (read_one_early, "metric = contributions + constant:"),
]
NAMES = ["swapped heads", "b_O", "b_out", "neurons", "sources", "b_U", "norm bias", "norm weight", "centring", "early"]
MESSAGE = re.compile(
    r"prompt (\d+): (.+): the parts sum to (\S+), the whole is (\S+); the gap (\S+) is (\S+) of the largest part "
    r"\(at most (\S+) in (\S+)\)"
)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(("lie", "broken"), LIES, ids=NAMES)
def test_a_view_that_lies_is_refused(lie: Any, broken: str, dtype: torch.dtype) -> None:
    model, batch = shared_model(dtype), make_batch()
    metric = random_metric(batch)
    attribute(model, batch, metric, sources=True)  # the honest view passes
    with pytest.raises(CompletenessError) as error:
        attribute(lie(model), batch, metric, sources=True)
    found = MESSAGE.fullmatch(str(error.value))
    assert found, str(error.value)
    assert f"{found[2]}:".startswith(broken)
    assert 0 <= int(found[1]) < len(batch)
    total, whole, gap, relative = map(float, found.groups()[2:6])
    assert whole - total == pytest.approx(gap, rel=0.02, abs=1e-4 * max(abs(whole), 1))
    assert found.groups()[6:] == (("1e-04", "float32") if dtype == torch.float32 else ("1e-10", "float64"))
    assert relative > float(found[7])


@pytest.mark.parametrize("lie", [without_norm_bias, without_norm_weight, without_centring, read_one_early])
@pytest.mark.parametrize("lens", [lambda *a: logit_lens(*a), lambda m, b, _: token_lens(m, b)], ids=["logit", "token"])
def test_the_lenses_refuse_it_too(lie: Any, lens: Any) -> None:
    model, batch = shared_model(), make_batch()
    lens(model, batch, random_metric(batch))
    with pytest.raises(CompletenessError, match="the last depth"):
        lens(lie(model), batch, random_metric(batch))


def only_for(prompt: int, model: Any, change: Any) -> Any:
    """A view that changes the reads of a single prompt, known by its length."""

    def meddle(found: Activations, positions: Tensor, run: Any) -> Activations:
        return change(found, torch.nonzero(positions == LENGTHS[prompt] - 1).flatten())

    return meddled(model, meddle)


def raised(tensor: Tensor, rows: Tensor, amount: float, column: Tensor | None = None) -> Tensor:
    tensor = tensor.clone()
    tensor[rows if column is None else (rows, column)] += amount
    return tensor


@pytest.mark.parametrize("prompt", range(len(LENGTHS)))
def test_the_message_names_prompt_gap_and_tolerance(prompt: int) -> None:
    """Pieces of two sequences, shortest first: no prompt stands in its piece where it stands in the batch."""
    model, batch = shared_model(), make_batch()
    target = batch.targets[prompt]
    view = only_for(prompt, model, lambda f, rows: {**f, LOGITS: raised(f[LOGITS], rows, 0.5, target)})
    with pytest.raises(CompletenessError) as error:
        attribute(view, batch, logit(batch), sequences_at_once=2)
    message = str(error.value)
    assert message.startswith(f"prompt {prompt}: metric = contributions + constant: the parts sum to ")
    assert "; the gap 0.5 is " in message
    assert message.endswith("(at most 1e-04 in float32)")
    for lens in (lambda: logit_lens(view, batch, logit(batch), sequences_at_once=2), lambda: token_lens(view, batch)):
        with pytest.raises(CompletenessError, match=f"^prompt {prompt}: .*; the gap 0.5 is "):
            lens()


def test_sums_that_are_checked_at_the_end_are_refused_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, which nothing waits for before."""
    monkeypatch.setattr(SumChecks, "add", lambda self, *asked: self._later.append(asked))
    model, batch = shared_model(), make_batch()
    view = only_for(4, model, lambda f, rows: {**f, LOGITS: raised(f[LOGITS], rows, 0.5, batch.targets[4])})
    for method in (attribute, logit_lens, lambda m, b, _, **options: token_lens(m, b, **options)):
        method(model, batch, logit(batch), sequences_at_once=2)
        with pytest.raises(CompletenessError, match=r"^prompt 4: .*; the gap 0\.5 is "):
            method(view, batch, logit(batch), sequences_at_once=2)


SITES = ["logits", "final_scale", "embed", "attn_out", "mlp_out", "z", "neurons", "pattern"]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", SITES)
def test_a_number_that_is_not_finite_is_refused(name: str, bad: float) -> None:
    def spoil(found: Activations, rows: Tensor) -> Activations:
        return {site: raised(x, rows, bad) if site.name == name else x for site, x in found.items()}

    batch, view = make_batch(), only_for(4, shared_model(), spoil)
    with pytest.raises(CompletenessError, match=r"^prompt 4: "):
        attribute(view, batch, random_metric(batch), sources=True)


def test_a_model_that_computes_nan_is_refused() -> None:
    model, batch = make_model(), make_batch()
    with torch.no_grad():
        b_in(model.blocks[1].mlp)[3] = float("nan")
    for method in (attribute, logit_lens, lambda m, b, _: token_lens(m, b)):
        with pytest.raises(CompletenessError, match=r"^prompt \d: .*nan"):
            method(model, batch, random_metric(batch))


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4), (torch.bfloat16, 5e-2)]
)
def test_the_tolerance_is_relative_to_the_size(dtype: torch.dtype, tolerance: float) -> None:
    parts = torch.tensor([[1.0, 2.0], [300.0, -100.0]], dtype=torch.float64)
    size = torch.tensor([2.0, 300.0], dtype=torch.float64)
    off = torch.tensor([0.5, 0.9], dtype=torch.float64) * tolerance * size
    gap = check_sums(parts.sum(1) + off, parts, size, dtype, "whole = parts")
    assert torch.allclose(gap, off, rtol=1e-3)
    off = torch.tensor([0.5, 1.1], dtype=torch.float64) * tolerance * size
    with pytest.raises(CompletenessError, match=r"^prompt 1: whole = parts: the parts sum to 200, the whole is 2"):
        check_sums(parts.sum(1) + off, parts, size, dtype, "whole = parts")


def test_the_worst_of_several_prompts_and_its_place_are_named() -> None:
    parts = torch.ones(3, 2, 4, 5)
    whole = parts.sum(-1)
    whole[0, 1, 1] += 0.1
    whole[2, 1, 3] -= 0.25
    with pytest.raises(CompletenessError) as error:
        check_sums(whole, parts, torch.ones(3), torch.float32, "a = b", torch.tensor([7, 8, 9]))
    assert str(error.value) == (
        "prompt 9: a = b at index [1, 3]: the parts sum to 5, the whole is 4.75; "
        "the gap -0.25 is 2.5e-01 of the largest part (at most 1e-04 in float32)"
    )


@pytest.mark.parametrize("kind", ["LN", "LNPre", "RMS", "RMSPre", None])
def test_precision_is_that_of_the_norm(kind: str | None) -> None:
    """The bridge's RMS norm computes in float32 inside a float64 model: sums are held to what it can keep."""
    model = shared_model(torch.float64, normalization_type=kind)
    x = torch.randn(5, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        norm = getattr(model, "ln_final", None) or torch.nn.Identity()  # some classes have none where none is asked for
        error = (norm(x) - own_norm(norm, x, model.cfg)).abs().max()
    assert hooked_view(model).weights.precision == (torch.float64 if error < 1e-12 else torch.float32)
    assert (error > 1e-9) == (kind == "RMS" and not HOOKED)


def nearly_equal_columns(difference: float) -> Any:
    """A model with logits of some tens, and two tokens whose logits differ by far less than one."""
    model = make_model()
    with torch.no_grad():
        W_U = model.unembed.W_U
        W_U.mul_(12)
        W_U[:, 4] = W_U[:, 3] + difference * W_U[:, 5]
        model.unembed.b_U.zero_()
    return model


def aimed_at(token: int) -> PromptBatch:
    return replace(make_batch(), targets=torch.full((len(LENGTHS),), token), answers=None)


def test_a_small_difference_of_large_logits_is_held_to_their_rounding() -> None:
    """Rounding of a logit is some millionths of it, which would be a large share of a metric of 0.0003."""
    model, batch = nearly_equal_columns(1e-5), aimed_at(3)
    result = attribute(model, batch, logit_diff(batch, [4] * len(batch)))
    logits = model(batch.sequences)[torch.arange(len(batch)), batch.read_positions]
    assert float(logits.detach()[:, 3].abs().max()) > 10
    assert float(result.metric.abs().max()) < 1e-3
    logit_lens(model, batch, logit_diff(batch, [4] * len(batch)))


def test_it_is_still_held_to_something() -> None:
    model, batch = nearly_equal_columns(1e-2), aimed_at(3)
    metric = logit_diff(batch, [4] * len(batch))
    attribute(model, batch, metric)
    with pytest.raises(CompletenessError, match=r"metric = contributions \+ constant"):
        attribute(with_weights(model, b_U=0.01 * torch.arange(float(batch.d_vocab))), batch, metric)  # pyright: ignore
