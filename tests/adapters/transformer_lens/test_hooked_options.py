"""Options of `HookedTransformer` (TransformerLens 2 and 3): parts are those of its cache, through its own weights."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import pytest
import torch

import maze_dla as dla
from tests.engine import small_models

pytestmark = pytest.mark.skipif(
    version("transformer-lens") >= "4", reason="this version of TransformerLens has no HookedTransformer"
)

PROMPTS = [[3, 9, 14, 5, 8], [4, 2, 11]]
ATTENTION_ALONE = {"attn_only": True, "act_fn": None}
GATED = {"gated_mlp": True, "act_fn": "silu", "normalization_type": "RMS"}
OPTIONS: dict[str, dict[str, Any]] = {
    "experts": {"num_experts": 4, "experts_per_token": 2, **GATED},
    "experts, rotary": {"num_experts": 4, "experts_per_token": 2, "positional_embedding_type": "rotary", **GATED},
    "attention alone": ATTENTION_ALONE,
    "attention alone, no norm": {**ATTENTION_ALONE, "normalization_type": None},
    "attention alone, shortformer": {**ATTENTION_ALONE, "positional_embedding_type": "shortformer"},
    "shortformer": {"positional_embedding_type": "shortformer"},
    "alibi": {"positional_embedding_type": "alibi"},
    "parallel": {"parallel_attn_mlp": True},
    "RMS at the end": {"final_rms": True},
    "folded": {"normalization_type": "LNPre"},
    "local attention": {"use_local_attn": True, "window_size": 3, "attn_types": ["local", "global"]},
    "one key": {"n_key_value_heads": 1, "positional_embedding_type": "rotary"},
    "solu": {"act_fn": "solu_ln"},
}


@pytest.mark.parametrize("engine", ["auto", "hooked"])
@pytest.mark.parametrize("name", OPTIONS)
def test_parts_are_those_of_the_cache(name: str, engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(small_models, "HOOKED", True)
    model = small_models.make_model(**OPTIONS[name])
    batch = dla.PromptBatch.from_tokens(PROMPTS, targets=[5, 7], d_vocab=small_models.D_VOCAB)
    metric = dla.correct_vs_other(batch)
    result = dla.attribute(model, batch, metric, neurons=True, forward=engine)
    lens = dla.logit_lens(model, batch, metric, forward=engine)
    torch.testing.assert_close(result.lens().values, lens.values, rtol=1e-4, atol=1e-4)
    assert (result.neurons is None) == ("experts" in name or "alone" in name)
    weight = getattr(getattr(model, "ln_final", None), "w", 1.0)
    for i, (ids, c) in enumerate(zip(PROMPTS, metric.coefficients(), strict=True)):
        with torch.no_grad():
            logits, cache = model.run_with_cache(torch.tensor([ids]))
        final, normed = cache["blocks.1.hook_resid_post"][0, -1], "ln_final.hook_scale"
        scale = cache[normed][0, -1] if normed in cache else 1.0
        centred = not model.cfg.final_rms and str(model.cfg.normalization_type).startswith("LN")

        def add(vectors: torch.Tensor, centred=centred, scale=scale, c=c) -> torch.Tensor:
            vectors = vectors - vectors.mean(-1, keepdim=True) if centred else vectors
            return ((vectors / scale * weight) @ model.W_U @ c.to(vectors)).detach()

        parts = ["hook_attn_out"] if "alone" in name else ["hook_attn_out", "hook_mlp_out"]
        written = torch.stack([add(cache[f"blocks.{k}.{part}"][0, -1]) for k in range(2) for part in parts])
        first = result.layers.shape[1] - len(written)
        z = torch.stack([cache[f"blocks.{k}.attn.hook_z"][0, -1] for k in range(2)])
        heads = add(torch.einsum("lhe,lhed->lhd", z, torch.stack([block.attn.W_O for block in model.blocks])))
        rest = add(final) - written.sum()
        seen = result.layers[i, first:], result.heads[i], result.layers[i, :first].sum(), result.metric[i]
        expected = written, heads, rest, logits[0, -1] @ c.to(logits)
        for one, other in zip(seen, expected, strict=True):
            torch.testing.assert_close(one.double(), other.detach().double(), rtol=1e-4, atol=1e-4)
