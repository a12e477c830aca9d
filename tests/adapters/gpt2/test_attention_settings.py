"""GPT-2 models as their configs and modes say: attention settings that are not the usual ones, and dropout."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel  # pyright: ignore[reportAttributeAccessIssue] (a lazy module)

import maze_dla as dla
from maze_dla.adapters.gpt2.load import load_gpt2
from maze_dla.adapters.transformer_lens.hooked import HookedModel
from maze_dla.adapters.transformer_lens.verified import VerifiedModel
from maze_dla.analysis import as_residual_model
from maze_dla.errors import ModelError

HAS_BRIDGES = find_spec("transformer_lens.model_bridge") is not None
TOKENS = torch.tensor([[0, 5, 3, 8, 1, 40, 7, 2]])


def saved(folder: Path, **settings: Any) -> GPT2LMHeadModel:
    """A random model whose attention is far from even, so that its scale matters."""
    sizes = {"vocab_size": 60, "n_positions": 16, "n_embd": 24, "n_layer": 3, "n_head": 3}
    config = GPT2Config(**sizes, **settings, bos_token_id=0, eos_token_id=0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = GPT2LMHeadModel(config).eval()
        for name, weight in model.named_parameters():
            if "c_attn.weight" in name:
                torch.nn.init.normal_(weight, std=0.7)
    model.save_pretrained(folder)
    return model


def by_hand(model: GPT2LMHeadModel) -> torch.Tensor:
    """Logits with attention written out from the settings of the config."""
    cfg, body = model.config, model.transformer
    x = body.wte(TOKENS) + body.wpe(torch.arange(TOKENS.shape[1]))
    future = torch.ones(TOKENS.shape[1], TOKENS.shape[1], dtype=torch.bool).triu(1)
    for i, block in enumerate(body.h):
        q, k, v = block.attn.c_attn(block.ln_1(x)).unflatten(-1, (3, cfg.n_head, -1)).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-1, -2)
        scores = scores / q.shape[-1] ** 0.5 if cfg.scale_attn_weights else scores
        scores = scores / (i + 1) if cfg.scale_attn_by_inverse_layer_idx else scores
        z = scores.masked_fill(future, -torch.inf).softmax(-1) @ v
        x = x + block.attn.c_proj(z.transpose(1, 2).flatten(2))
        x = x + block.mlp(block.ln_2(x))
    return model.lm_head(body.ln_f(x))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"scale_attn_by_inverse_layer_idx": True},
        {"scale_attn_weights": False},
        {"scale_attn_by_inverse_layer_idx": True, "scale_attn_weights": False},
    ],
    ids=["usual", "by layer", "unscaled", "both"],
)
@torch.no_grad()
def test_attention_is_scaled_as_the_config_says(settings: dict[str, bool], tmp_path: Path) -> None:
    expected = by_hand(saved(tmp_path, **settings))
    usual = by_hand(saved(tmp_path / "usual"))
    assert not settings or float((expected - usual).abs().max()) > 0.01
    if HAS_BRIDGES and not settings.get("scale_attn_weights", True):
        with pytest.raises(ModelError, match="does not compute what the architecture asks for"):
            load_gpt2(tmp_path)
        return
    model = load_gpt2(tmp_path)
    torch.testing.assert_close(model(TOKENS), expected, rtol=0, atol=1e-4)
    batch = dla.PromptBatch.from_tokens(TOKENS.tolist(), [3], d_vocab=60)
    for engine in ("auto", "hooked"):
        metric = dla.attribute(model, batch, dla.logit(batch), forward=engine).metric
        torch.testing.assert_close(metric, expected[0, -1, 3][None], rtol=0, atol=1e-4)


@pytest.mark.parametrize("engine", ["auto", "hooked"])
def test_dropout_of_every_kind_is_off(engine: str, tmp_path: Path) -> None:
    """Also where a bridge has no component for it, as after the embeddings."""
    saved(tmp_path)
    model = load_gpt2(tmp_path)
    expected = model(TOKENS)[0, -1, 3].detach()[None]
    wrapped = vars(model).get("original_model", model)
    dropouts = [part for part in (*model.modules(), *wrapped.modules()) if isinstance(part, torch.nn.Dropout)]
    for part in (model, *dropouts):
        part.train()
    batch = dla.PromptBatch.from_tokens(TOKENS.tolist(), [3], d_vocab=60)
    for _ in range(3):
        metric = dla.attribute(model, batch, dla.logit(batch), forward=engine).metric
        torch.testing.assert_close(metric, expected, rtol=0, atol=1e-4)
        lens = dla.logit_lens(model, batch, dla.logit(batch), "own", forward=engine).values
        torch.testing.assert_close(lens[:, -1], expected, rtol=0, atol=1e-4)
    assert all(part.training for part in dropouts)
    if dropouts:
        assert not torch.equal(model(TOKENS), model(TOKENS))


def test_the_own_pass_is_used_again_once_activations_were_cached(tmp_path: Path) -> None:
    """transformers leaves hooks of its own in a model whose outputs were captured once."""
    saved(tmp_path)
    model = load_gpt2(tmp_path)
    batch = dla.PromptBatch.from_tokens(TOKENS.tolist(), [3], d_vocab=60)
    before = dla.attribute(model, batch, dla.logit(batch))
    model.run_with_cache(TOKENS)
    assert isinstance(as_residual_model(model).forward, VerifiedModel)
    assert dla.attribute(model, batch, dla.logit(batch)).heads.equal(before.heads)
    handle = vars(model).get("original_model", model).register_forward_hook(lambda *_: None)
    assert isinstance(as_residual_model(model).forward, HookedModel)
    handle.remove()
