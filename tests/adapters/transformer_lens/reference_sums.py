"""A Hugging Face decoder's parts of its residual stream, caught on its own modules and added in double precision.

Where the modules stand is read from the names that TransformerLens's adapter has for them; all numbers are
transformers' own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

PLAIN_NORMS = ("LayerNorm", "LayerNorm1P")


class ReferenceSums:
    """One prompt through the model: inputs and outputs of blocks and attention at its last position."""

    def __init__(self, hf: nn.Module, mapping: dict[str, Any], ids: list[int], factor: float = 1.0) -> None:
        blocks = mapping["blocks"]
        attn = blocks.submodules["attn"]
        self.hf, self.factor = hf, factor
        self.n_layers = len(hf.get_submodule(blocks.name))
        self.blocks = [f"{blocks.name}.{i}" for i in range(self.n_layers)]
        self.projections = [f"{block}.{attn.name}.{attn.submodules['o'].name}" for block in self.blocks]
        self.norm, self.head = mapping["ln_final"].name, mapping["unembed"].name
        self.inputs: dict[str, Tensor] = {}
        self.outputs: dict[str, Tensor] = {}
        names = [*self.blocks, *self.projections, self.norm, self.head]
        hooks = [hf.get_submodule(name).register_forward_hook(self._keep(name), with_kwargs=True) for name in names]
        with torch.no_grad():
            self.logits = hf(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].double()
        for hook in hooks:
            hook.remove()

    def _keep(self, name: str) -> Any:
        def keep(module: nn.Module, arguments: tuple, named: dict, output: Any) -> None:
            given = arguments[0] if arguments else named["hidden_states"]
            self.inputs[name] = given.reshape(-1, given.shape[-1])[-1].double()
            made = output[0] if isinstance(output, tuple) else output
            self.outputs[name] = made.reshape(-1, made.shape[-1])[-1].double()

        return keep

    @property
    def start(self) -> Tensor:
        """The residual stream before the first block."""
        return self.inputs[self.blocks[0]]

    def attention(self, layer: int) -> Tensor:
        return self.outputs[self.projections[layer]] * self.factor

    def mlp(self, layer: int) -> Tensor:
        """The block's output beside its attention."""
        block = self.blocks[layer]
        return self.outputs[block] - self.inputs[block] - self.attention(layer)

    def heads(self, layer: int, n_heads: int) -> Tensor:
        """[head, d_model]: z @ W_O, each head by itself."""
        module = self.hf.get_submodule(self.projections[layer])
        weight = module.weight.T if isinstance(module, nn.Linear) else module.weight
        z = self.inputs[self.projections[layer]].unflatten(0, (n_heads, -1))
        return torch.einsum("he,hed->hd", z, weight.double().unflatten(0, (n_heads, -1))) * self.factor

    def add(self, vectors: Tensor, coefficients: Tensor) -> Tensor:
        """The contribution of vectors [..., d_model] to a metric of the logits, the final norm frozen."""
        norm, x, y = self.hf.get_submodule(self.norm), self.inputs[self.norm], self.outputs[self.norm]
        if type(norm).__name__.endswith(PLAIN_NORMS) or "CohereLayerNorm" in type(norm).__name__:
            bias = getattr(norm, "bias", None)
            vectors, x = vectors - vectors.mean(-1, keepdim=True), x - x.mean()
            y = y if bias is None else y - bias.double()
        weight = self.hf.get_submodule(self.head).weight.double()
        return (vectors * (y / x)) @ (weight.T @ coefficients.double()) * self.logits_per_head()

    def logits_per_head(self) -> float:
        """By how much the model multiplies what its unembedding says, a soft cap aside."""
        made = self.outputs[self.head]
        return 1.0 if self._capped else float((self.logits @ made) / (made @ made))

    def before_a_cap(self) -> Tensor:
        """The logits, before the soft cap where the model has one."""
        return self.outputs[self.head] if self._capped else self.logits

    @property
    def _capped(self) -> bool:
        config = self.hf.config.get_text_config()
        names = ("final_logit_softcapping", "logits_soft_cap")
        return any(getattr(config, name, None) for name in names)
