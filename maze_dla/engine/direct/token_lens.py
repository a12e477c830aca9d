"""Token lens: the whole next-token distribution as it can be read at every depth.

nostalgebraist 2020, "interpreting GPT: the logit lens", whose own code (`transformer_utils.logit_lens`) has the
divergence as KL(final || depth), as Belrose et al. 2023 have it (arXiv 2303.08112).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from maze_dla.engine.completeness import SumChecks
from maze_dla.engine.devices import to_device
from maze_dla.engine.direct.chosen_tokens import chosen_tokens
from maze_dla.engine.direct.described import best_of, describe, judged
from maze_dla.engine.direct.lens import check_own_scales, check_scale, depth_labels, depths_of, scaled_depths
from maze_dla.engine.fit import check_fit
from maze_dla.engine.forward.running import Parts, run
from maze_dla.engine.ids import NONE
from maze_dla.engine.metrics import logit
from maze_dla.engine.model import MicroBatch, ModelShape, ModelWeights, ResidualModel, soft_capped
from maze_dla.engine.prompts import PromptBatch
from maze_dla.engine.sites import FINAL_SCALE, LOGITS, Activations
from maze_dla.errors import InputError
from maze_dla.results.lens import Scale, TokenLensResult

Positions = Literal["read", "all"]
PADDING = {"top_ids": -1, "target_rank": -1, "chosen_ranks": -1}
BYTES_AT_ONCE = 16 << 20  # of an array of logits: a few of that size are held together
WIDTHS = 4  # times the width of an MLP that the logits of a position may take of the room that a token has in a run


def token_lens(
    model: ResidualModel,
    batch: PromptBatch,
    k: int = 5,
    scale: Scale = "own",
    positions: Positions = "read",
    *,
    tokens: Any = None,
    sequences_at_once: int | None = None,
) -> TokenLensResult:
    """The k most likely tokens at every depth, with rank, entropy and divergence, as `maze_dla.token_lens` does.

    Logits are held for a few positions and one depth at a time.

    Raises:
        InputError: the batch does not fit the model, k outside 1..vocabulary, unknown scale, positions or tokens.
        PromptError: chosen tokens outside the vocabulary, or one twice.
        CompletenessError: the logits at the last depth are not the model's own.
    """
    _check(model, batch, k, scale, positions)
    chosen = None if tokens is None else chosen_tokens(batch, tokens)
    everywhere = _at_all_positions(batch) if positions == "all" else batch
    depths, checks = depths_of(model), SumChecks(model.weights.precision)
    target_logit, asked = logit(everywhere), logit(batch)
    prompt_of = _prompt_of(batch) if positions == "all" else torch.arange(len(batch))

    def measure(micro: MicroBatch, found: Activations) -> Parts:
        logits, prompts = found[LOGITS], prompt_of[micro.prompts]
        scaled = scaled_depths(model, found, depths, scale)
        looked_for = _LookedFor(k, everywhere.answers[micro.prompts], None if chosen is None else chosen[prompts])
        parts = _read_in_pieces(model.weights, logits, scaled, looked_for.to(logits.device))
        own, at_last, size = (parts.pop(name) for name in ("own", "last", "size"))
        checks.add(own, at_last[:, None], size, "the model's logits = the last depth", prompts)
        if scale == "own":
            check_own_scales(checks, model, scaled, prompts)
        here = asked.select(prompts)
        parts["metric"] = target_logit.select(micro.prompts)(logits)
        return parts | judged(logits, here.answers, here.foils)

    sites = [*depths, FINAL_SCALE, LOGITS]
    share = _share_of_a_run(model.weights.shape) if positions == "all" else 1.0
    options = {"what": "token lens", "sequences_at_once": sequences_at_once, "share": share}
    joined = run(model, everywhere, sites, measure, **options)
    checks.finish()
    if positions == "all":
        joined = {name: _by_prompt(values, batch, name) for name, values in joined.items()}
    ids = joined["top_ids"] if chosen is None else torch.cat([joined["top_ids"].flatten(), chosen.flatten()])
    names = {int(t): batch.token_name(int(t)) for t in ids.unique() if t >= 0}
    described = describe(model, batch, asked, joined.pop("predicted"))
    more = {"labels": depth_labels(depths), "scale": scale, "token_names": names, "chosen_ids": chosen}
    numbers: dict[str, Any] = {**more, **joined}
    return TokenLensResult(**described, **numbers)


def _check(model: ResidualModel, batch: PromptBatch, k: int, scale: str, positions: str) -> None:
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


def _share_of_a_run(shape: ModelShape) -> float:
    """The share of a plain run's tokens that go through the model together, since each of them has logits."""
    return min(1.0, WIDTHS * (shape.d_mlp or shape.d_model) / shape.d_vocab)


@dataclass(frozen=True)
class _LookedFor:
    """The tokens that are looked for in each distribution: the k most likely, the right ones, and the chosen ones."""

    k: int
    answers: Int[Tensor, "prompt answer"]
    chosen: Int[Tensor, "prompt chosen"] | None

    def to(self, device: torch.device) -> _LookedFor:
        chosen = None if self.chosen is None else to_device(self.chosen, device)
        return replace(self, answers=to_device(self.answers, device), chosen=chosen)

    def rows(self, some: slice) -> _LookedFor:
        return replace(self, answers=self.answers[some], chosen=None if self.chosen is None else self.chosen[some])


def _read_in_pieces(
    weights: ModelWeights,
    own_logits: Float[Tensor, "prompt vocab"],
    scaled: list[tuple[Tensor, Tensor]],
    looked_for: _LookedFor,
) -> Parts:
    """Every number of the token lens, [prompt, depth, ...], few enough prompts at a time that their logits are small.

    Beside them the model's own logit and that of the last depth where they are furthest apart (`own` and `last`), and
    the largest by size (`size`).
    """
    n, d_vocab = own_logits.shape
    rows = max(BYTES_AT_ONCE // (d_vocab * own_logits.element_size()), 1)
    pieces = []
    for start in range(0, n, rows):
        some = slice(start, start + rows)
        read = [(residual[some], scale[some]) for residual, scale in scaled]
        pieces.append(_read_tokens(weights, own_logits[some], read, looked_for.rows(some)))
    return {name: torch.cat([piece[name] for piece in pieces]) for name in pieces[0]}


def _read_tokens(
    weights: ModelWeights,
    own_logits: Float[Tensor, "prompt vocab"],
    scaled: list[tuple[Tensor, Tensor]],
    looked_for: _LookedFor,
) -> Parts:
    """The numbers of `_read_in_pieces` for one piece, one depth of logits held at a time."""
    final = soft_capped(own_logits, weights.logit_cap).log_softmax(-1)
    rows, logits = defaultdict(list), own_logits
    for residual, at_scale in scaled:
        logits = weights.logits(residual, at_scale)
        log_probs = soft_capped(logits, weights.logit_cap).log_softmax(-1)
        for name, values in _found(logits, log_probs, looked_for).items():
            rows[name].append(values)
        rows["entropy"].append(_expected(log_probs, -log_probs))
        rows["kl"].append(_expected(final, final - log_probs).clamp_min(0))
    own, last, size = _furthest(own_logits, logits)
    return {name: torch.stack(values, 1) for name, values in rows.items()} | {"own": own, "last": last, "size": size}


def _found(
    logits: Float[Tensor, "prompt vocab"], log_probs: Float[Tensor, "prompt vocab"], looked_for: _LookedFor
) -> Parts:
    """The most likely tokens, and probability and rank of the right and of the chosen ones, at one depth."""
    top, answers, chosen = log_probs.topk(looked_for.k, dim=-1), looked_for.answers, looked_for.chosen
    right = log_probs.gather(1, answers.clamp_min(0)).exp()
    found = {
        "top_ids": top.indices,
        "top_probs": top.values.exp(),
        "target_rank": (logits > best_of(logits, answers)[:, None]).sum(-1),
        "target_prob": (right * (answers != NONE)).sum(-1),
    }
    if chosen is None:
        return found
    at, none = logits.gather(1, chosen.clamp_min(0)), chosen == NONE
    probs = log_probs.gather(1, chosen.clamp_min(0)).exp()
    ranks = torch.stack([(logits > at[:, [i]]).sum(-1) for i in range(at.shape[1])], 1)
    found["chosen_probs"] = probs.masked_fill(none, torch.nan)
    found["chosen_ranks"] = ranks.masked_fill(none, PADDING["chosen_ranks"])
    return found


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
