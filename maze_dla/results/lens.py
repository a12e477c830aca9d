"""The results of logit lens and token lens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from maze_dla.errors import InputError
from maze_dla.results.base import PromptResult
from maze_dla.results.statistics import Summary
from maze_dla.results.torch_defaults import torch_defaults
from maze_dla.results.words import depth_name, rows_of_half

if TYPE_CHECKING:
    import pandas as pd

Scale = Literal["final", "own"]


@dataclass(frozen=True, eq=False)
class LensSummary:
    """The mean metric at every depth with its interval over prompts, in logits; `scale` None where it is not known."""

    summary: Summary
    labels: tuple[str, ...]
    scale: Scale | None

    @property
    def may_be_zero(self) -> bool:
        """Whether the interval of the final mean includes zero, so that no share of it is known."""
        return bool(self.summary.low[-1] <= 0 <= self.summary.high[-1])

    def first_depth_with(self, share: float = 0.5) -> str | None:
        """The first depth at which the mean reaches this share of the final mean; None where that is not positive."""
        mean = self.summary.mean
        if not mean[-1] > 0:
            return None
        return self.labels[int((mean >= share * mean[-1]).int().argmax())]


@dataclass(frozen=True, eq=False, repr=False)
class LensResult(PromptResult):
    """The metric as it can be read from the residual stream at every depth, in logits.

    Depths are named 0_pre, 0_mid, 1_pre, ..., final_post; the last equals the metric itself. `scale` is "final"
    where every depth was read at the final norm's recorded scale, "own" where each was read at its own.
    """

    values: Float[Tensor, "prompt depth"]
    labels: tuple[str, ...]
    scale: Scale

    def summary(self) -> Summary:
        """Mean, standard error and interval at each depth over prompts."""
        return self.summarized(self.values)

    def first_depth_with(self, share: float = 0.5) -> str | None:
        """The first depth at which the mean reaches this share of the final mean; None where that is not positive."""
        return self.lens_summary().first_depth_with(share)

    def lens_summary(self) -> LensSummary:
        """The mean metric at every depth with its interval, as other results that know it have it."""
        return LensSummary(self.summary(), self.labels, self.scale)

    def per_prompt(self) -> dict[str, Float[Tensor, "prompt ..."]]:
        """The numbers of each prompt whose shape does not depend on how long prompts are."""
        return {**super().per_prompt(), "values": self.values}

    @property
    def axis_labels(self) -> dict[str, tuple[str, ...]]:
        """Names for the last axis of some of them."""
        return {"values": self.labels}

    def to_frame(self) -> pd.DataFrame:
        """Columns prompt, depth, value."""
        return _long(self.labels, value=self.values)

    def _summary_rows(self) -> list[tuple[str, str]]:
        half = self.first_depth_with(0.5)
        where = f"after {depth_name(self.labels, half)}" if half else "never: the final metric is not positive"
        where = (
            "not to be told: the final metric's interval includes zero" if self.lens_summary().may_be_zero else where
        )
        scale = "mean of the two runs' inverse scales" if "part" in self.info else self.scale
        rows = rows_of_half(self.info, super()._summary_rows())
        return [*rows, ("scale", scale), ("half of the metric", where)]


@dataclass(frozen=True, eq=False, repr=False)
class TokenLensResult(PromptResult):
    """The model's next-token distribution as read at every depth.

    Arrays are [prompt, depth] at the read position, or [prompt, position, depth] where all positions were asked for
    (padded with -1 and NaN after a prompt's end); `top_ids` and `top_probs` have a last axis of k. `target_rank`
    counts the tokens that are more likely than the target, or than the best of several right ones (0: it is on top),
    `entropy` is in nats, `kl` is the divergence KL(final || depth) in nats. `token_names` maps the ids that occur to
    strings.
    """

    top_ids: Int[Tensor, "prompt *position depth k"]
    top_probs: Float[Tensor, "prompt *position depth k"]
    target_rank: Int[Tensor, "prompt *position depth"]
    entropy: Float[Tensor, "prompt *position depth"]
    kl: Float[Tensor, "prompt *position depth"]
    labels: tuple[str, ...]
    scale: Scale
    token_names: Mapping[int, str]

    @property
    def all_positions(self) -> bool:
        """Whether the arrays have a position axis."""
        return self.kl.ndim == 3

    def per_prompt(self) -> dict[str, Float[Tensor, "prompt ..."]]:
        """The numbers of each prompt whose shape does not depend on how long prompts are."""
        if self.all_positions:
            return super().per_prompt()
        rank = self.target_rank.double()
        return {**super().per_prompt(), "target_rank": rank, "entropy": self.entropy, "kl": self.kl}

    def summary(self, name: str) -> Summary:
        """Mean, standard error and 95% interval over prompts of "target_rank", "entropy", "kl" or "metric".

        Raises:
            InputError: no such number, or a token lens of all positions, of which prompts have different numbers.
        """
        numbers = self.per_prompt()
        if not isinstance(name, str) or name not in numbers:
            raise InputError(f"unknown number {name!r:.80}, this result has {', '.join(numbers)}")
        return self.summarized(numbers[name])

    @property
    def axis_labels(self) -> dict[str, tuple[str, ...]]:
        """Names for the last axis of some of them."""
        return dict.fromkeys(() if self.all_positions else ("target_rank", "entropy", "kl"), self.labels)

    def top_tokens(self, prompt: int, position: int | None = None) -> list[list[str]]:
        """The k most likely tokens at every depth as strings, at one position where all were asked for."""
        ids = self.top_ids[prompt] if position is None else self.top_ids[prompt, position]
        if ids.ndim != 2:
            raise InputError("this token lens holds all positions: name one")
        return [[self.token_names[t] for t in row] for row in ids.tolist()]

    def to_frame(self) -> pd.DataFrame:
        """Columns prompt, (position,) depth, top_token, top_prob, target_rank, entropy, kl."""
        ids, probs = self.top_ids[..., 0], self.top_probs[..., 0]
        table = _long(
            self.labels, top_token=ids, top_prob=probs, target_rank=self.target_rank, entropy=self.entropy, kl=self.kl
        )
        table = table.loc[table["top_token"] >= 0].reset_index(drop=True)
        table["top_token"] = [self.token_names[int(t)] for t in table["top_token"]]
        return table

    def _summary_rows(self) -> list[tuple[str, str]]:
        return [*super()._summary_rows(), ("scale", self.scale), ("depths", str(len(self.labels)))]


@torch_defaults()
def _long(depths: tuple[str, ...], **columns: Tensor) -> pd.DataFrame:
    import pandas as pd

    shape = next(iter(columns.values())).shape
    axes = ("prompt", "depth") if len(shape) == 2 else ("prompt", "position", "depth")
    index = torch.cartesian_prod(*(torch.arange(n) for n in shape))
    table = pd.DataFrame({axis: index[:, i].numpy() for i, axis in enumerate(axes)})
    table["depth"] = [depths[i] for i in table["depth"]]
    return table.assign(**{name: values.reshape(-1).numpy() for name, values in columns.items()})
