"""The result of zeroing MLP activations: which positions need their MLP though no neuron of it stands out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from maze_dla.errors import InputError, check_whole
from maze_dla.results.base import PromptResult, format_mean
from maze_dla.results.columns import groups_of
from maze_dla.results.statistics import Summary, summarize
from maze_dla.results.torch_defaults import torch_defaults

if TYPE_CHECKING:
    import pandas as pd

NUMBERS = ("loss_increase", "outlier", "outlier_after", "norm")
WITH_NORM = "outlier scores before and after the norm inside the MLP"
WITHOUT_NORM = "no norm inside the MLP: outlier scores before and after are the same numbers, each ratio is 1"


class OutlierPosition(NamedTuple):
    """A layer at a position of a prompt, with its token: the loss without its MLP, and how far a neuron stands out."""

    prompt: int
    layer: int
    position: int
    token: str
    loss_increase: float
    outlier: float
    outlier_after: float
    ratio: float
    norm: float
    score: float

    @property
    def name(self) -> str:
        """As "layer 2, position 17 '(0,1)' of prompt 3"."""
        return f"layer {self.layer}, position {self.position} {self.token!r} of prompt {self.prompt}"

    def __repr__(self) -> str:
        """As "layer 2, position 17 '(0,1)' of prompt 3: loss +0.012 nats, outlier 0.85 (after 3.1)"."""
        outlier = f"outlier {self.outlier:.3g} (after {self.outlier_after:.3g})"
        return f"{self.name}: loss {self.loss_increase:+.2g} nats, {outlier}, score {self.score:+.2g}"


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class MlpOutliersResult(PromptResult):
    """For each prompt, layer and position: the loss once the MLP's activation there is zero, and its outlier score.

    The activation is that before the norm inside the MLP where the architecture has one (SoLU), else that which W_out
    reads; zeroed, the norm gives its bias, and of the MLP what that and b_out write is left. The loss is the mean cross
    entropy of the prompt's own next tokens, in nats: at position i that of token i + 1, over all positions but the
    last. So zeroing at the last position changes no loss, and its increase is 0.

    `score` divides by the outlier score, so it depends on the activation's scale: where all neurons are small it is
    large, whatever they are. `norm` stands beside it for that.
    """

    loss: Float[Tensor, " prompt"]
    """The loss of the plain run, in nats."""
    loss_increase: Float[Tensor, "prompt layer position"]
    """The loss with the activation zeroed minus that of the plain run, in nats; NaN beyond a prompt's end."""
    outlier: Float[Tensor, "prompt layer position"]
    """The outlier score: the largest neuron minus the mean of all, before the norm inside the MLP."""
    outlier_after: Float[Tensor, "prompt layer position"]
    """The same after that norm; the same number where there is none. With the norm's own weight and bias, which a model
    that is folded has in W_out instead: this number alone depends on it."""
    norm: Float[Tensor, "prompt layer position"]
    """The length of the activation (L2), before the norm inside the MLP."""
    layers: tuple[int, ...]
    """The number of each layer."""
    normed: bool
    """Whether there is a norm inside the MLP."""
    k: int
    """How many positions `top` names by default."""
    controls: int
    """How many random positions `control` draws at the most."""
    seed: int
    """Of that draw."""

    @property
    @torch_defaults()
    def inverse_outlier(self) -> Float[Tensor, "prompt layer position"]:
        """1 / (max - mean) over neurons, before the norm; infinite where the activation is the same in all neurons."""
        return self.outlier.double().reciprocal()

    @property
    @torch_defaults()
    def score(self) -> Float[Tensor, "prompt layer position"]:
        """The loss increase times the inverse outlier score, in nats by unit of activation.

        Where all neurons are the same it is infinite with the sign of the increase, and 0 where that is 0.
        """
        increase = self.loss_increase.double()
        return torch.where(increase == 0, increase, increase * self.inverse_outlier)

    @property
    @torch_defaults()
    def ratio(self) -> Float[Tensor, "prompt layer position"]:
        """The outlier score after the norm over that before it; NaN where that before it is 0."""
        before = self.outlier.double()
        return torch.where(before > 0, self.outlier_after / before, torch.nan)

    @property
    @torch_defaults()
    def constant(self) -> Bool[Tensor, "prompt layer position"]:
        """Where the activation is the same in all neurons, so that no inverse outlier score is known."""
        return self.outlier == 0

    @property
    @torch_defaults()
    def ranked(self) -> Bool[Tensor, "prompt layer position"]:
        """Positions that `top` and `control` choose from: with a next token and an activation that is not constant."""
        lengths = torch.tensor([len(tokens) for tokens in self.prompt_tokens])
        followed = torch.arange(self.outlier.shape[2]) < lengths[:, None] - 1
        return followed[:, None] & ~self.constant

    @torch_defaults()
    def top(self, k: int | None = None) -> list[OutlierPosition]:
        """The `k` positions with the largest scores, largest first; by default the `k` of the result.

        They are chosen by these very numbers: their mean is larger than others would find, and as the score divides by
        the outlier score before the norm, so is their ratio. Compare them with `control`.

        Raises:
            InputError: k is no whole number, or below 0.
        """
        k = self.k if k is None else check_whole("k", k, 0)
        at = torch.nonzero(self.ranked)
        order = self.score[self.ranked].argsort(descending=True, stable=True)[:k]
        return self._rows(at[order])

    @property
    @torch_defaults()
    def control(self) -> list[OutlierPosition]:
        """Random positions, `controls` of them by `seed`, in order; all where there are no more."""
        at = torch.nonzero(self.ranked)
        drawn = torch.randperm(len(at), generator=torch.Generator().manual_seed(self.seed))[: self.controls]
        return self._rows(at[drawn.sort().values])

    @torch_defaults()
    def control_summary(self, name: str = "loss_increase") -> Summary:
        """Mean of a number over the random positions, with its 95% interval, clustered by what prompts are about.

        Args:
            name: "loss_increase", "outlier", "outlier_after", "ratio", "norm" or "score".

        Raises:
            InputError: another name, or no random positions.
        """
        names = OutlierPosition._fields[4:]
        if name not in names:
            raise InputError(f"unknown number {name!r:.60}, random positions have {', '.join(names)}")
        if not (rows := self.control):
            raise InputError("there are no random positions: controls is 0, or no position is ranked")
        values = torch.tensor([getattr(row, name) for row in rows], dtype=torch.float64)
        return summarize(values, groups_of(self.clusters[[row.prompt for row in rows]]))

    @property
    @torch_defaults()
    def table(self) -> pd.DataFrame:
        """One row for each prompt, as that of every result, with `loss`: the plain run's, in nats."""
        return super().table.assign(loss=self.loss.numpy())

    def per_prompt(self) -> dict[str, Float[Tensor, "prompt ..."]]:
        """The numbers of each prompt whose shape does not depend on how long prompts are."""
        return {**super().per_prompt(), "loss": self.loss}

    @torch_defaults()
    def to_frame(self) -> pd.DataFrame:
        """One row for each prompt, layer and position; positions beyond a prompt's end are left out.

        Columns: prompt, layer, position, offset (from the read position), token, loss_increase in nats, outlier,
        outlier_after, ratio, norm, score.
        """
        import pandas as pd

        held = ~self.loss_increase.isnan()
        at = held.nonzero()
        lengths = torch.tensor([len(tokens) for tokens in self.prompt_tokens])
        columns = {
            "prompt": at[:, 0].numpy(),
            "layer": [self.layers[i] for i in at[:, 1].tolist()],
            "position": at[:, 2].numpy(),
            "offset": (at[:, 2] - lengths[at[:, 0]] + 1).numpy(),
            "token": [self.prompt_tokens[i][p] for i, p in at[:, [0, 2]].tolist()],
        }
        numbers = {name: getattr(self, name)[held].numpy() for name in OutlierPosition._fields[4:]}
        return pd.DataFrame(columns | numbers)

    def _rows(self, at: Int[Tensor, "position 3"]) -> list[OutlierPosition]:
        """The positions of these indices."""
        index = at.unbind(1)
        numbers = [getattr(self, name)[index].tolist() for name in OutlierPosition._fields[4:]]
        return [
            OutlierPosition(i, self.layers[layer], p, self.prompt_tokens[i][p], *values)
            for (i, layer, p), *values in zip(at.tolist(), *numbers, strict=True)
        ]

    def _summary_rows(self) -> list[tuple[str, str]]:
        rows = super()._summary_rows()
        rows += [("loss", f"{format_mean(self.summarized(self.loss))} nats, of the prompt's own next tokens")]
        rows += [("zeroed", f"the MLP's activation, in {len(self.layers)} layers at each position by itself")]
        rows += [("scores", WITH_NORM if self.normed else WITHOUT_NORM)]
        rows += [(f"largest score {i}", repr(row)) for i, row in enumerate(self.top(min(self.k, 3)), 1)]
        if control := self.control:
            words = f"{format_mean(self.control_summary())} nats, score {format_mean(self.control_summary('score'))}"
            rows.append((f"{len(control)} random positions", f"loss {words}"))
        if constant := int((self.constant & (self.loss_increase != 0)).sum()):
            rows.append(("not ranked", f"{constant} positions whose neurons are all the same: the score is infinite"))
        return rows
