"""The engine's own forward pass gives the model's numbers, or it is not used."""

from __future__ import annotations

import re
import warnings
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from maze_dla.adapters.transformer_lens import verified, view
from maze_dla.adapters.transformer_lens.hooked import HookedModel
from maze_dla.adapters.transformer_lens.own_decoder import own_decoder
from maze_dla.adapters.transformer_lens.verified import VerifiedModel
from maze_dla.analysis import as_residual_model, attribute, logit_lens, token_lens
from maze_dla.engine.metrics import logit
from maze_dla.engine.prompts import PromptBatch
from maze_dla.engine.sites import EMBEDDINGS, LOGITS, Site
from maze_dla.errors import CompletenessError, InputError, ModelError

from .small_models import (
    D_VOCAB,
    HOOKED,
    MODERN,
    hooked_view,
    inner,
    make_batch,
    make_model,
    micro_batches,
    random_metric,
    shared_model,
)

PLAIN: dict[str, Any] = {
    "LN": {},
    "LN, float64": {"dtype": torch.float64},
    "one layer": {"n_layers": 1},
    "layers that use the room again": {"n_layers": 4, "d_mlp": 120},
    "heads that do not fill the stream": {"n_heads": 5, "d_head": 3},
    "LNPre": {"normalization_type": "LNPre"},
    "RMS": {"normalization_type": "RMS"},
    "RMSPre": {"normalization_type": "RMSPre"},
    "no norm": {"normalization_type": None, "dtype": torch.float64},
    "attention only": {"attn_only": True},
    "relu": {"act_fn": "relu"},
    "gelu_new": {"act_fn": "gelu_new"},
    "silu": {"act_fn": "silu"},
}


def prefixes() -> PromptBatch:
    """Reads at several places of some sequences, and sequences that begin alike."""
    generator = torch.Generator().manual_seed(5)
    sequences = torch.randint(D_VOCAB, (5, 24), generator=generator)
    sequences[1, :17] = sequences[0, :17]
    sequences[3, :20] = sequences[0, :20]
    sequences[4] = sequences[2]
    lengths = [24, 22, 9, 24, 9]
    return PromptBatch(
        sequences=sequences,
        sequence_lengths=torch.tensor(lengths),
        sequence_of=torch.tensor([3, 0, 1, 0, 2, 0, 4, 3]),
        read_positions=torch.tensor([23, 5, 21, 23, 8, 0, 6, 3]),
        targets=torch.randint(D_VOCAB, (8,), generator=generator),
        d_vocab=D_VOCAB,
        sequence_labels=tuple(tuple(map(str, row[:n])) for row, n in zip(sequences.tolist(), lengths, strict=True)),
    )


def nothing_shared() -> PromptBatch:
    """Sequences of one length that begin differently: every place stands for itself."""
    ids = [[first, *range(1, 16)] for first in range(4)]
    return PromptBatch.from_tokens(ids, [3, 1, 4, 1], d_vocab=D_VOCAB)


BATCHES = {"prompts apart": make_batch, "prefixes": prefixes, "nothing shared": nothing_shared}


def everything(model: Any, batch: PromptBatch, engine: Any) -> dict[str, Tensor]:
    """Every array of every result."""
    metric = random_metric(batch)
    results = {
        "attribute": attribute(model, batch, metric, neurons=True, sources=True, forward=engine),
        "final": logit_lens(model, batch, metric, forward=engine),
        "own": logit_lens(model, batch, metric, "own", forward=engine),
        "tokens": token_lens(model, batch, forward=engine),
        "final tokens": token_lens(model, batch, scale="final", forward=engine),
        "all positions": token_lens(model, batch, positions="all", forward=engine),
    }
    return {
        f"{name}.{f.name}": value.double()
        for name, result in results.items()
        for f in fields(result)
        if isinstance(value := getattr(result, f.name), Tensor) and f.name not in ("gap", "top_ids", "target_rank")
    }


@pytest.mark.parametrize("kind", BATCHES)
@pytest.mark.parametrize("name", PLAIN)
def test_both_engines_agree(name: str, kind: str) -> None:
    model, batch = shared_model(**PLAIN[name]), BATCHES[kind]()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        own, hooked = (everything(model, batch, engine) for engine in ("auto", "hooked"))
    assert own.keys() == hooked.keys()
    for key, expected in hooked.items():
        assert own[key].shape == expected.shape, key
        size = max(1.0, float(expected.nan_to_num().abs().max()))
        assert torch.equal(own[key].isnan(), expected.isnan()), key
        apart = float((own[key] - expected).nan_to_num().abs().max())
        assert apart < 1e-5 * size, f"{key}: {apart:.1e} of {size:.3g}"


HAVE = sorted(hooked_view(shared_model()).sites - {"added"})


@pytest.mark.parametrize("position", ["read", "all"])
@pytest.mark.parametrize("name", HAVE)
def test_both_passes_record_every_site_and_nothing_else(name: str, position: Any) -> None:
    """Also one head of it, and after the pass has gone on, which adds to what it has in place."""
    micro = micro_batches(prefixes(), 7)[0]
    layers = [None] if name in EMBEDDINGS else [0, 1]
    sites = [Site(name, layer, position=position) for layer in layers]
    views = [as_residual_model(shared_model(), forward) for forward in ("auto", "hooked")]
    at_read = replace(sites[0], position="read")
    if views[1].forward(micro, [at_read])[at_read].ndim > 2:  # it has heads
        sites += [replace(site, head=1) for site in sites]
    own, hooked = (view.forward(micro, sites) for view in views)
    assert set(own) == set(hooked) == set(sites)
    read = torch.zeros(micro.tokens.shape, dtype=torch.bool)
    for row, stop in zip(micro.rows.tolist(), (micro.positions + 1).tolist(), strict=True):
        read[row, :stop] = True
    for site, expected in hooked.items():
        seen = own[site]
        assert seen.shape == (expected.shape if expected.shape[0] > 1 else (len(read), *expected.shape[1:])), site
        if position == "all":  # what lies after the last read position may be anything
            seen, expected = (x.expand_as(seen) for x in (seen, expected))
            if name == "pattern" and site.head is None:
                seen, expected = seen.transpose(1, 2), expected.transpose(1, 2)
            seen, expected = seen[read], expected[read]
        torch.testing.assert_close(seen, expected, rtol=1e-5, atol=1e-5)


def test_a_site_that_a_model_lacks_is_named() -> None:
    micro = micro_batches(make_batch(), 7)[0]
    view = as_residual_model(shared_model(attn_only=True))
    for site in (Site("mlp_out", 0), Site("neurons", 1), Site("nonsense", 0)):
        assert site.name not in view.sites
        with pytest.raises(ModelError, match=f"layer {site.layer} did not show"):
            view.forward(micro, [site])


@pytest.mark.parametrize("forward", ["auto", "hooked"])
@pytest.mark.parametrize(
    "site",
    [
        *(Site("z"), Site("z", 2), Site("z", -1), Site("z", 0, head=3), Site("resid_pre", 1, head=0), Site("embed", 1)),
        *(Site("attn_out", 0, head=1, position="all"), Site("z", 0, head=3, position="all")),
    ],
    ids=str,
)
def test_layers_and_heads_that_are_not_there(site: Site, forward: Any) -> None:
    """An array that nothing was written to would hold any numbers."""
    micro, view = micro_batches(make_batch(), 7)[0], as_residual_model(shared_model(), forward)
    with pytest.raises(ModelError, match=rf"has no {re.escape(str(site))}|layer {site.layer} did not show"):
        view.forward(micro, [site])


def test_that_comparison_sees_a_difference() -> None:
    model, batch = make_model(), make_batch()
    before = everything(model, batch, "auto")
    with torch.no_grad():
        inner(model.blocks[1].ln2).weight.mul_(1.001) if not HOOKED else model.blocks[1].ln2.w.mul_(1.001)
    after = everything(model, batch, "auto")
    assert max(float((before[k] - after[k]).nan_to_num().abs().max()) for k in before) > 1e-4


@pytest.mark.parametrize("name", PLAIN)
def test_plain_models_are_read_by_the_own_pass(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond one check the model itself is not run."""
    model, batch = shared_model(**PLAIN[name]), make_batch()
    ran: list[tuple[int, ...]] = []
    forward = HookedModel.__call__

    def counted(self: Any, micro: Any, sites: Any) -> Any:
        ran.append(tuple(micro.tokens.shape))
        return forward(self, micro, sites)

    monkeypatch.setattr(HookedModel, "__call__", counted)
    attribute(model, batch, random_metric(batch), sequences_at_once=2)
    assert ran == [(1, 40)]  # the longest sequence of the first piece


CONFIG = vars(shared_model().cfg)
LOCAL = {"use_local_attn": True, "window_size": 3, "attn_types": ["local", "local"]}
NOT_PLAIN: dict[str, Any] = {
    "rotary, gated, grouped": MODERN,
    "half precision": {"dtype": torch.bfloat16},
    **({"parallel": {"parallel_attn_mlp": True}, "local attention": LOCAL} if HOOKED else {}),
    **({"clipped": {"clip_qkv": 6.0}} if HOOKED and "clip_qkv" in CONFIG else {}),
}


@pytest.mark.parametrize("name", NOT_PLAIN)
def test_other_models_are_run_themselves(name: str) -> None:
    model = make_model(**NOT_PLAIN[name])
    assert own_decoder(model, hooked_view(model).weights) is None
    assert isinstance(as_residual_model(model).forward, HookedModel)


def test_hooks_of_the_users_own_are_heard() -> None:
    """Also those that the compared sequence would not notice."""
    model, batch = make_model(), make_batch()
    metric = random_metric(batch)
    free = attribute(model, batch, metric)

    def silenced(z: Tensor, hook: Any) -> Tensor:
        return z if z.shape[1] >= 40 else 0 * z

    with model.hooks(fwd_hooks=[("blocks.0.attn.hook_z", silenced)]):
        ablated = attribute(model, batch, metric, sequences_at_once=1)
        expected = attribute(model, batch, metric, forward="hooked", sequences_at_once=1)
    assert torch.equal(ablated.heads, expected.heads)
    assert not torch.allclose(ablated.metric, free.metric)
    assert torch.equal(attribute(model, batch, metric).metric, free.metric)


def test_torchs_own_hooks_are_heard_too() -> None:
    """A change to token 7 alone, which the compared sequence does not have."""
    model = make_model()
    batch = PromptBatch.from_tokens([[1, 2, 3, 4, 5, 6], [1, 7, 2], [7], [3, 7]], [1, 2, 3, 4], d_vocab=D_VOCAB)
    model(torch.tensor([[1, 2]]))
    assert isinstance(as_residual_model(model).forward, VerifiedModel)

    def ablate(module: Any, tokens: Any, out: Tensor) -> Tensor:
        return out * (tokens[0] != 7)[..., None]

    handle = inner(model.embed).register_forward_hook(ablate)
    own, hooked = (logit_lens(model, batch, random_metric(batch), forward=engine) for engine in ("auto", "hooked"))
    assert torch.equal(own.values, hooked.values)
    handle.remove()
    assert not torch.allclose(logit_lens(model, batch, random_metric(batch)).values, hooked.values, atol=1e-3)


def test_a_model_that_does_something_else_than_its_weights_say_is_run_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = make_model(), make_batch()
    metric = random_metric(batch)
    component = type(inner(model.blocks[1].attn))
    forward = component.forward

    def twice(*args: Any, **kwargs: Any) -> Any:
        out = forward(*args, **kwargs)
        return (2 * out[0], *out[1:]) if isinstance(out, tuple) else 2 * out

    monkeypatch.setattr(component, "forward", twice)
    with pytest.warns(UserWarning, match=r"gives other logits than the model, by .* the model itself is run instead"):
        seen = logit_lens(model, batch, metric)
    expected = logit_lens(model, batch, metric, forward="hooked")
    assert torch.equal(seen.values, expected.values)


@pytest.mark.parametrize("size", [1e-3, 1e-6])
def test_the_comparison_allows_1e_4(size: float, monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = shared_model(), make_batch()

    def shifted(itself: Any, weights: Any) -> Any:
        found = own_decoder(itself, weights)
        assert found is not None
        logits = hooked_view(model).forward(micro_batches(batch, 1)[0], [LOGITS])[LOGITS]
        spread = float((logits - logits.mean()).abs().max())
        assert weights.b_U is not None
        return replace(found, weights=replace(weights, b_U=weights.b_U + size * spread))

    monkeypatch.setattr(view, "own_decoder", shifted)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        attribute(model, batch, random_metric(batch))
    assert sum("gives other logits" in str(warning.message) for warning in caught) == (size > 1e-4)


def test_a_large_vocabulary_is_compared_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's model keeps its unembedding, and one that does something else is found out."""
    model = make_model(d_vocab=5000)
    batch = PromptBatch.from_tokens([[1, 4999, 3], [7, 2]], [4998, 3], d_vocab=5000)
    metric = random_metric(batch)
    before = {name: id(weight) for name, weight in model.named_parameters()}
    narrow = verified._of_few_tokens(model)  # what TransformerLens 2 and 3 would copy; a bridge copies nothing
    assert narrow.unembed.W_U.shape == (24, 4096) if HOOKED else narrow is model
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        own, hooked = (attribute(model, batch, metric, forward=engine) for engine in ("auto", "hooked"))
    assert torch.allclose(own.heads, hooked.heads, atol=1e-5)
    assert {name: id(weight) for name, weight in model.named_parameters()} == before
    component = type(inner(model.unembed))
    forward = component.forward
    monkeypatch.setattr(component, "forward", lambda self, x: 1.01 * forward(self, x))
    with pytest.warns(UserWarning, match="gives other logits than the model"), pytest.raises(CompletenessError):
        attribute(model, batch, metric)  # nor do the model's own logits add up then


def test_an_unknown_engine_is_refused() -> None:
    batch = make_batch()
    with pytest.raises(InputError, match="forward is 'auto' or 'hooked', got 'fast'"):
        attribute(shared_model(), batch, random_metric(batch), forward="fast")


def test_a_model_with_dropout_is_run_itself() -> None:
    model = make_model()
    model.blocks[0].add_module("dropped", torch.nn.Dropout(0.1))
    model.train()
    assert isinstance(as_residual_model(model).forward, HookedModel)
    model.eval()
    assert isinstance(as_residual_model(model).forward, VerifiedModel)


@pytest.mark.parametrize("bias", [0.0, -1e4, -1e5, -1e9, -torch.inf])
def test_tokens_that_are_masked_away_hide_no_difference(bias: float, monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = make_model(), make_batch()
    unused = next(t for t in range(D_VOCAB) if t not in batch.targets.tolist())
    with torch.no_grad():
        b_U = model.b_U if HOOKED else model.unembed.original_component.bias
        b_U[unused] = bias
    component = type(inner(model.blocks[1].attn))
    forward = component.forward

    def louder(*args: Any, **kwargs: Any) -> Any:
        out = forward(*args, **kwargs)
        return (1.2 * out[0], *out[1:]) if isinstance(out, tuple) else 1.2 * out

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        attribute(model, batch, logit(batch))
    monkeypatch.setattr(component, "forward", louder)
    with pytest.warns(UserWarning, match="gives other logits than the model"):
        seen = logit_lens(model, batch, logit(batch))
    assert seen.values.equal(logit_lens(model, batch, logit(batch), forward="hooked").values)


def test_a_view_that_is_used_again_sees_hooks_and_weights_as_they_are() -> None:
    model, batch = make_model(), make_batch()
    view = as_residual_model(model)
    before = attribute(view, batch, logit(batch))
    model.add_hook("blocks.0.attn.hook_z", lambda z, hook: 0 * z)
    for forward in ("auto", "hooked"):
        seen = attribute(view, batch, logit(batch), forward=forward)
        assert seen.heads[:, 0].abs().max() == 0
    model.reset_hooks()
    with torch.no_grad():
        next(model.blocks[0].parameters()).mul_(1.5)
    seen, expected = (attribute(m, batch, logit(batch)) for m in (view, model))
    assert seen.metric.equal(expected.metric)
    assert seen.info["sha256"] == expected.info["sha256"] != before.info["sha256"]
