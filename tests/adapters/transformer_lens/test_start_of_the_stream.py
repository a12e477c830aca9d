"""The parts of the residual stream before the first block, each by itself and under its own name."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import maze_dla as dla
from maze_dla.adapters.transformer_lens.embeddings import written_before_the_blocks
from maze_dla.results.measures import shares_of_the_metric, totals_of
from tests.engine.small_models import D_VOCAB, HOOKED, make_model

PROMPTS = [[3, 9, 14, 5, 8], [7, 7, 20, 3, 4, 5, 6, 18, 12], [4, 2, 11]]
STEERING = torch.linspace(-2, 2, 24, dtype=torch.float64).sin()


def asked() -> tuple[dla.PromptBatch, dla.LinearMetric]:
    batch = dla.PromptBatch.from_tokens(PROMPTS, targets=[5, 6, 7], d_vocab=D_VOCAB)
    return batch, dla.correct_vs_other(batch)


def contribution(model: Any, result: dla.AttributionResult, vectors: Tensor, metric: dla.LinearMetric) -> Tensor:
    """The contribution of vectors [prompt, d_model] to the metric through a LayerNorm at its recorded scale."""
    normed = (vectors - vectors.mean(-1, keepdim=True)) / result.final_scale[:, None] * model.ln_final.w
    return ((normed @ model.W_U) * metric.coefficients().double()).sum(-1)


def rows(weight: Tensor, index: list[int]) -> Tensor:
    return weight.detach()[torch.tensor(index)]


def close(seen: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(seen.double(), expected.detach().double(), rtol=1e-8, atol=1e-8)


def steer(model: Any, from_position: int = 0) -> None:
    def add(resid: Tensor, hook: Any) -> Tensor:
        resid = resid.clone()
        resid[:, from_position:] += STEERING
        return resid

    model.add_hook("blocks.0.hook_resid_pre", add)


def test_a_steering_vector_is_a_component_of_its_own() -> None:
    model, (batch, metric) = make_model(torch.float64), asked()
    steer(model)
    result = dla.attribute(model, batch, metric)
    assert result.layer_labels[:4] == ("embed", "pos_embed", "added", "0_attn_out")
    last, place = [ids[-1] for ids in PROMPTS], [len(ids) - 1 for ids in PROMPTS]
    close(result.layers[:, 0], contribution(model, result, rows(model.W_E, last), metric))
    W_pos = model.W_pos if hasattr(model, "W_pos") else model.pos_embed.weight  # some bridges have it there alone
    close(result.layers[:, 1], contribution(model, result, rows(W_pos, place), metric))
    close(result.layers[:, 2], contribution(model, result, STEERING.expand(3, -1), metric))
    close(result.layers.sum(1) + result.constant, result.metric)
    totals = totals_of(result)
    assert totals is not None
    written = shares_of_the_metric(totals, result.components)["written by embeddings"].top[0]
    close(written, result.layers[:, :3].double().sum(1).mean())
    lens = dla.logit_lens(model, batch, metric)
    assert result.lens().labels == lens.labels
    close(result.lens().values, lens.values)


@pytest.mark.parametrize("at_once", [1, 3])
def test_what_is_added_to_some_prompts_is_zero_for_the_others(at_once: int) -> None:
    model, (batch, metric) = make_model(torch.float64), asked()
    steer(model, from_position=6)
    result = dla.attribute(model, batch, metric, sequences_at_once=at_once)
    assert result.layer_labels[2] == "added"
    assert (result.layers[:, 2] != 0).tolist() == [False, True, False]
    close(result.lens().values, dla.logit_lens(model, batch, metric).values)


@pytest.mark.skipif(not HOOKED, reason="bridges have no shortformer positions")
def test_shortformer_positions_are_not_in_the_stream() -> None:
    model, (batch, metric) = make_model(torch.float64, positional_embedding_type="shortformer"), asked()
    result = dla.attribute(model, batch, metric)
    assert result.layer_labels[:2] == ("embed", "0_attn_out")
    last = [ids[-1] for ids in PROMPTS]
    close(result.layers[:, 0], contribution(model, result, rows(model.W_E, last), metric))
    close(result.lens().values, dla.logit_lens(model, batch, metric).values)


def test_computed_positions_are_not_the_token() -> None:
    """XGLM adds sinusoids that no hook shows."""
    sources = pytest.importorskip("transformer_lens.model_bridge.sources", reason="no bridges to Hugging Face here")
    from .tiny_models import tiny_model

    hf, ids = tiny_model("XGLMForCausalLM"), [3, 9, 14, 5, 8]
    tokens, start = hf.model.embed_tokens(torch.tensor([ids])), []
    hf.model.layers[0].register_forward_pre_hook(lambda module, given: start.append(given[0]))
    with torch.no_grad():
        hf(torch.tensor([ids]))
    model = sources.build_bridge_from_module(hf, type(hf).__name__, hf_config=hf.config, model_name="small").eval()
    batch = dla.PromptBatch.from_tokens([ids], targets=[5], d_vocab=61)
    metric = dla.correct_vs_other(batch)
    result = dla.attribute(model, batch, metric)
    assert result.layer_labels[:3] == ("embed", "added", "0_attn_out")
    seen = (
        contribution(model, result, tokens[:, -1], metric),
        contribution(model, result, (start[0] - tokens)[:, -1], metric),
    )
    torch.testing.assert_close(result.layers[:, :2].double(), torch.stack(seen, 1).double(), rtol=0, atol=1e-5)


def test_only_a_proportional_embedding_is_rescaled() -> None:
    generator = torch.Generator().manual_seed(0)
    embed, pos, other = torch.randn(3, 2, 8, generator=generator)
    factors = torch.tensor([[4.0], [0.5]])
    scaled = written_before_the_blocks({"embed": embed, "pos_embed": pos}, factors * embed + pos)
    assert list(scaled) == ["embed", "pos_embed"]
    torch.testing.assert_close(scaled["embed"], factors * embed)
    more = written_before_the_blocks({"embed": embed, "pos_embed": pos}, embed + pos + other)
    assert list(more) == ["embed", "pos_embed", "added"]
    assert torch.equal(more["embed"], embed)
    torch.testing.assert_close(more["added"], other)
    assert list(written_before_the_blocks({}, other)) == ["added"]
