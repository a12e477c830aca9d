"""Models of many architectures, against what Hugging Face's own modules say."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch

import maze_dla as dla
from maze_dla.errors import ModelError

sources = pytest.importorskip(
    "transformer_lens.model_bridge.sources", reason="this version of TransformerLens has no bridges to Hugging Face"
)

from .hugging_face_models import ARCHITECTURES, POST_NORMS, VOCAB, Architecture, Caught, random_model  # noqa: E402

PROMPTS = [[3, 9, 14, 5, 8], [7, 7, 20, 33, 41, 5, 6, 58, 12], [4, 60, 11]]


def bridge(architecture: Architecture) -> Any:
    hf = random_model(architecture)
    return sources.build_bridge_from_module(hf, type(hf).__name__, hf_config=hf.config, model_name="small").eval()


@cache
def case(name: str) -> tuple[dla.AttributionResult, dla.LensResult, list[Caught], torch.Tensor]:
    """The library's result and lens, what was caught, and the metric's coefficients."""
    architecture = ARCHITECTURES[name]
    batch = dla.PromptBatch.from_tokens(PROMPTS, targets=[5, 6, 7], d_vocab=VOCAB)
    metric, model = dla.correct_vs_other(batch), bridge(architecture)
    result = dla.attribute(model, batch, metric, neurons=True, sources=True)
    lens = dla.logit_lens(model, batch, metric, scale="own")
    caught = [Caught(random_model(architecture), architecture, ids) for ids in PROMPTS]
    return result, lens, caught, metric.coefficients()


def check_the_model_itself(name: str) -> None:
    """Some versions of TransformerLens compute something else than Hugging Face for some architectures."""
    hf, model = random_model(ARCHITECTURES[name]), bridge(ARCHITECTURES[name])
    tokens = torch.tensor(PROMPTS[:1])
    with torch.no_grad():
        difference = float((hf(tokens).logits - model(tokens)).abs().max())
    if difference > 1e-4:
        pytest.skip(f"this version of TransformerLens has other logits than Hugging Face, by {difference:.1g}")


def close(seen: torch.Tensor, expected: list[torch.Tensor]) -> None:
    assert float(torch.stack(expected).abs().max()) > 1e-3
    torch.testing.assert_close(seen.double(), torch.stack(expected), rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_metric_heads_and_neurons(name: str) -> None:
    check_the_model_itself(name)
    result, _, caught, c = case(name)
    with torch.no_grad():
        close(result.metric, [one.logits @ w for one, w in zip(caught, c, strict=True)])
        n_heads = result.heads.shape[2]
        for layer in range(2):
            each = list(zip(caught, c, strict=True))
            close(result.heads[:, layer], [one.add(one.heads(layer, n_heads), w) for one, w in each])
            close(result.neurons[:, layer], [one.add(one.neurons(layer), w) for one, w in each])  # pyright: ignore


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_depths_are_those_of_the_architecture(name: str) -> None:
    result, lens, _, _ = case(name)
    middle = () if "parallel" in name or name.startswith("Falcon") else ("0_mid", "1_mid")
    assert set(lens.labels) == {"0_pre", "1_pre", "final_post", *middle}
    assert result.lens().labels == lens.labels
    torch.testing.assert_close(lens.values[:, -1], result.metric, rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", POST_NORMS)
def test_norms_behind_attention_or_mlp_are_refused_by_name(name: str) -> None:
    model = bridge(POST_NORMS[name])
    batch = dla.PromptBatch.from_tokens(PROMPTS, targets=[5, 6, 7], d_vocab=VOCAB)
    with pytest.raises(ModelError, match=r"a norm behind attention or MLP \((ln1_post and ln2_post|post_feedforward)"):
        dla.attribute(model, batch, dla.logit(batch))
