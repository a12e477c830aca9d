"""Which forward pass reads a model: the engine's own where it can, the model's where it must."""

from __future__ import annotations

import warnings
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from jaxtyping import Int
from torch import Tensor, nn

from maze_dla.adapters.transformer_lens.plain import plain_decoder
from maze_dla.adapters.transformer_lens.view import TransformerLensModel, residual_model
from maze_dla.engine.decoder import PlainDecoder
from maze_dla.engine.model import Reads, ResidualModel, Wanted
from maze_dla.errors import InputError
from maze_dla.results.tolerances import tolerance_of

Engine = Literal["auto", "hooked"]
ENGINES = ("auto", "hooked")
COMPARED_TOKENS = 4096


def reader(model: Any, engine: Engine = "auto") -> ResidualModel:
    """The engine's view of a model, for one run.

    Args:
        model: a model of TransformerLens, or what already is a `ResidualModel`, which is taken as it is.
        engine: "auto" runs plain pre-norm decoders by the engine's own forward pass, on the model's own weights,
            once it has given the model's own logits for the first prompts; "hooked" runs the model itself with hooks.

    Raises:
        InputError: an unknown engine.
        ModelError: not a model of TransformerLens, or one whose residual stream is not a plain sum.
    """
    if engine not in ENGINES:
        raise InputError(f"engine is 'auto' or 'hooked', got {engine!r}")
    view = residual_model(model)
    if engine == "hooked" or not isinstance(view, TransformerLensModel) or view is model:
        return view
    decoder = plain_decoder(view)
    return view if decoder is None else CheckedModel(**vars(view), decoder=decoder)


@dataclass(frozen=True, eq=False, repr=False)
class CheckedModel(TransformerLensModel):
    """A model read by the engine's own forward pass, once that has been compared with the model itself, in one run.

    The first read compares the logits of the longest of its sequences, of up to 4,096 tokens. Where they differ it
    warns, and from then on the model itself is read.
    """

    decoder: PlainDecoder = field(kw_only=True)
    agrees: list[bool] = field(default_factory=list, kw_only=True)  # empty until they have been compared

    def read(
        self,
        tokens: Int[Tensor, "sequence position"],
        rows: Int[Tensor, "prompt"],
        positions: Int[Tensor, "prompt"],
        wanted: Wanted,
    ) -> Reads:
        """Run the sequences once and keep what is wanted at (rows[i], positions[i]) for every prompt i."""
        if self.agrees == [False]:
            return super().read(tokens, rows, positions, wanted)
        reads = self.decoder.read(tokens, rows, positions, wanted)
        if not self.agrees:
            gap = self._gap(reads.logits, tokens, rows, positions)
            self.agrees.append(gap <= self._tolerance)
            if self.agrees == [False]:
                self._warn(gap)
                return super().read(tokens, rows, positions, wanted)
        return reads

    def _warn(self, gap: float) -> None:
        warnings.warn(
            f"{self.info.get('model', 'the model')}: the engine's own forward pass gives other logits than the model, "
            f"by {gap:.1e} of their spread (at most {self._tolerance:.0e}); the model itself is run instead",
            stacklevel=2,
        )

    @property
    def _tolerance(self) -> float:
        return tolerance_of(self.precision)

    def _gap(self, logits: Tensor, tokens: Tensor, rows: Tensor, positions: Tensor) -> float:
        """How far the logits of the longest sequence are from the model's, as a share of how far these are spread."""
        longest = rows[positions.argmax()]
        chosen = torch.nonzero(rows == longest).flatten()
        length = int(positions[chosen].max()) + 1
        only = torch.zeros_like(chosen)
        itself = self if self.logit_cap is not None else replace(self, model=_of_few_tokens(self.model))
        own = TransformerLensModel.read(
            itself, tokens[longest, None, :length], only, positions[chosen], Wanted()
        ).logits
        apart = (logits[chosen.to(logits.device), : own.shape[-1]] - own).abs().amax()
        spread = (own - own.mean(-1, keepdim=True)).abs().amax()
        if not own.isfinite().all():
            return 0.0  # sums will refuse what is no number
        return float((apart.nan_to_num(nan=float("inf")) / spread.clamp_min(1e-12)).detach())


def _of_few_tokens(model: Any) -> Any:
    """The same model with an unembedding of the first tokens alone, where it has a large one of its own.

    TransformerLens 3 copies all of W_U in every forward pass, which can take as long as the rest of the comparison.
    """
    weights = dict(model.unembed.named_parameters(recurse=False))
    if set(weights) != {"W_U", "b_U"} or weights["W_U"].shape[-1] <= COMPARED_TOKENS:
        return model
    unembed, narrow = copy(model.unembed), copy(model)
    few = {name: nn.Parameter(w.detach()[..., :COMPARED_TOKENS], w.requires_grad) for name, w in weights.items()}
    unembed._parameters = few
    narrow._modules = {**model._modules, "unembed": unembed}
    return narrow
