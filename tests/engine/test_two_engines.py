"""The engine's own forward pass gives the model's numbers, or it is not used."""

from __future__ import annotations

import warnings
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from maze_dla.adapters.transformer_lens import TransformerLensModel, engines, reader, residual_model
from maze_dla.adapters.transformer_lens.engines import CheckedModel
from maze_dla.adapters.transformer_lens.plain import plain_decoder
from maze_dla.analysis import attribute, logit_lens, token_lens
from maze_dla.engine.model import Wanted
from maze_dla.engine.prompts import PromptBatch
from maze_dla.errors import CompletenessError, InputError

from .small_models import D_VOCAB, HOOKED, MODERN, inner, make_batch, make_model, plans, random_metric, shared_model

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
        "attribute": attribute(model, batch, metric, neurons=True, sources=True, engine=engine),
        "final": logit_lens(model, batch, metric, engine=engine),
        "own": logit_lens(model, batch, metric, "own", engine=engine),
        "tokens": token_lens(model, batch, engine=engine),
        "final tokens": token_lens(model, batch, scale="final", engine=engine),
        "all positions": token_lens(model, batch, positions="all", engine=engine),
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


WANTED = [Wanted(**{f.name: True}) for f in fields(Wanted)] + [Wanted()]


@pytest.mark.parametrize("wanted", WANTED, ids=str)
def test_what_was_not_asked_for_is_empty(wanted: Wanted) -> None:
    plan = plans(make_batch(), 7)[0]
    for engine in ("auto", "hooked"):
        reads = reader(shared_model(), engine).read(plan.tokens, plan.rows, plan.positions, wanted)
        filled = {f.name for f in fields(reads) if not isinstance(value := getattr(reads, f.name), Tensor) and value}
        expected = {
            *(("embeddings", "attn_out", "mlp_out", "z") if wanted.components else ()),
            *(("neurons",) if wanted.neurons else ()),
            *(("values", "patterns") if wanted.sources else ()),
        }
        assert filled == {*expected, "depths"}  # of which the last is always there, and what checks need
        assert len(reads.depths) == 5 if wanted.depths else len(reads.depths) <= 2


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
    read = TransformerLensModel.read

    def counted(self: Any, tokens: Tensor, *more: Any) -> Any:
        ran.append(tuple(tokens.shape))
        return read(self, tokens, *more)

    monkeypatch.setattr(TransformerLensModel, "read", counted)
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
    view = residual_model(make_model(**NOT_PLAIN[name]))
    assert isinstance(view, TransformerLensModel)
    assert plain_decoder(view) is None
    assert type(reader(view.model)) is TransformerLensModel


def test_hooks_of_the_users_own_are_heard() -> None:
    """Also those that the compared sequence would not notice."""
    model, batch = make_model(), make_batch()
    metric = random_metric(batch)
    free = attribute(model, batch, metric)

    def silenced(z: Tensor, hook: Any) -> Tensor:
        return z if z.shape[1] >= 40 else 0 * z

    with model.hooks(fwd_hooks=[("blocks.0.attn.hook_z", silenced)]):
        ablated = attribute(model, batch, metric, sequences_at_once=1)
        expected = attribute(model, batch, metric, engine="hooked", sequences_at_once=1)
    assert torch.equal(ablated.heads, expected.heads)
    assert not torch.allclose(ablated.metric, free.metric)
    assert torch.equal(attribute(model, batch, metric).metric, free.metric)


def test_torchs_own_hooks_are_heard_too() -> None:
    """What is done to token 7 alone, which the compared sequence does not have."""
    model = make_model()
    batch = PromptBatch.from_tokens([[1, 2, 3, 4, 5, 6], [1, 7, 2], [7], [3, 7]], [1, 2, 3, 4], d_vocab=D_VOCAB)
    model(torch.tensor([[1, 2]]))
    assert isinstance(reader(model), CheckedModel)

    def ablate(module: Any, tokens: Any, out: Tensor) -> Tensor:
        return out * (tokens[0] != 7)[..., None]

    handle = inner(model.embed).register_forward_hook(ablate)
    own, hooked = (logit_lens(model, batch, random_metric(batch), engine=engine) for engine in ("auto", "hooked"))
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
    expected = logit_lens(model, batch, metric, engine="hooked")
    assert torch.equal(seen.values, expected.values)


@pytest.mark.parametrize("size", [1e-3, 1e-6])
def test_the_comparison_allows_1e_4(size: float, monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = shared_model(), make_batch()
    decoder = engines.plain_decoder

    def shifted(view: TransformerLensModel) -> Any:
        found = decoder(view)
        assert found is not None
        logits = residual_model(model).read(*_longest(batch), Wanted()).logits
        spread = float((logits - logits.mean()).abs().max())
        assert found.b_U is not None
        return replace(found, b_U=found.b_U + size * spread)

    monkeypatch.setattr(engines, "plain_decoder", shifted)
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
    narrow = engines._of_few_tokens(model)  # what TransformerLens 2 and 3 would copy; a bridge copies nothing
    assert narrow.unembed.W_U.shape == (24, 4096) if HOOKED else narrow is model
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        own, hooked = (attribute(model, batch, metric, engine=engine) for engine in ("auto", "hooked"))
    assert torch.allclose(own.heads, hooked.heads, atol=1e-5)
    assert {name: id(weight) for name, weight in model.named_parameters()} == before
    component = type(inner(model.unembed))
    forward = component.forward
    monkeypatch.setattr(component, "forward", lambda self, x: 1.01 * forward(self, x))
    with pytest.warns(UserWarning, match="gives other logits than the model"), pytest.raises(CompletenessError):
        attribute(model, batch, metric)  # nor do the model's own logits add up then


def _longest(batch: PromptBatch) -> tuple[Tensor, Tensor, Tensor]:
    plan = plans(batch, 1)[0]
    return plan.tokens, plan.rows, plan.positions


def test_an_unknown_engine_is_refused() -> None:
    batch = make_batch()
    with pytest.raises(InputError, match="engine is 'auto' or 'hooked', got 'fast'"):
        attribute(shared_model(), batch, random_metric(batch), engine="fast")


def test_a_model_with_dropout_is_run_itself() -> None:
    model = make_model()
    model.blocks[0].add_module("dropped", torch.nn.Dropout(0.1))
    model.train()
    assert type(reader(model)) is TransformerLensModel
    model.eval()
    assert isinstance(reader(model), CheckedModel)
