"""A small decoder's forward pass in float64 from the weights alone, with other values put in on the way."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tests.engine.reference import final_norm, own_norm, parameter, rotate

Puts = dict[tuple[str, int], list[tuple[int, int | None, Tensor]]]  # by site and layer: position, head or neuron, value
Activations = dict[tuple[str, int], Tensor]  # [position, ...], of patterns [head, query, key]


class PlainForward:
    """One sequence at a time; `puts` are made where their site stands, and everything after sees them."""

    def __init__(self, model: Any) -> None:
        self.model, self.cfg = model, model.cfg
        self.n_kv = self.cfg.n_key_value_heads or self.cfg.n_heads

    def __call__(self, ids: list[int], puts: Puts | None = None, position: int = -1) -> Activations:
        """Activations; `("final", 0)` is the last stream, `("normed", 0)` and `("logits", 0)` at the position."""
        self.puts, self.found = puts or {}, {}
        x = parameter(self.model.embed, "W_E")[torch.tensor(ids)]
        if self.cfg.positional_embedding_type == "standard":
            x = x + parameter(self.model.pos_embed, "W_pos")[: len(ids)]
        for i, block in enumerate(self.model.blocks):
            x = self._block(i, block, x)
        self.found["final", 0] = x
        self.found["normed", 0] = own_norm(final_norm(self.model), x, self.cfg)[position]
        self.found["logits", 0] = self.found["normed", 0] @ parameter(self.model, "W_U") + parameter(self.model, "b_U")
        return self.found

    def _at(self, name: str, layer: int, value: Tensor) -> Tensor:
        value = value.clone()
        for position, head, put in self.puts.get((name, layer), []):
            if name == "pattern":
                put = torch.cat([put, put.new_zeros(*put.shape[:-1], value.shape[-1])], -1)[..., : value.shape[-1]]
                value[slice(None) if head is None else head, position] = put.double()
            elif head is None:
                value[position] = put.double()
            else:
                value[position, head] = put.double()
        self.found[name, layer] = value
        return value

    def _block(self, i: int, block: Any, x: Tensor) -> Tensor:
        x = self._at("resid_pre", i, x)
        attn_out = self._at("attn_out", i, self._attention(i, block.attn, own_norm(block.ln1, x, self.cfg)))
        if self.cfg.attn_only:
            return x + attn_out
        parallel = getattr(self.cfg, "parallel_attn_mlp", False)
        mid = x + attn_out if parallel else self._at("resid_mid", i, x + attn_out)
        return mid + self._at(
            "mlp_out", i, self._mlp(i, block.mlp, own_norm(block.ln2, x if parallel else mid, self.cfg))
        )

    def _attention(self, i: int, attn: Any, x: Tensor) -> Tensor:
        q, k, v = (self._heads(i, attn, letter, x) for letter in "QKV")
        group = self.cfg.n_heads // self.n_kv
        if self.cfg.positional_embedding_type == "rotary":
            q, k = (torch.stack([rotate(y[:, h], self.cfg.rotary_base) for h in range(y.shape[1])], 1) for y in (q, k))
        k, v = (torch.stack([y[:, h // group] for h in range(self.cfg.n_heads)], 1) for y in (k, v))
        scores = torch.stack([q[:, h] @ k[:, h].T for h in range(self.cfg.n_heads)]) / self.cfg.d_head**0.5
        later = torch.ones(len(x), len(x)).triu(1).bool()
        pattern = self._at("pattern", i, scores.masked_fill(later, -torch.inf).softmax(-1))
        z = self._at("z", i, torch.stack([pattern[h] @ v[:, h] for h in range(self.cfg.n_heads)], 1))
        return sum(z[:, h] @ parameter(attn, "W_O")[h] for h in range(self.cfg.n_heads)) + parameter(attn, "b_O")

    def _heads(self, i: int, attn: Any, letter: str, x: Tensor) -> Tensor:
        W, b = parameter(attn, f"W_{letter}"), parameter(attn, f"b_{letter}")
        n = self.cfg.n_heads if letter == "Q" else self.n_kv
        W, b = W[:: len(W) // n], b.reshape(-1, W.shape[-1])  # some classes repeat grouped weights
        b = b[:: len(b) // n]
        return self._at(letter.lower(), i, torch.stack([x @ W[h] + b[h] for h in range(n)], 1))

    def _mlp(self, i: int, mlp: Any, x: Tensor) -> Tensor:
        W_in, W_gate, b_in, b_out = (parameter(mlp, name) for name in ("W_in", "W_gate", "b_in", "b_out"))
        if W_gate is None:
            neurons = torch.nn.functional.gelu(x @ W_in + b_in)
        else:
            neurons = torch.nn.functional.silu(x @ W_gate) * (x @ W_in) + (0 if b_in is None else b_in)
        return self._at("neurons", i, neurons) @ parameter(mlp, "W_out") + (0 if b_out is None else b_out)
