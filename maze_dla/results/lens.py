"""The results of logit lens and token lens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from maze_dla.errors import InputError, check_whole
from maze_dla.results.base import PromptResult
from maze_dla.results.statistics import Summary
from maze_dla.results.torch_defaults import torch_defaults
from maze_dla.results.words import depth_name, rows_of_half

if TYPE_CHECKING:
    import pandas as pd

Scale = Literal["final", "own"]
POSITION = {
    True: "this token lens holds all positions: name one",
    False: "this token lens holds the read position alone",
}


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
    `target_prob` is the probability of the target, of several right ones their sum; at positions before the read
    position the target is the prompt's own next token. `entropy` is in nats, `kl` is the divergence KL(final || depth)
    = sum over tokens of p_final log(p_final / p_depth) in nats, 0 at the last depth. `token_names` maps the ids that
    occur to strings.

    Where tokens were chosen, `chosen_ids` are theirs, [prompt, chosen], filled up with -1 where prompts have fewer, and
    `chosen_probs` and `chosen_ranks` their probabilities and ranks (NaN and -1 for what fills up).
    """

    top_ids: Int[Tensor, "prompt *position depth k"]
    top_probs: Float[Tensor, "prompt *position depth k"]
    target_rank: Int[Tensor, "prompt *position depth"]
    entropy: Float[Tensor, "prompt *position depth"]
    kl: Float[Tensor, "prompt *position depth"]
    labels: tuple[str, ...]
    scale: Scale
    token_names: Mapping[int, str]
    target_prob: Float[Tensor, "prompt *position depth"] | None = field(default=None, kw_only=True)
    chosen_ids: Int[Tensor, "prompt chosen"] | None = field(default=None, kw_only=True)
    chosen_probs: Float[Tensor, "prompt *position depth chosen"] | None = field(default=None, kw_only=True)
    chosen_ranks: Int[Tensor, "prompt *position depth chosen"] | None = field(default=None, kw_only=True)

    @property
    def all_positions(self) -> bool:
        """Whether the arrays have a position axis."""
        return self.kl.ndim == 3

    def per_prompt(self) -> dict[str, Float[Tensor, "prompt ..."]]:
        """The numbers of each prompt whose shape does not depend on how long prompts are."""
        if self.all_positions:
            return super().per_prompt()
        numbers = {name: getattr(self, name) for name in self._numbers()}
        return {**super().per_prompt(), **numbers, "target_rank": self.target_rank.double()}

    def _numbers(self) -> tuple[str, ...]:
        """The fields with one number at each depth; results of version 0.1 have no probability of the target."""
        always = ("target_rank", "entropy", "kl")
        return always if self.target_prob is None else (*always, "target_prob")

    def summary(self, name: str) -> Summary:
        """Mean and 95% interval over prompts of "kl", "entropy", "target_rank", "target_prob" or "metric".

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
        return dict.fromkeys(() if self.all_positions else self._numbers(), self.labels)

    def probability_of(self, token: str | int, prompt: int, position: int | None = None) -> Float[Tensor, " depth"]:
        """The probability of a chosen token at every depth, at one position where all were asked for.

        Raises:
            InputError: no such prompt or position, or a token that was not chosen for this prompt.
        """
        prompt = check_whole("prompt", prompt, 0, len(self) - 1)
        if self.all_positions != (position is not None):
            raise InputError(f"{POSITION[self.all_positions]}, got position {position!r:.60}")
        column = self._column_of(token, prompt)
        if position is None:
            return self.chosen_probs[prompt, :, column]  # pyright: ignore[reportOptionalSubscript]
        position = check_whole("position", position, 0, len(self.prompt_tokens[prompt]) - 1)
        return self.chosen_probs[prompt, position, :, column]  # pyright: ignore[reportOptionalSubscript]

    def _column_of(self, token: str | int, prompt: int) -> int:
        """Which of a prompt's chosen tokens has this name or id."""
        if self.chosen_ids is None:
            raise InputError("no tokens were chosen: ask with token_lens(..., tokens=[...])")
        ids = self.chosen_ids[prompt].tolist()
        named = [token, *(i for i, name in self.token_names.items() if isinstance(token, str) and name == token)]
        places = [i for i, one in enumerate(ids) if one >= 0 and one in named]
        if not places:
            chosen = ", ".join(repr(self.token_names[i]) for i in ids if i >= 0)
            raise InputError(f"{token!r:.60} is not among the chosen tokens of prompt {prompt}: {chosen:.300}")
        return places[0]

    def top_tokens(self, prompt: int, position: int | None = None) -> list[list[str]]:
        """The k most likely tokens at every depth as strings, at one position where all were asked for."""
        ids = self.top_ids[prompt] if position is None else self.top_ids[prompt, position]
        if ids.ndim != 2:
            raise InputError("this token lens holds all positions: name one")
        return [[self.token_names[t] for t in row] for row in ids.tolist()]

    def to_frame(self) -> pd.DataFrame:
        """Columns prompt, (position,) depth, top_token, top_prob, target_rank, entropy, kl, target_prob."""
        numbers = {name: getattr(self, name) for name in self._numbers()}
        table = _long(self.labels, top_token=self.top_ids[..., 0], top_prob=self.top_probs[..., 0], **numbers)
        table = table.loc[table["top_token"] >= 0].reset_index(drop=True)
        table["top_token"] = [self.token_names[int(t)] for t in table["top_token"]]
        return table

    def chosen_frame(self) -> pd.DataFrame:
        """The chosen tokens as a table: columns prompt, (position,) depth, token, prob, rank.

        Raises:
            InputError: no tokens were chosen.
        """
        if self.chosen_ids is None or self.chosen_probs is None or self.chosen_ranks is None:
            raise InputError("no tokens were chosen: ask with token_lens(..., tokens=[...])")
        shape = self.chosen_probs.shape
        ids = self.chosen_ids.reshape(len(self), *[1] * (len(shape) - 2), shape[-1]).expand(shape)
        tables = [
            _long(self.labels, token=ids[..., i], prob=self.chosen_probs[..., i], rank=self.chosen_ranks[..., i])
            for i in range(shape[-1])
        ]
        table = _one_below_the_other(tables)
        table["token"] = [self.token_names[int(t)] for t in table["token"]]
        return table

    def _summary_rows(self) -> list[tuple[str, str]]:
        return [*super()._summary_rows(), ("scale", self.scale), ("depths", str(len(self.labels)))]


def _one_below_the_other(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """The rows of some tables in the order of their index, without those of padding."""
    import pandas as pd

    table = pd.concat(tables).sort_index(kind="stable")
    return table.loc[table["rank"] >= 0].reset_index(drop=True)


@torch_defaults()
def _long(depths: tuple[str, ...], **columns: Tensor) -> pd.DataFrame:
    import pandas as pd

    shape = next(iter(columns.values())).shape
    axes = ("prompt", "depth") if len(shape) == 2 else ("prompt", "position", "depth")
    index = torch.cartesian_prod(*(torch.arange(n) for n in shape))
    table = pd.DataFrame({axis: index[:, i].numpy() for i, axis in enumerate(axes)})
    table["depth"] = [depths[i] for i in table["depth"]]
    return table.assign(**{name: values.reshape(-1).numpy() for name, values in columns.items()})
