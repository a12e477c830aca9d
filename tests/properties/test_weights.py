"""The same function of the tokens, computed otherwise, has the same numbers: engine, precision, folded norms."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.engine.small_models import HOOKED, new_bridge, new_hooked_transformer

from .models import BOUNDS, N_CTX, SEEDS, Case, cases, few, narrow_cases, precision_of, prompts
from .numbers import assert_held, batch_of, coefficients_of, edited_numbers, metric_of, plain_numbers

State = dict[str, torch.Tensor]

# an own pass that is wrong would not be used
pytestmark = pytest.mark.filterwarnings("error:.*gives other logits than the model")


@few(8)
@given(cases(most=3.0))
def test_both_engines(case: Case) -> None:
    drawn, tokens = case
    model, batch = drawn.built(), batch_of(tokens, drawn.d_vocab)
    metric = metric_of(batch, coefficients_of(tokens, drawn.d_vocab))
    own, hooked = (plain_numbers(model, batch, metric, forward=engine) for engine in ("auto", "hooked"))
    assert_held(own, hooked, BOUNDS[precision_of(model)])


@few(4)
@given(cases(most=3.0))
def test_edits_by_both_engines(case: Case) -> None:
    drawn, tokens = case
    model, batch = drawn.built(), batch_of(tokens, drawn.d_vocab)
    metric = metric_of(batch, coefficients_of(tokens, drawn.d_vocab))
    largest = plain_numbers(model, batch, metric)["largest part"]
    reference = batch_of([*tokens, tokens[0][::-1], [1]], drawn.d_vocab)
    own, hooked = (edited_numbers(model, batch, metric, reference, forward=engine) for engine in ("auto", "hooked"))
    assert_held(own, hooked, BOUNDS[precision_of(model)], largest)


@few(8)
@given(narrow_cases())
def test_float32_is_float64_up_to_its_rounding(case: Case) -> None:
    drawn, tokens = case
    batch = batch_of(tokens, drawn.d_vocab)
    metric = metric_of(batch, coefficients_of(tokens, drawn.d_vocab))
    single, double = (plain_numbers(drawn.built(dtype), batch, metric) for dtype in (torch.float32, torch.float64))
    assert_held(single, double, BOUNDS[torch.float32])


@st.composite
def folded_twice(draw: Any) -> tuple[dict[str, Any], State]:
    """Sizes of a decoder with LayerNorm, and weights by TransformerLens's names."""
    sizes = {
        "n_layers": draw(st.integers(1, 3)),
        "n_heads": draw(st.integers(1, 4)),
        "d_model": draw(st.sampled_from([3, 5, 8])),
        "d_head": draw(st.sampled_from([1, 3, 4])),
        "d_mlp": draw(st.sampled_from([1, 7])),
        "d_vocab": draw(st.integers(5, 11)),
        "n_ctx": N_CTX,
        "act_fn": draw(st.sampled_from(["gelu", "relu", "silu"])),
    }
    spread, bias = draw(st.sampled_from([0.02, 0.3, 1.0, 3.0])), draw(st.sampled_from([0.0, 0.3, 3.0]))
    return sizes, random_state(sizes, draw(SEEDS), spread, bias)


def random_state(sizes: dict[str, Any], seed: int, spread: float, bias: float) -> State:
    h, d, e, m, v = (sizes[name] for name in ("n_heads", "d_model", "d_head", "d_mlp", "d_vocab"))
    shapes: dict[str, tuple[int, ...]] = {"embed.W_E": (v, d), "pos_embed.W_pos": (N_CTX, d)}
    for block in (f"blocks.{i}" for i in range(sizes["n_layers"])):
        shapes |= {f"{block}.{ln}.{x}": (d,) for ln in ("ln1", "ln2") for x in "wb"}
        shapes |= {f"{block}.attn.W_{x}": (h, d, e) for x in "QKV"} | {f"{block}.attn.W_O": (h, e, d)}
        shapes |= {f"{block}.attn.b_{x}": (h, e) for x in "QKV"} | {f"{block}.attn.b_O": (d,)}
        shapes |= {f"{block}.mlp.W_in": (d, m), f"{block}.mlp.b_in": (m,)}
        shapes |= {f"{block}.mlp.W_out": (m, d), f"{block}.mlp.b_out": (d,)}
    shapes |= {"ln_final.w": (d,), "ln_final.b": (d,), "unembed.W_U": (d, v), "unembed.b_U": (v,)}
    generator, state = torch.Generator().manual_seed(seed), {}
    for name, shape in shapes.items():
        noise = torch.randn(shape, generator=generator, dtype=torch.float64)
        last = name.rsplit(".", 1)[-1]
        state[name] = 1 + 0.5 * noise if last == "w" else (bias if last.startswith("b") else spread) * noise
    return state


def folded(state: State, n_layers: int) -> State:
    """The same function without the weights and biases of norms, which what follows them takes over."""
    s = dict(state)
    for block in (f"blocks.{i}" for i in range(n_layers)):
        w, b = s.pop(f"{block}.ln1.w"), s.pop(f"{block}.ln1.b")
        for x in "QKV":
            weight = s[f"{block}.attn.W_{x}"]
            s[f"{block}.attn.b_{x}"] = s[f"{block}.attn.b_{x}"] + torch.einsum("d,hde->he", b, weight)
            s[f"{block}.attn.W_{x}"] = w[:, None] * weight
        w, b = s.pop(f"{block}.ln2.w"), s.pop(f"{block}.ln2.b")
        s[f"{block}.mlp.b_in"] = s[f"{block}.mlp.b_in"] + b @ s[f"{block}.mlp.W_in"]
        s[f"{block}.mlp.W_in"] = w[:, None] * s[f"{block}.mlp.W_in"]
    w, b = s.pop("ln_final.w"), s.pop("ln_final.b")
    s["unembed.b_U"] = s["unembed.b_U"] + b @ s["unembed.W_U"]
    s["unembed.W_U"] = w[:, None] * s["unembed.W_U"]
    return s


def with_state(sizes: dict[str, Any], state: State, norm: str) -> Any:
    """A model in float64 with these weights."""
    settings = {**sizes, "normalization_type": norm}
    if HOOKED:
        model = new_hooked_transformer(settings, torch.float64)
        model.load_state_dict({**{k: v for k, v in model.state_dict().items() if k not in state}, **state})
        return model
    from transformer_lens.utilities.tl_checkpoint_conversion import convert_tl_checkpoint

    model = new_bridge(settings, torch.float64)
    model.load_state_dict(convert_tl_checkpoint(state, model.cfg), strict=True)
    return model


@few(8)
@given(folded_twice(), st.data())
def test_norms_folded_by_hand(drawn: tuple[dict[str, Any], State], data: Any) -> None:
    """The biases of norms go into those that follow; b_V stays in the heads, so that no contribution moves."""
    sizes, state = drawn
    tokens = data.draw(prompts(sizes["d_vocab"], most=4))
    batch = batch_of(tokens, sizes["d_vocab"])
    metric = metric_of(batch, coefficients_of(tokens, sizes["d_vocab"]))
    plain = plain_numbers(with_state(sizes, state, "LN"), batch, metric)
    without = with_state(sizes, folded(state, sizes["n_layers"]), "LNPre")
    assert_held(plain_numbers(without, batch, metric), plain, BOUNDS[torch.float64])
