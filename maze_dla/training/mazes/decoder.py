"""The decoder that is trained: TransformerLens's pre-norm architecture with its own names for the weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


@dataclass(frozen=True)
class DecoderConfig:
    """Sizes of the decoder."""

    n_layers: int
    d_model: int
    d_head: int
    d_vocab: int
    n_ctx: int

    @property
    def n_heads(self) -> int:
        """Heads of each layer."""
        return self.d_model // self.d_head


class Block(nn.Module):
    """Attention and MLP, each after a LayerNorm, each adding to the residual stream."""

    def __init__(self, cfg: DecoderConfig) -> None:
        super().__init__()
        self.n_heads = cfg.n_heads
        self.ln1, self.ln2 = nn.LayerNorm(cfg.d_model), nn.LayerNorm(cfg.d_model)
        self.qkv = nn.Linear(cfg.d_model, 3 * cfg.d_model)
        self.out = nn.Linear(cfg.d_model, cfg.d_model)
        self.mlp_in = nn.Linear(cfg.d_model, 4 * cfg.d_model)
        self.mlp_out = nn.Linear(4 * cfg.d_model, cfg.d_model)

    def forward(self, x: Float[Tensor, "maze token d_model"], visible: Bool[Tensor, "token token"]) -> Tensor:
        """One block over tokens that each see the `visible` others."""
        n, t, d = x.shape
        q, k, v = self.qkv(self.ln1(x)).view(n, t, 3, self.n_heads, -1).permute(2, 0, 3, 1, 4)
        z = F.scaled_dot_product_attention(q, k, v, attn_mask=visible)
        x = x + self.out(z.transpose(1, 2).reshape(n, t, d))
        return x + self.mlp_out(F.gelu(self.mlp_in(self.ln2(x))))


class Decoder(nn.Module):
    """Embeddings, blocks, final norm and unembedding."""

    def __init__(self, cfg: DecoderConfig) -> None:
        super().__init__()
        self.cfg = cfg
        self.embed = nn.Embedding(cfg.d_vocab, cfg.d_model)
        self.pos_embed = nn.Embedding(cfg.n_ctx, cfg.d_model)
        self.blocks = nn.ModuleList(Block(cfg) for _ in range(cfg.n_layers))
        self.ln_final = nn.LayerNorm(cfg.d_model)
        self.unembed = nn.Linear(cfg.d_model, cfg.d_vocab)
        self.apply(_initialise)

    @property
    def device(self) -> torch.device:
        """Where it is trained."""
        return self.unembed.weight.device

    def forward(
        self,
        tokens: Int[Tensor, "maze token"],
        positions: Int[Tensor, " token"],
        visible: Bool[Tensor, "token token"],
    ) -> Float[Tensor, "maze token d_vocab"]:
        """The logits at every token."""
        x = self.embed(tokens) + self.pos_embed(positions)
        for block in self.blocks:
            x = block(x, visible)
        return self.unembed(self.ln_final(x))

    def tl_state_dict(self) -> dict[str, Tensor]:
        """The weights under TransformerLens's names and in its shapes, buffers included."""
        cfg = self.cfg
        state = {
            "embed.W_E": self.embed.weight,
            "pos_embed.W_pos": self.pos_embed.weight,
            "ln_final.w": self.ln_final.weight,
            "ln_final.b": self.ln_final.bias,
            "unembed.W_U": self.unembed.weight.T,
            "unembed.b_U": self.unembed.bias,
        }
        for i, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            qkv = block.qkv.weight.view(3, cfg.n_heads, cfg.d_head, cfg.d_model).transpose(2, 3)
            biases = block.qkv.bias.view(3, cfg.n_heads, cfg.d_head)
            state |= {f"blocks.{i}.attn.W_{name}": w for name, w in zip("QKV", qkv, strict=True)}
            state |= {f"blocks.{i}.attn.b_{name}": b for name, b in zip("QKV", biases, strict=True)}
            state |= {
                f"blocks.{i}.ln1.w": block.ln1.weight,
                f"blocks.{i}.ln1.b": block.ln1.bias,
                f"blocks.{i}.ln2.w": block.ln2.weight,
                f"blocks.{i}.ln2.b": block.ln2.bias,
                f"blocks.{i}.attn.W_O": block.out.weight.T.reshape(cfg.n_heads, cfg.d_head, cfg.d_model),
                f"blocks.{i}.attn.b_O": block.out.bias,
                f"blocks.{i}.attn.mask": torch.ones(cfg.n_ctx, cfg.n_ctx, dtype=torch.bool).tril(),
                f"blocks.{i}.attn.IGNORE": torch.tensor(-torch.inf),
                f"blocks.{i}.mlp.W_in": block.mlp_in.weight.T,
                f"blocks.{i}.mlp.b_in": block.mlp_in.bias,
                f"blocks.{i}.mlp.W_out": block.mlp_out.weight.T,
                f"blocks.{i}.mlp.b_out": block.mlp_out.bias,
            }
        return {k: v.detach().cpu().clone().contiguous() for k, v in state.items()}


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(
            module.weight, std=0.02 if isinstance(module, nn.Embedding) else module.weight.shape[1] ** -0.5 * 0.6
        )
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
