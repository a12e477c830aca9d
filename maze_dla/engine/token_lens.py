"""Token lens: the whole next-token distribution as it can be read at every depth.

nostalgebraist 2020, "interpreting GPT: the logit lens"; the divergence as in Belrose et al. 2023 (arXiv 2303.08112).
"""

from __future__ import annotations

from collections import defaultdict
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from maze_dla.engine.completeness import check_sums
from maze_dla.engine.devices import sent
from maze_dla.engine.ids import NONE
from maze_dla.engine.lens import check_norms, check_scale, compared_norms, scaled_depths
from maze_dla.engine.metrics import logit
from maze_dla.engine.model import Reads, ResidualModel, Wanted, soft_capped
from maze_dla.engine.passes import Parts, best_of, check_fit, describe, hits, run
from maze_dla.engine.precision import at_least_single
from maze_dla.engine.prompts import PromptBatch
from maze_dla.engine.queue import ReadPlan
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
    """The k most likely tokens at every depth, with rank of the target, entropy and divergence from the final one.

    Args:
        model: the model, seen through the engine's protocol.
        batch: the prompts.
        k: how many tokens to keep at each depth.
        scale: "own" (the original logit lens) or "final", as in `logit_lens`.
        positions: "read" for the read position; "all" for every position of the prompt, the target then being the
            prompt's own next token. This adds a position axis in front of the depths, and needs a model that answers
            with the tokens that it reads.
        sequences_at_once: how many sequences go through the model together; changes speed, not numbers.

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
    if positions == "all" and model.shape.d_vocab_in != model.shape.d_vocab:
        raise InputError(
            "positions='all' asks at each position for the prompt's next token, but the model reads "
            f"{model.shape.d_vocab_in} tokens and has {model.shape.d_vocab} outputs: positions is 'read'"
        )
    everywhere = _at_all_positions(batch) if positions == "all" else batch
    labels: list[str] = []
    target_logit, asked = logit(everywhere), logit(batch)
    prompt_of = _prompt_of(batch) if positions == "all" else torch.arange(len(batch))

    def measure(plan: ReadPlan, reads: Reads) -> Parts:
        labels[:] = reads.depths
        parts = _read_tokens(model, reads, sent(everywhere.answers[plan.prompts], reads.logits.device), scale, k)
        parts["metric"] = target_logit.select(plan.prompts)(reads.logits)
        here = asked.select(prompt_of[plan.prompts])
        return parts | hits(reads.logits, here.answers, here.foils)

    wanted = Wanted(depths=True)
    joined = run(model, everywhere, wanted, measure, what="token lens", sequences_at_once=sequences_at_once)
    own, last, size = (joined.pop(name) for name in ("own", "last", "size"))
    check_sums(own, last[:, None], size, model.precision, "the model's logits = the last depth")
    check_norms(joined, model.precision)
    if positions == "all":
        joined = {name: _by_prompt(values, batch, name) for name, values in joined.items()}
    names = {int(t): batch.token_name(int(t)) for t in joined["top_ids"].unique() if t >= 0}
    described = describe(model, batch, asked)
    return TokenLensResult(
        **described,
        labels=tuple(labels),
        scale=scale,
        token_names=names,
        **joined,  # pyright: ignore[reportArgumentType]
    )


def _read_tokens(
    model: ResidualModel,
    reads: Reads,
    answers: Int[Tensor, "prompt answer"],
    scale: Scale,
    k: int,
) -> Parts:
    """Every number of the token lens, [prompt, depth, ...], one depth of logits held at a time."""
    final = soft_capped(reads.logits, model.logit_cap).log_softmax(-1)
    rows = defaultdict(list)
    logits = reads.logits
    depths = scaled_depths(model, reads, scale)
    for residual, at_scale in depths:
        logits = at_least_single(model.final_norm.apply(residual, at_scale).to(model.W_U.dtype) @ model.W_U)
        logits = logits if model.b_U is None else logits + model.b_U
        log_probs = soft_capped(logits, model.logit_cap).log_softmax(-1)
        top = log_probs.topk(k, dim=-1)
        rows["top_ids"].append(top.indices)
        rows["top_probs"].append(top.values.exp())
        rows["target_rank"].append((logits > best_of(logits, answers)[:, None]).sum(-1))
        rows["entropy"].append(_expected(log_probs, -log_probs))
        rows["kl"].append(_expected(final, final - log_probs).clamp_min(0))
    parts = {name: torch.stack(values, 1) for name, values in rows.items()} | _furthest(reads.logits, logits)
    return parts | (compared_norms(model, depths) if scale == "own" else {})


def _furthest(own: Float[Tensor, "prompt vocab"], last: Float[Tensor, "prompt vocab"]) -> Parts:
    """The model's own logit and that of the last depth where they are furthest apart, and the largest by size."""
    apart = (own - last).abs().nan_to_num(nan=torch.inf)
    worst = apart.argmax(-1, keepdim=True)
    return {"own": own.gather(1, worst)[:, 0], "last": last.gather(1, worst)[:, 0], "size": own.abs().amax(-1)}


def _expected(log_probs: Float[Tensor, "... vocab"], values: Float[Tensor, "... vocab"]) -> Float[Tensor, "..."]:
    """The mean of the values under a distribution; tokens of probability zero count nothing."""
    probs = log_probs.exp()
    return torch.where(probs > 0, probs * values, 0).sum(-1)


def _at_all_positions(batch: PromptBatch) -> PromptBatch:
    """Every position of every prompt as a prompt of its own, with the token that follows as its target."""
    from dataclasses import replace

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
    )


def _prompt_of(batch: PromptBatch) -> Int[Tensor, "position_of_any_prompt"]:
    """The prompt that each position of any prompt belongs to."""
    return torch.repeat_interleave(torch.arange(len(batch)), batch.lengths)


def _by_prompt(values: Tensor, batch: PromptBatch, name: str) -> Tensor:
    """[position of any prompt, ...] as [prompt, position, ...]; of what is no lens only the read position."""
    ends = batch.lengths.cumsum(0) - 1
    if name in ("metric", "correct", "preferred"):
        return values[ends]
    shape = (len(batch), int(batch.lengths.max()), *values.shape[1:])
    padded = values.new_full(shape, PADDING.get(name, float("nan")))
    inside = torch.arange(shape[1]) < batch.lengths[:, None]
    padded[inside] = values
    return padded
