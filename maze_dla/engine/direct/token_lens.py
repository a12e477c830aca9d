"""Token lens: the whole next-token distribution as it can be read at every depth.

nostalgebraist 2020, "interpreting GPT: the logit lens"; the divergence as in Belrose et al. 2023 (arXiv 2303.08112).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from maze_dla.engine.completeness import SumChecks
from maze_dla.engine.devices import to_device
from maze_dla.engine.direct.described import best_of, describe, judged
from maze_dla.engine.direct.lens import check_own_scales, check_scale, depth_labels, depths_of, scaled_depths
from maze_dla.engine.fit import check_fit
from maze_dla.engine.forward.running import Parts, run
from maze_dla.engine.ids import NONE
from maze_dla.engine.metrics import logit
from maze_dla.engine.model import MicroBatch, ModelWeights, ResidualModel, soft_capped
from maze_dla.engine.prompts import PromptBatch
from maze_dla.engine.sites import FINAL_SCALE, LOGITS, Activations
from maze_dla.errors import InputError
from maze_dla.results.lens import Scale, TokenLensResult

Positions = Literal["read", "all"]
PADDING = {"top_ids": -1, "target_rank": -1}


def token_lens(
    model: ResidualModel,
    batch: PromptBatch,
    k: int = 5,
    scale: Scale = "own",
    positions: Positions = "read",
    *,
    sequences_at_once: int | None = None,
) -> TokenLensResult:
    """The k most likely tokens at every depth, with rank, entropy and divergence, as `maze_dla.token_lens` does.

    Raises:
        InputError: the batch does not fit the model, k outside 1..vocabulary, unknown scale or positions.
        CompletenessError: the logits at the last depth are not the model's own.
    """
    check_scale(scale)
    check_fit(model, batch)
    if positions not in ("read", "all"):
        raise InputError(f"positions is 'read' or 'all', got {positions!r}")
    if not 1 <= k <= batch.d_vocab:
        raise InputError(f"k is between 1 and the vocabulary's {batch.d_vocab} tokens, got {k}")
    shape = model.weights.shape
    if positions == "all" and shape.d_vocab_in != shape.d_vocab:
        raise InputError(
            "positions='all' asks at each position for the prompt's next token, but the model reads "
            f"{shape.d_vocab_in} tokens and has {shape.d_vocab} outputs: positions is 'read'"
        )
    everywhere = _at_all_positions(batch) if positions == "all" else batch
    depths, checks = depths_of(model), SumChecks(model.weights.precision)
    target_logit, asked = logit(everywhere), logit(batch)
    prompt_of = _prompt_of(batch) if positions == "all" else torch.arange(len(batch))

    def measure(micro: MicroBatch, found: Activations) -> Parts:
        logits, prompts = found[LOGITS], prompt_of[micro.prompts]
        scaled = scaled_depths(model, found, depths, scale)
        parts, last = _read_tokens(model.weights, logits, scaled, everywhere.answers[micro.prompts], k)
        own, at_last, size = _furthest(logits, last)
        checks.add(own, at_last[:, None], size, "the model's logits = the last depth", prompts)
        if scale == "own":
            check_own_scales(checks, model, scaled, prompts)
        here = asked.select(prompts)
        parts["metric"] = target_logit.select(micro.prompts)(logits)
        return parts | judged(logits, here.answers, here.foils)

    sites = [*depths, FINAL_SCALE, LOGITS]
    joined = run(model, everywhere, sites, measure, what="token lens", sequences_at_once=sequences_at_once)
    checks.finish()
    if positions == "all":
        joined = {name: _by_prompt(values, batch, name) for name, values in joined.items()}
    names = {int(t): batch.token_name(int(t)) for t in joined["top_ids"].unique() if t >= 0}
    described = describe(model, batch, asked, joined.pop("predicted"))
    return TokenLensResult(**described, labels=depth_labels(depths), scale=scale, token_names=names, **joined)


def _read_tokens(
    weights: ModelWeights,
    own_logits: Float[Tensor, "prompt vocab"],
    scaled: list[tuple[Tensor, Tensor]],
    answers: Int[Tensor, "prompt answer"],
    k: int,
) -> tuple[Parts, Float[Tensor, "prompt vocab"]]:
    """Every number of the token lens, [prompt, depth, ...], one depth of logits held at a time; and the last logits."""
    final = soft_capped(own_logits, weights.logit_cap).log_softmax(-1)
    answers = to_device(answers, own_logits.device)
    rows = defaultdict(list)
    logits = own_logits
    for residual, at_scale in scaled:
        logits = weights.logits(residual, at_scale)
        log_probs = soft_capped(logits, weights.logit_cap).log_softmax(-1)
        top = log_probs.topk(k, dim=-1)
        rows["top_ids"].append(top.indices)
        rows["top_probs"].append(top.values.exp())
        rows["target_rank"].append((logits > best_of(logits, answers)[:, None]).sum(-1))
        rows["entropy"].append(_expected(log_probs, -log_probs))
        rows["kl"].append(_expected(final, final - log_probs).clamp_min(0))
    return {name: torch.stack(values, 1) for name, values in rows.items()}, logits


def _furthest(own: Float[Tensor, "prompt vocab"], last: Float[Tensor, "prompt vocab"]) -> tuple[Tensor, ...]:
    """The model's own logit and that of the last depth where they are furthest apart, and the largest by size."""
    worst = (own - last).abs().nan_to_num(nan=torch.inf).argmax(-1, keepdim=True)
    return own.gather(1, worst)[:, 0], last.gather(1, worst)[:, 0], own.abs().amax(-1)


def _expected(log_probs: Float[Tensor, "... vocab"], values: Float[Tensor, "... vocab"]) -> Float[Tensor, "..."]:
    """The mean of the values under a distribution; tokens of probability zero count nothing."""
    probs = log_probs.exp()
    return torch.where(probs > 0, probs * values, 0).sum(-1)


def _at_all_positions(batch: PromptBatch) -> PromptBatch:
    """Every position of every prompt as a prompt of its own, with the token that follows as its target."""
    prompts = _prompt_of(batch)
    positions = torch.cat([torch.arange(n) for n in batch.lengths.tolist()])
    following = (positions + 1).clamp_max(batch.sequences.shape[1] - 1)
    next_token = batch.sequences[batch.sequence_of[prompts], following]
    last = positions == batch.read_positions[prompts]
    answers = batch.answers[prompts]
    answers[~last] = NONE
    answers[~last, 0] = next_token[~last]
    return replace(
        batch,
        sequence_of=batch.sequence_of[prompts],
        read_positions=positions,
        targets=answers[:, 0],
        answers=answers,
        token_sets={},
        incorrect=None,
        foils=None,
        steps=None,
        columns={},
    )


def _prompt_of(batch: PromptBatch) -> Int[Tensor, " position_of_any_prompt"]:
    """The prompt that each position of any prompt belongs to."""
    return torch.repeat_interleave(torch.arange(len(batch)), batch.lengths)


def _by_prompt(values: Tensor, batch: PromptBatch, name: str) -> Tensor:
    """[position of any prompt, ...] as [prompt, position, ...]; of what is no lens only the read position."""
    ends = batch.lengths.cumsum(0) - 1
    if name in ("metric", "correct", "preferred", "predicted"):
        return values[ends]
    shape = (len(batch), int(batch.lengths.max()), *values.shape[1:])
    padded = values.new_full(shape, PADDING.get(name, float("nan")))
    inside = torch.arange(shape[1]) < batch.lengths[:, None]
    padded[inside] = values
    return padded
