"""A checkpoint read and run once more: zipfile, json and numpy, then float64 written out, without the library.

Every part of the residual stream is a vector, pushed forward through the frozen norm and the unembedding.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

ACTIVATIONS = {
    "gelu": lambda x: x * 0.5 * (1 + torch.erf(x / math.sqrt(2))),
    "gelu_new": lambda x: x * 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "relu": lambda x: x * (x > 0),
    "silu": lambda x: x / (1 + torch.exp(-x)),
}


def read_file(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights in float64, and the config."""
    with zipfile.ZipFile(path) as archive:
        main = json.loads(archive.read("__zanj__.json"))
        state = {}
        for name, item in main["state_dict"].items():
            if name.endswith((".mask", ".IGNORE")):
                continue
            values = np.load(io.BytesIO(archive.read(item["$ref"]))) if "$ref" in item else np.array(item["data"])
            assert list(values.shape) == item.get("shape", list(values.shape))
            state[name] = torch.tensor(values.astype(np.float32).astype(np.float64))
    return state, main["zanj_model_config"]


@dataclass
class ReferenceRun:
    """One prompt through the model; every vector stands at the last position."""

    w: dict[str, Tensor]
    layers: dict[str, Tensor] = field(default_factory=dict)
    heads: list[list[Tensor]] = field(default_factory=list)
    neurons: list[Tensor] = field(default_factory=list)  # [neuron, d_model]
    sources: list[list[Tensor]] = field(default_factory=list)  # [position, d_model]
    depths: dict[str, Tensor] = field(default_factory=dict)

    @property
    def logits(self) -> Tensor:
        return self.logits_at("final_post", "own")

    def scale(self, depth: str) -> Tensor:
        return self.depths[depth].var(correction=0).add(1e-5).sqrt()

    def logits_at(self, depth: str, scale: str) -> Tensor:
        by = self.scale(depth if scale == "own" else "final_post")
        return self.pushed(self.depths[depth], by) + self.bias()

    def pushed(self, vectors: Tensor, scale: Tensor) -> Tensor:
        weight = self.w.get("ln_final.w", torch.ones(vectors.shape[-1], dtype=torch.float64))
        return (vectors - vectors.mean(-1, keepdim=True)) / scale * weight @ self.w["unembed.W_U"]

    def bias(self) -> Tensor:
        bias = self.w["unembed.b_U"]
        return bias + self.w["ln_final.b"] @ self.w["unembed.W_U"] if "ln_final.b" in self.w else bias

    def contribution(self, vectors: Tensor, c: Tensor) -> Tensor:
        return self.pushed(vectors, self.scale("final_post")) @ c


def run(w: dict[str, Tensor], ids: list[int], act_fn: str = "gelu") -> ReferenceRun:
    out, n_layers = ReferenceRun(w), 1 + max(int(name.split(".")[1]) for name in w if name.startswith("blocks."))
    embed, positions = w["embed.W_E"][ids], w["pos_embed.W_pos"][: len(ids)]
    out.layers |= {"embed": embed[-1], "pos_embed": positions[-1]}
    x = embed + positions
    for i in range(n_layers):
        b = {name.removeprefix(f"blocks.{i}."): v for name, v in w.items() if name.startswith(f"blocks.{i}.")}
        out.depths[f"{i}_pre"] = x[-1]
        moved = attention(b, norm(x, b, "ln1"))  # [head, query, key, d_model]
        out.sources.append(list(moved[:, -1]))
        out.heads.append(list(moved[:, -1].sum(1)))
        written = moved.sum((0, 2)) + b["attn.b_O"]
        out.layers[f"{i}_attn_out"] = written[-1]
        x = x + written
        out.depths[f"{i}_mid"] = x[-1]
        post = ACTIVATIONS[act_fn](norm(x, b, "ln2") @ b["mlp.W_in"] + b["mlp.b_in"])
        out.neurons.append(post[-1][:, None] * b["mlp.W_out"])
        written = post @ b["mlp.W_out"] + b["mlp.b_out"]
        out.layers[f"{i}_mlp_out"] = written[-1]
        x = x + written
    out.depths["final_post"] = x[-1]
    return out


def norm(x: Tensor, b: dict[str, Tensor], name: str) -> Tensor:
    x = x - x.mean(-1, keepdim=True)
    x = x / (x.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()
    return x * b[f"{name}.w"] + b[f"{name}.b"] if f"{name}.w" in b else x


def attention(b: dict[str, Tensor], x: Tensor) -> Tensor:
    q, k, v = (torch.einsum("pd,hde->hpe", x, b[f"attn.W_{n}"]) + b[f"attn.b_{n}"][:, None] for n in "QKV")
    scores = torch.einsum("hqe,hke->hqk", q, k) / math.sqrt(q.shape[-1])
    future = torch.ones(len(x), len(x), dtype=torch.bool).triu(1)
    pattern = scores.masked_fill(future, -math.inf).softmax(-1)
    return torch.einsum("hqk,hkd->hqkd", pattern, torch.einsum("hke,hed->hkd", v, b["attn.W_O"]))
