"""Random models and prompts of every kind, as hypothesis draws them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from maze_dla.analysis import as_residual_model
from tests.engine.small_models import HOOKED, new_bridge, new_hooked_transformer

try:
    from transformer_lens.model_bridge import sources
except ImportError:
    sources = None

N_CTX = 24
BOUNDS = {torch.float64: 1e-10, torch.float32: 1e-5}
"""How far a number may move, as a share of the prompt's largest part."""
PYTHIA = "Pythia, parallel"
SEEDS = st.integers(0, 2**31)

settings.register_profile(
    "properties",
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.generate],  # shrinking takes minutes where models are built anew, and they are small already
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


def few(n: int) -> Any:
    """So many examples, the same in every run."""
    return settings(settings.get_profile("properties"), max_examples=n)


@dataclass(frozen=True)
class RandomModel:
    """A random model: its settings and how its weights are drawn."""

    config: tuple[tuple[str, Any], ...]
    seed: int
    spread: float
    """The standard deviation of all weights but those of norms, which are spread around 1."""
    bias: float
    """The standard deviation of all biases; 0 for none."""

    @property
    def settings(self) -> dict[str, Any]:
        return dict(self.config)

    @property
    def d_vocab(self) -> int:
        return self.settings.get("d_vocab", 61)

    def built(self, dtype: torch.dtype = torch.float64) -> Any:
        """The model; its weights are those in float32, whatever the dtype."""
        if "architecture" in self.settings:
            model = _of_hugging_face(self.settings["architecture"], dtype)
        else:
            model = (new_hooked_transformer if HOOKED else new_bridge)(self.settings, dtype)
        return draw_weights(model, self)


Case = tuple[RandomModel, list[list[int]]]


def _of_hugging_face(name: str, dtype: torch.dtype) -> Any:
    from tests.adapters.transformer_lens.hugging_face_models import ARCHITECTURES, random_model

    hf = random_model(ARCHITECTURES[name]).to(dtype)
    return sources.build_bridge_from_module(hf, type(hf).__name__, hf_config=hf.config, model_name="small").eval()


def draw_weights(model: Any, drawn: RandomModel) -> Any:
    """Every weight of a model drawn anew, in place."""
    generator = torch.Generator().manual_seed(drawn.seed)
    b_U = getattr(model.unembed, "original_component", None)  # a bridge's may be a buffer of zeros
    named = dict(model.named_parameters())
    if b_U is not None and getattr(b_U, "bias", None) is not None:
        named["unembed.bias"] = b_U.bias
    with torch.no_grad():
        for name, tensor in sorted(named.items()):
            noise = torch.randn(tensor.shape, generator=generator)
            tensor.copy_(_scaled(name.rsplit(".", 1)[-1], noise, drawn))
    return model


def _scaled(name: str, noise: torch.Tensor, drawn: RandomModel) -> torch.Tensor:
    if name.startswith("b_") or name in ("b", "bias"):
        return drawn.bias * noise
    return 1 + 0.5 * noise if noise.ndim == 1 else drawn.spread * noise


@st.composite
def configs(draw: Any, norms: tuple[str, ...] = ("LN", "LNPre", "RMS", "RMSPre")) -> dict[str, Any]:
    """Sizes and features of a decoder: odd sizes, one head, one neuron, grouped keys, rotary positions."""
    rotary = draw(st.sampled_from([False, False, True]))
    n_heads = draw(st.integers(1, 4))
    chosen = {
        "n_layers": draw(st.integers(1, 3)),
        "n_heads": n_heads,
        "d_model": draw(st.sampled_from([3, 5, 8, 13])),
        "d_head": draw(st.sampled_from([2, 4] if rotary else [1, 2, 3, 5])),
        "d_mlp": draw(st.sampled_from([1, 7, 16])),
        "d_vocab": draw(st.integers(5, 11)),
        "n_ctx": N_CTX,
        "normalization_type": draw(st.sampled_from(norms)),
        "act_fn": draw(st.sampled_from(["gelu", "gelu_new", "relu", "silu", *(["solu_ln"] if HOOKED else [])])),
        "positional_embedding_type": "rotary" if rotary else "standard",
    }
    if draw(st.sampled_from([False, False, False, True])):
        chosen["n_key_value_heads"] = draw(st.sampled_from([n for n in range(1, n_heads + 1) if n_heads % n == 0]))
    more = draw(st.sampled_from(["", "", "", "attn_only", *(["parallel_attn_mlp"] if HOOKED else [])]))
    return {**chosen, **({more: True} if more else {})}


@st.composite
def models(draw: Any, most: float = 3.0, norms: tuple[str, ...] = ("LN", "LNPre", "RMS", "RMSPre")) -> RandomModel:
    """Random models; without a norm to hold them, numbers of wide ones would only be large."""
    config = draw(configs(norms))
    if not HOOKED and sources is not None and "RMS" in norms and draw(st.integers(0, 5)) == 0:
        config = {"architecture": PYTHIA}
    spread = draw(st.sampled_from([x for x in (0.02, 0.3, 1.0, 3.0) if x <= most]))
    bias = draw(st.sampled_from([x for x in (0.0, 0.3, 3.0) if x <= most]))
    return RandomModel(tuple(config.items()), draw(SEEDS), spread, bias)


def precision_of(model: Any) -> torch.dtype:
    """The dtype that a model's logits are computed in: some norms work in float32 inside a float64 model."""
    return as_residual_model(model).weights.precision


@st.composite
def prompts(draw: Any, d_vocab: int, fewest: int = 1, most: int = 6) -> list[list[int]]:
    """Prompts of 1 to 20 tokens: new ones, prefixes and continuations of others, some that begin alike."""
    found: list[list[int]] = []
    for _ in range(draw(st.integers(fewest, most))):
        kind = draw(st.sampled_from(["new", "prefix", "longer", "fork", "fork", "same"])) if found else "new"
        of = found[draw(st.integers(0, len(found) - 1))] if found else []
        fresh = torch.Generator().manual_seed(draw(SEEDS))
        length = draw(st.integers(1, 20))
        new = torch.randint(draw(st.integers(2, d_vocab)), (length,), generator=fresh).tolist()
        prefix = of[: 1 + length % max(len(of), 1)]
        made = {"new": new, "prefix": prefix, "longer": [*of, *new][:20], "fork": [*prefix, *new][:20], "same": of}
        found.append(list(made[kind]))
    return found


@st.composite
def cases(draw: Any, most: float = 3.0, **more: Any) -> tuple[RandomModel, list[list[int]]]:
    """A model and prompts for it."""
    model = draw(models(most))
    return model, draw(prompts(model.d_vocab, **more))


def narrow_cases() -> Any:
    """The same of models whose scores are so small that rounding in float32 is not amplified."""
    return cases(0.5)
