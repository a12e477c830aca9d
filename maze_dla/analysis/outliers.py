"""Where a model needs an MLP of which no neuron stands out: computation spread over many neurons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from maze_dla.adapters.transformer_lens.view import Forward
from maze_dla.analysis.running import BATCH, running
from maze_dla.engine.causal import outliers
from maze_dla.engine.prompts import PromptBatch
from maze_dla.errors import check_kind
from maze_dla.results.outliers import MlpOutliersResult


def mlp_outliers(
    model: Any,
    batch: PromptBatch,
    layers: Sequence[int] | None = None,
    *,
    k: int = 10,
    controls: int = 100,
    seed: int = 0,
    sequences_at_once: int | None = None,
    forward: Forward = "auto",
) -> MlpOutliersResult:
    """Zero the MLP's activation at each layer and position by itself: how far the loss rises, and its outlier score.

    The loss is the language model's: the mean cross entropy of the prompt's own next tokens, in nats, at position i
    that of token i + 1, over all positions but the last. Its increase is that of the zeroed run minus that of the plain
    one. Positions before the zeroed one do not change, since the model is causal; the last position has no next token
    in the prompt, so its increase is 0 (the answer that a prompt asks for is not in its loss: make prompts that go on
    beyond it, such as `maze.prompts(task="path_end")`).

    Zeroed is the activation before the norm inside the MLP where the architecture has one (SoLU, `solu_ln`): the norm
    then gives its bias. Elsewhere it is the activation that W_out reads, with its gate where there is one. What b_out
    writes stays. The outlier score is max - mean of that activation over neurons, and

        score = loss increase / (max - mean)

    is large where the MLP matters though no neuron of it stands out. It depends on the activation's scale: where all
    neurons are small it is large whatever they are, which `norm` shows; compare positions within a layer. Where all
    neurons are the same, max = mean, it is infinite (0 where the loss does not change), and the position is not ranked.

    All positions of all layers are run together as one growing batch of what an edit can change, in pieces, so that the
    memory does not grow with their number; where the engine's own pass does not run the model, by hooks of the model,
    many positions at a time.

    Elhage et al. 2022, "Softmax linear units" (transformer-circuits.pub), on what the norm inside the MLP brings back.

    Args:
        model: a `MazeModel`, a model of TransformerLens, or the engine's view of one.
        batch: the prompts, of at least two tokens each.
        layers: which ones; default all.
        k: how many positions `result.top()` names.
        controls: how many random positions `result.control` draws to compare them with.
        seed: of that draw.
        sequences_at_once: how many sequences go through the model together; changes speed, not numbers.
        forward: "auto" or "hooked", as in `attribute`.

    Returns:
        `loss_increase`, `outlier`, `outlier_after`, `norm`, `score`, `ratio` [prompt, layer, position]; `top()`,
        `control`.

    Raises:
        InputError: the batch does not fit the model, layers that it does not have, a prompt of one token, or a model
            whose outputs are not the tokens that it reads.
        ModelError: a model without neurons (attention alone, experts), or whose neurons cannot be edited.
        CompletenessError: the model's logits are not those of its final residual.
    """
    check_kind(batch, PromptBatch, BATCH)
    options: dict[str, Any] = {"k": k, "controls": controls, "seed": seed, "sequences_at_once": sequences_at_once}
    with running(model, forward) as residual:
        return outliers.mlp_outliers(residual, batch, layers, **options)
