"""The same mathematics written out once more in float64, from the weights alone: no hooks, no pulling back.

Every part of the residual stream is a vector, and a part's contribution is found by pushing that vector forward
through the frozen norm and the unembedding. The library goes the other way round.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass
class Run:
    """One sequence through the model; all vectors are [position, d_model], sources [query, key, d_model]."""

    model: Any
    depths: dict[str, Tensor] = field(default_factory=dict)
    layers: dict[str, Tensor] = field(default_factory=dict)
    heads: list[list[Tensor]] = field(default_factory=list)
    sources: list[list[Tensor]] = field(default_factory=list)
    patterns: list[list[Tensor]] = field(default_factory=list)
    attn_bias: list[Tensor] = field(default_factory=list)
    neurons: list[Tensor] = field(default_factory=list)  # [position, neuron, d_model]
    mlp_bias: list[Tensor] = field(default_factory=list)

    @property
    def final(self) -> Tensor:
        return self.depths["final_post"]

    @property
    def logits(self) -> Tensor:
        return self.logits_at(self.final, self.scale_of(self.final))

    def scale_of(self, residual: Tensor) -> Tensor:
        return norm_scale(final_norm(self.model), residual, self.model.cfg)

    def logits_at(self, residual: Tensor, scale: Tensor) -> Tensor:
        """The logits of a residual [position, d_model] whose norm divides by the given scale [position]."""
        normed = normalize(final_norm(self.model), residual, scale, self.model.cfg)
        return normed @ self.model.W_U.detach().double() + self.model.b_U.detach().double()

    def contribution(self, vector: Tensor, coefficients: Tensor, position: int) -> Tensor:
        """The contribution of vectors [..., d_model] to the metric at a position, the norm frozen there."""
        kind = str(self.model.cfg.normalization_type).upper()
        if kind.startswith("LN"):
            vector = vector - vector.mean(-1, keepdim=True)
        weight = parameter(final_norm(self.model), "w")
        vector = vector if weight is None or kind.endswith("PRE") or kind == "NONE" else vector * weight
        logits = vector / self.scale_of(self.final)[position] @ self.model.W_U.detach().double()
        return logits @ coefficients


def run(model: Any, ids: list[int]) -> Run:
    """The forward pass."""
    out, tokens = Run(model), torch.tensor(ids)
    out.layers["embed"] = model.embed.W_E.detach().double()[tokens]
    residual = out.layers["embed"]
    if model.cfg.positional_embedding_type == "standard":
        out.layers["pos_embed"] = model.pos_embed.W_pos.detach().double()[: len(ids)]
        residual = residual + out.layers["pos_embed"]
    for i, block in enumerate(model.blocks):
        out.depths[f"{i}_pre"] = before = residual
        parallel = getattr(model.cfg, "parallel_attn_mlp", False)
        out.layers[f"{i}_attn_out"] = attention(out, block, own_norm(getattr(block, "ln1", None), residual, model.cfg))
        residual = residual + out.layers[f"{i}_attn_out"]
        if not model.cfg.attn_only:
            if not parallel:
                out.depths[f"{i}_mid"] = before = residual
            out.layers[f"{i}_mlp_out"] = mlp(out, block, own_norm(getattr(block, "ln2", None), before, model.cfg))
            residual = residual + out.layers[f"{i}_mlp_out"]
    out.depths["final_post"] = residual
    return out


def attention(out: Run, block: Any, x: Tensor) -> Tensor:
    """Each head's vector, and what it moved from each position, for every query."""
    cfg, attn = out.model.cfg, block.attn
    group = cfg.n_heads // (cfg.n_key_value_heads or cfg.n_heads)
    heads, sources, patterns = [], [], []
    for h in range(cfg.n_heads):
        q = x @ parameter(attn, "W_Q")[h] + parameter(attn, "b_Q")[h]
        own = h // group if len(attn.W_K) < cfg.n_heads else h  # some classes repeat grouped weights
        k = x @ parameter(attn, "W_K")[own] + parameter(attn, "b_K")[own]
        v = x @ parameter(attn, "W_V")[own] + parameter(attn, "b_V")[own]
        if cfg.positional_embedding_type == "rotary":
            q, k = rotate(q, cfg.rotary_base), rotate(k, cfg.rotary_base)
        scores = q @ k.T / cfg.d_head**0.5
        future = torch.arange(len(x))[None, :] > torch.arange(len(x))[:, None]
        weights = scores.masked_fill(future, -torch.inf).exp()
        pattern = weights / weights.sum(-1, keepdim=True)
        moved = pattern[:, :, None] * (v @ parameter(attn, "W_O")[h])[None]
        patterns.append(pattern)
        sources.append(moved)
        heads.append(moved.sum(1))
    out.heads.append(heads)
    out.sources.append(sources)
    out.patterns.append(patterns)
    out.attn_bias.append(parameter(attn, "b_O").expand(len(x), -1))
    return sum(heads) + out.attn_bias[-1]


def mlp(out: Run, block: Any, x: Tensor) -> Tensor:
    """Each neuron's vector."""
    W_in, W_gate, W_out = (parameter(block.mlp, name) for name in ("W_in", "W_gate", "W_out"))
    b_in, b_out = parameter(block.mlp, "b_in"), parameter(block.mlp, "b_out")
    if W_gate is not None:
        gate = x @ W_gate
        post = gate / (1 + (-gate).exp()) * (x @ W_in) + (0 if b_in is None else b_in)
    else:
        pre = x @ W_in + b_in
        post = pre * 0.5 * (1 + torch.erf(pre / 2**0.5))
    out.neurons.append(post[:, :, None] * W_out[None])
    out.mlp_bias.append(torch.zeros_like(x) if b_out is None else b_out.expand(len(x), -1))
    return post @ W_out + out.mlp_bias[-1]


def rotate(x: Tensor, base: float) -> Tensor:
    """Rotary embedding: neighbouring entries are a complex number that turns with the position."""
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
    speed = base ** (-torch.arange(0, x.shape[-1], 2).double() / x.shape[-1])
    angle = torch.arange(len(x)).double()[:, None] * speed
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(angle), angle)).flatten(-2)


def final_norm(model: Any) -> Any:
    """Some classes have none where none is asked for."""
    return getattr(model, "ln_final", None)


def own_norm(norm: Any, x: Tensor, cfg: Any) -> Tensor:
    return normalize(norm, x, norm_scale(norm, x, cfg), cfg)


def norm_scale(norm: Any, x: Tensor, cfg: Any) -> Tensor:
    """Root of the variance (LN) or of the mean square (RMS)."""
    kind = str(cfg.normalization_type).upper()
    if kind == "NONE":
        return torch.ones(x.shape[:-1], dtype=x.dtype)
    spread = x.var(-1, correction=0) if kind.startswith("LN") else (x * x).sum(-1) / x.shape[-1]
    return (spread + cfg.eps) ** 0.5


def normalize(norm: Any, x: Tensor, scale: Tensor, cfg: Any) -> Tensor:
    kind = str(cfg.normalization_type).upper()
    if kind == "NONE":
        return x
    x = (x - x.mean(-1, keepdim=True) if kind.startswith("LN") else x) / scale[..., None]
    if kind.endswith("PRE"):
        return x
    bias = parameter(norm, "b") if kind == "LN" else None
    return x * parameter(norm, "w") + (0 if bias is None else bias)


def parameter(module: Any, name: str) -> Tensor | None:
    value = getattr(module, name, None)
    return value.detach().double() if isinstance(value, Tensor) else None
