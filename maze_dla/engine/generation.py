"""Generation: the model walks on from its prompts by itself, greedily or sampled."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from tqdm.auto import tqdm

from maze_dla.engine.fit import check_fit
from maze_dla.engine.forward.continuing import Continuable, Continuation, WholePasses
from maze_dla.engine.forward.running import MOST_TOKENS, BatchLimits, SequenceQueue, batch_limits
from maze_dla.engine.ids import NONE, whole_numbers
from maze_dla.engine.model import MicroBatch, ModelWeights, ResidualModel, soft_capped
from maze_dla.engine.prompts import PromptBatch
from maze_dla.errors import InputError, ModelError, check_whole

BYTES_OF_CACHES = 1 << 28  # of all walks that go on together, on a CPU
SHARE_OF_FREE_MEMORY = 0.25  # elsewhere


@dataclass(frozen=True, eq=False)
class Generated:
    """Walks: the tokens that a model said after each prompt, those of one prompt together, sample by sample."""

    tokens: Int[Tensor, "walk step"]
    """The tokens in their order, filled up with -1; a token that stops the walk is its last."""
    log_probs: Float[Tensor, "walk step"]
    """The model's log-probability of each, in nats and at temperature 1 whatever it was; NaN where there is none."""
    prompts: Int[Tensor, " walk"]
    """The prompt of each walk."""
    stopped: Bool[Tensor, " walk"]
    """Whether the walk ended with a token that stops it."""
    at_the_end: Bool[Tensor, " walk"]
    """Whether it ended since the model's context was full."""


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen: the likeliest where `temperature` is None, else drawn from softmax(logits / temperature).

    `draws` are uniform numbers, in the order of the walks.
    """

    temperature: float | None
    seed: int

    def draws(self, tokens: list[int], sample: int, n: int) -> np.ndarray:
        """The first `n` numbers of a walk's own generator, which hangs on its prompt's tokens alone."""
        text = ",".join(map(str, (self.seed, sample, *tokens)))
        key = hashlib.blake2b(text.encode(), digest_size=16).digest()
        return np.random.default_rng(int.from_bytes(key, "little")).random(n)

    def choose(
        self, logits: Float[Tensor, "walk vocab"], draws: Float[Tensor, " walk"]
    ) -> tuple[Int[Tensor, " walk"], Float[Tensor, " walk"]]:
        """The next token of each walk, and its log-probability at temperature 1."""
        log_probs = logits.log_softmax(-1)
        if self.temperature is None:
            chosen = logits.argmax(-1)
        else:
            below = (logits - logits.amax(-1, keepdim=True)) / self.temperature
            heaped = below.softmax(-1).cumsum(-1)
            chosen = torch.searchsorted(heaped, (draws * heaped[:, -1])[:, None], right=True)[:, 0]
            chosen = chosen.clamp_max(logits.shape[1] - 1)
        return chosen, log_probs.gather(1, chosen[:, None])[:, 0]


def generate(
    model: ResidualModel,
    batch: PromptBatch,
    *,
    stop: Collection[int],
    max_steps: int | None = None,
    temperature: float | None = None,
    n_samples: int = 1,
    seed: int = 0,
    sequences_at_once: int | None = None,
) -> Generated:
    """The model's own walks from the end of each prompt.

    Every walk has a generator of its own, made from the seed, the number of the sample and the tokens of its prompt: a
    prompt's walks are the same alone and in any batch, up to the rounding of logits.

    Args:
        model: the engine's view of a model.
        batch: the prompts; what their sequences hold after the read position is not looked at.
        stop: the ids of tokens that end a walk.
        max_steps: the most tokens of a walk; None: up to the end of the model's context, which always ends a walk.
        temperature: None takes the likeliest token each time.
        n_samples: walks of each prompt.
        seed: of what is drawn.
        sequences_at_once: how many sequences go on together; changes speed, not numbers.

    Raises:
        InputError: the batch does not fit the model, a number out of its range, or several samples without temperature.
        ModelError: logits that are no numbers, or a token that the model says and cannot read.
    """
    check_fit(model, batch)
    sampling = Sampling(_checked_temperature(temperature, n_samples), check_whole("seed", seed, 0))
    most = model.weights.shape.n_ctx if max_steps is None else check_whole("max_steps", max_steps, 1)
    ends = whole_numbers("stop", list(stop))
    limits = (model.weights.shape.n_ctx - batch.lengths).clamp_max(most)
    n, longest = len(batch), int(limits.max())
    shape = (n, check_whole("n_samples", n_samples, 1), max(longest, 0))
    tokens, log_probs = torch.full(shape, NONE), torch.full(shape, math.nan, dtype=torch.float64)
    queue, group = SequenceQueue(batch, model.weights.shape.n_ctx), _group(model, batch, n_samples, sequences_at_once)
    with tqdm(total=n * n_samples, desc="walking", unit="walk", disable=None, delay=2, leave=False) as bar:
        while (micro := queue.take(group.sequences, group.tokens)) is not None:
            try:
                walks = _Walks(model, batch, micro, sampling, limits[micro.prompts], ends, n_samples)
                with torch.no_grad():
                    found = walks.run(bar)
            except torch.cuda.OutOfMemoryError:
                if len(micro.tokens) <= 1:
                    raise
                queue.give_back(micro)
                group = group.halved(micro)
                continue
            for whole, part in zip((tokens, log_probs), found, strict=True):
                whole[micro.prompts, :, : part.shape[1]] = part.unflatten(0, (-1, n_samples))
    return _generated(tokens, log_probs, ends, limits, batch.lengths, model.weights.shape.n_ctx)


def _generated(
    tokens: Int[Tensor, "prompt sample step"],
    log_probs: Float[Tensor, "prompt sample step"],
    ends: Int[Tensor, " stop"],
    limits: Int[Tensor, " prompt"],
    lengths: Int[Tensor, " prompt"],
    n_ctx: int,
) -> Generated:
    """The walks one after the other, cut to the longest of them."""
    n, n_samples, _ = tokens.shape
    width = int((tokens != NONE).sum(2).max()) if tokens.numel() else 0
    tokens, log_probs = (x[..., :width].flatten(0, 1) for x in (tokens, log_probs))
    stopped = torch.isin(tokens, ends).any(1)
    full = (lengths + limits >= n_ctx).repeat_interleave(n_samples)
    return Generated(tokens, log_probs, torch.arange(n).repeat_interleave(n_samples), stopped, ~stopped & full)


@dataclass(frozen=True, eq=False)
class _Walks:
    """The walks of a micro-batch's prompts, all of them together."""

    model: ResidualModel
    batch: PromptBatch
    micro: MicroBatch
    sampling: Sampling
    limits: Int[Tensor, " prompt"]
    ends: Int[Tensor, " stop"]
    n_samples: int

    def run(self, bar: tqdm) -> tuple[Int[Tensor, "walk step"], Float[Tensor, "walk step"]]:
        """Tokens and log-probabilities, of a prompt sample by sample."""
        limits = self.limits.repeat_interleave(self.n_samples)
        longest = int(limits.max())
        tokens = torch.full((len(limits), longest), NONE)
        log_probs = torch.full((len(limits), longest), math.nan, dtype=torch.float64)
        draws = self._draws(longest)
        walks = torch.nonzero(limits > 0).flatten()
        bar.update(len(limits) - len(walks))
        if not len(walks):
            return tokens, log_probs
        going = self._started()
        going.keep(walks // self.n_samples)
        for step in range(longest):
            chosen, found = self.sampling.choose(self._logits(going), draws[walks, step])
            tokens[walks, step], log_probs[walks, step] = chosen, found
            on = torch.nonzero(~torch.isin(chosen, self.ends) & (limits[walks] > step + 1)).flatten()
            bar.update(len(walks) - len(on))
            if not len(on):
                break
            if len(on) < len(walks):
                going.keep(on)
            walks = walks[on]
            going.advance(self._readable(chosen[on]))
        return tokens, log_probs

    def _started(self) -> Continuation:
        forward, n_tokens = self.model.forward, batch_limits(self.model.weights, None).tokens
        if isinstance(forward, Continuable):
            return forward.continued(self.micro, n_tokens)
        return WholePasses(forward, self.micro, n_tokens)

    def _draws(self, n: int) -> Float[Tensor, "walk step"]:
        """Uniform numbers of each walk; zeros where nothing is drawn."""
        if self.sampling.temperature is None:
            return torch.zeros(len(self.limits) * self.n_samples, n, dtype=torch.float64)
        where = zip(self.micro.rows.tolist(), self.micro.positions.tolist(), strict=True)
        prompts = [self.micro.tokens[row, : position + 1].tolist() for row, position in where]
        rows = [self.sampling.draws(prompt, sample, n) for prompt in prompts for sample in range(self.n_samples)]
        return torch.from_numpy(np.stack(rows))

    def _logits(self, going: Continuation) -> Float[Tensor, "walk vocab"]:
        """The logits that the model samples from, on the CPU in double precision."""
        logits = soft_capped(going.logits.cpu().double(), self.model.weights.logit_cap)
        if bool(logits.isnan().any()):
            raise ModelError("the model's logits are no numbers (NaN), so it cannot walk on")
        return logits

    def _readable(self, tokens: Int[Tensor, " walk"]) -> Int[Tensor, " walk"]:
        size = self.model.weights.shape.d_vocab_in
        if bool((tokens >= size).any()):
            raise ModelError(f"the model says token {int(tokens.max())}, it reads {size} tokens alone")
        return tokens


def _checked_temperature(temperature: Any, n_samples: int) -> float | None:
    """The temperature as a number.

    Raises:
        InputError: no number above zero, or several samples of what is not drawn.
    """
    if temperature is None:
        if n_samples != 1:
            raise InputError(f"n_samples is {n_samples!r:.40}, but without a temperature all walks would be the same")
        return None
    if isinstance(temperature, bool) or not isinstance(temperature, int | float | np.floating | np.integer):
        raise InputError(f"temperature is None (greedy) or a number above 0, got {temperature!r:.80}")
    if not 0 < float(temperature) < math.inf:
        raise InputError(f"temperature is None (greedy) or a finite number above 0, got {temperature!r:.80}")
    return float(temperature)


def _group(model: ResidualModel, batch: PromptBatch, n_samples: int, sequences_at_once: int | None) -> BatchLimits:
    """How many sequences go on together: as many as their keys and values have room for."""
    if sequences_at_once is not None:
        return BatchLimits(check_whole("sequences_at_once", sequences_at_once, 1), MOST_TOKENS)
    prompts = int(batch.sequence_of.bincount().max()) * n_samples
    n = _room(model.weights) // (_bytes_of_a_token(model.weights) * int(batch.lengths.max()) * prompts)
    return BatchLimits(max(n, 1), MOST_TOKENS)


def _bytes_of_a_token(weights: ModelWeights) -> int:
    shape = weights.shape
    return 2 * shape.n_layers * shape.n_heads * shape.d_head * weights.W_U.element_size()


def _room(weights: ModelWeights) -> int:
    if weights.W_U.device.type != "cuda":
        return BYTES_OF_CACHES
    return int(SHARE_OF_FREE_MEMORY * torch.cuda.mem_get_info(weights.W_U.device)[0])
