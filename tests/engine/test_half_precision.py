"""Models in half precision: norms and sums in float32, and results that tables and files can hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from maze_dla.analysis import attribute, logit_lens, token_lens
from maze_dla.engine.metrics import logit_diff
from maze_dla.engine.model import Norm
from maze_dla.results.loading import load_result

from .small_models import D_VOCAB, hooked_view, make_batch, make_model, with_weights

HALF = [torch.float16, torch.bfloat16]


def loud_model(dtype: torch.dtype, factor: float = 3000.0) -> Any:
    """A model whose residual stream has entries of some thousands, whose squares float16 cannot hold."""
    model = make_model()
    with torch.no_grad():
        model.embed.W_E.mul_(factor)
    return model.to(dtype)


def residuals(model: Any, batch: Any) -> dict[str, Tensor]:
    """The stream at every depth of the first prompt, from the model's own cache."""
    tokens = batch.sequences[:1, : int(batch.lengths[0])]
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens)
    n = model.cfg.n_layers
    names = [f"blocks.{i}.hook_resid_{at}" for i in range(n) for at in ("pre", "mid")]
    return {name: cache[name][0, -1] for name in (*names, f"blocks.{n - 1}.hook_resid_post")}


def read(residual: Tensor, model: Any) -> np.ndarray:
    """The logits that a residual reads as, in numpy, in double precision."""
    x = residual.double().numpy()
    x = x - x.mean()
    x = x / np.sqrt((x**2).mean() + model.cfg.eps)
    w, b = (getattr(model.ln_final, name).detach().double().numpy() for name in ("w", "b"))
    return (x * w + b) @ model.W_U.detach().double().numpy() + model.b_U.detach().double().numpy()


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_every_depth_is_read_at_its_own_scale(dtype: torch.dtype) -> None:
    model, batch = loud_model(dtype), make_batch((6, 5))
    incorrect = (batch.targets + 1) % D_VOCAB
    stream = residuals(model, batch)
    assert max(float(x.abs().max()) for x in stream.values()) > 300
    logits = [read(x, model) for x in stream.values()]
    expected = [x[int(batch.targets[0])] - x[int(incorrect[0])] for x in logits]
    values = logit_lens(model, batch, logit_diff(batch, incorrect), scale="own").values[0]
    assert len({round(v, 3) for v in expected}) > 2  # no constant
    np.testing.assert_allclose(values.numpy(), expected, atol=0.02 * max(map(abs, expected)))


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_entropy_and_divergence(dtype: torch.dtype) -> None:
    model, batch = loud_model(dtype), make_batch((6, 5))
    logits = np.array([read(x, model) for x in residuals(model, batch).values()])
    log_probs = (
        logits
        - np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1, keepdims=True))
        - logits.max(1, keepdims=True)
    )
    entropy = -(np.exp(log_probs) * log_probs).sum(1)
    kl = (np.exp(log_probs[-1]) * (log_probs[-1] - log_probs)).sum(1)
    found = token_lens(model, batch)
    np.testing.assert_allclose(found.entropy[0].numpy(), entropy, rtol=0.03, atol=0.03)
    np.testing.assert_allclose(found.kl[0].numpy(), kl, rtol=0.05, atol=0.03)


def test_the_scale_of_a_large_half_precision_residual() -> None:
    x = torch.tensor([[3000.0, -1000.0, 500.0, 0.0]], dtype=torch.float16)
    expected = np.sqrt((x.double().numpy() ** 2).mean())
    assert float(Norm("rms", eps=0.0).scale(x)[0]) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("lens", ["logit", "token"])
def test_a_norm_that_is_not_the_models_is_refused_at_every_depth(lens: str) -> None:
    """The last depth is read at the recorded scale, so that only a comparison with the model's norm shows it."""
    from dataclasses import replace

    from maze_dla.errors import CompletenessError

    model, batch = make_model(), make_batch()
    with torch.no_grad():
        model.embed.W_E.mul_(1e-3)  # so that epsilon matters in early layers and hardly in the last
        model.pos_embed.W_pos.mul_(1e-3) if isinstance(getattr(model.pos_embed, "W_pos", None), Tensor) else None
    other = with_weights(model, final_norm=replace(hooked_view(model).weights.final_norm, eps=1e-2))
    metric = logit_diff(batch, (batch.targets + 1) % D_VOCAB)
    methods = {
        "logit": lambda: logit_lens(other, batch, metric, scale="own"),
        "token": lambda: token_lens(other, batch),
    }
    with pytest.raises(CompletenessError, match="the model's own final norm = the norm at each depth's own scale"):
        methods[lens]()


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_results_of_half_precision_are_tables_and_files(dtype: torch.dtype, tmp_path: Path) -> None:
    model, batch = make_model().to(dtype), make_batch()
    metric = logit_diff(batch, (batch.targets + 1) % D_VOCAB)
    single = attribute(make_model(), batch, metric)
    results = [
        attribute(model, batch, metric, neurons=True, sources=True),
        logit_lens(model, batch, metric, "own"),
        token_lens(model, batch),
        token_lens(model, batch, positions="all"),
    ]
    for i, result in enumerate(results):
        table = result.to_frame()
        assert len(table) > len(batch)
        loaded = load_result(result.save(tmp_path / f"{i}.zanj"))
        assert torch.equal(loaded.metric, result.metric)
        assert result.metric.dtype == torch.float32
    size = float(single.layers.abs().max())
    torch.testing.assert_close(results[0].heads, single.heads, rtol=0, atol=0.05 * size)


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_a_norm_that_counts_its_weight_from_one_adds_in_float32(dtype: torch.dtype) -> None:
    """As Gemma's does: near 1, bfloat16 has steps of 1/128."""
    transformers = pytest.importorskip("transformers")
    sources = pytest.importorskip("transformer_lens.model_bridge.sources", reason="this version has no bridges")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.GemmaConfig(**sizes, head_dim=8, vocab_size=30, attn_implementation="eager")
    hf = transformers.GemmaForCausalLM(config).to(dtype).eval()
    weight = torch.linspace(0.001, 0.3, 16).to(dtype)
    hf.model.norm.weight.data.copy_(weight)
    model = sources.build_bridge_from_module(hf, "GemmaForCausalLM", hf_config=config, tokenizer=None)
    found = hooked_view(model).weights.final_norm.weight
    assert found is not None
    torch.testing.assert_close(found, 1 + weight.float(), rtol=0, atol=0)
