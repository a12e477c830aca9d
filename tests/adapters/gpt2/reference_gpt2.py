"""A GPT-2 in float64 from Hugging Face's hidden states, attentions and weights alone: no TransformerLens, no maze_dla.

Every part of the residual stream is a vector, pushed forward through the frozen final norm and the head.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor


class ReferenceGPT2:
    """One prompt through a `GPT2LMHeadModel`; every vector stands at the last position."""

    def __init__(self, hf: Any, ids: list[int]) -> None:
        self.hf = hf
        with torch.no_grad():
            out = hf(torch.tensor([ids]), output_hidden_states=True, output_attentions=True)
            self.logits = out.logits[0, -1]
            self.hidden = [h[0] for h in out.hidden_states]
            self.patterns = [a[0, :, -1] for a in out.attentions]
            self._take_apart(ids)

    def _take_apart(self, ids: list[int]) -> None:
        transformer, n_heads = self.hf.transformer, self.hf.config.n_head
        self.layers = {"embed": transformer.wte.weight[ids[-1]], "pos_embed": transformer.wpe.weight[len(ids) - 1]}
        self.depths: dict[str, Tensor] = {}
        self.heads, self.sources, self.neurons, self.value_bias = [], [], [], []
        for i, block in enumerate(transformer.h):
            before = self.hidden[i]
            d = before.shape[-1]
            values = block.attn.c_attn(block.ln_1(before))[:, 2 * d :].unflatten(-1, (n_heads, -1))
            W_O = block.attn.c_proj.weight.unflatten(0, (n_heads, -1))
            moved = torch.einsum("hs,she,hed->hsd", self.patterns[i], values, W_O)
            b_V = block.attn.c_attn(block.ln_1.bias[None])[0, 2 * d :].unflatten(-1, (n_heads, -1))  # both biases
            self.value_bias.append(torch.einsum("he,hed->hd", b_V, W_O))
            self.sources.append(moved)
            self.heads.append(moved.sum(1))
            self.layers[f"{i}_attn_out"] = moved.sum((0, 1)) + block.attn.c_proj.bias
            self.depths[f"{i}_pre"] = before[-1]
            middle = before[-1] + self.layers[f"{i}_attn_out"]
            self.depths[f"{i}_mid"] = middle
            pre = block.ln_2(middle) @ block.mlp.c_fc.weight + block.mlp.c_fc.bias
            post = 0.5 * pre * (1 + torch.tanh(math.sqrt(2 / math.pi) * (pre + 0.044715 * pre**3)))
            self.neurons.append(post[:, None] * block.mlp.c_proj.weight)
            self.layers[f"{i}_mlp_out"] = self.neurons[-1].sum(0) + block.mlp.c_proj.bias
            if i + 1 < len(transformer.h):
                expected = self.hidden[i + 1][-1]  # the last of the hidden states has the final norm after it
                torch.testing.assert_close(middle + self.layers[f"{i}_mlp_out"], expected, rtol=1e-9, atol=1e-9)
            self.depths["final_post"] = middle + self.layers[f"{i}_mlp_out"]

    def scale(self, depth: str = "final_post") -> float:
        """The final norm's scale of a depth."""
        return float((self.depths[depth].var(correction=0) + self.hf.config.layer_norm_epsilon).sqrt())

    def add(self, vector: Tensor, correct: int, incorrect: int) -> Tensor:
        """The contribution of vectors [..., d_model] to the logit difference at the final norm's frozen scale."""
        norm, head = self.hf.transformer.ln_f, self.hf.lm_head.weight
        normed = (vector - vector.mean(-1, keepdim=True)) / self.scale() * norm.weight
        return normed @ (head[correct] - head[incorrect])

    def constant(self, correct: int, incorrect: int) -> Tensor:
        """The contribution of the final norm's bias."""
        head = self.hf.lm_head.weight
        return self.hf.transformer.ln_f.bias @ (head[correct] - head[incorrect])

    def depth(self, name: str, correct: int, incorrect: int, scale: str) -> float:
        """The logit difference read at a depth."""
        own = self.scale() / self.scale(name) if scale == "own" else 1.0
        part = self.add(self.depths[name], correct, incorrect) * own
        return float(part + self.constant(correct, incorrect))
