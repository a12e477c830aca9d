"""Positions whose MLP matters though no neuron of it stands out: the loss without it, over its outlier score.

Elhage et al. 2022 ("Softmax linear units", section 4.3) on neurons that a norm inside the MLP brings back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from maze_dla.engine.causal.reading import AT_THE_END
from maze_dla.engine.completeness import SumChecks
from maze_dla.engine.direct.described import describe, judged
from maze_dla.engine.edits import Edit, Rerun
from maze_dla.engine.fit import check_fit
from maze_dla.engine.forward.running import Parts, in_micro_batches
from maze_dla.engine.metrics import logit
from maze_dla.engine.model import MicroBatch, ResidualModel
from maze_dla.engine.precision import at_least_single
from maze_dla.engine.prompts import PromptBatch
from maze_dla.engine.sites import FINAL_RESIDUAL, FINAL_SCALE, LOGITS, LOSSES, Activations, Site
from maze_dla.errors import InputError, ModelError, check_list, check_whole
from maze_dla.results.outliers import MlpOutliersResult

MOST_NUMBERS = 1 << 22  # losses of branches that are held at once
SHARE = 0.25  # of a plain run's micro-batch, each of whose tokens becomes a branch in every layer


def mlp_outliers(
    model: ResidualModel,
    batch: PromptBatch,
    layers: Sequence[int] | None = None,
    *,
    k: int = 10,
    controls: int = 100,
    seed: int = 0,
    sequences_at_once: int | None = None,
) -> MlpOutliersResult:
    """Zero the MLP's activation at each layer and position by itself, as `maze_dla.mlp_outliers` does.

    Raises:
        InputError: the batch does not fit the model, layers that it does not have, a prompt of one token, or a model
            whose outputs are not the tokens that it reads.
        ModelError: a model without neurons, or whose neurons cannot be edited.
        CompletenessError: the model's logits are not those of its final residual.
    """
    check_fit(model, batch)
    k, controls, seed = check_whole("k", k, 0), check_whole("controls", controls, 0), check_whole("seed", seed, 0)
    if "neurons" not in model.sites:
        raise ModelError("the model has no neurons (attention alone, or experts): there is no MLP activation to zero")
    if model.weights.blocks[0].inner_norm is not None and "mlp_mid" not in model.sites:
        raise ModelError("the model has a norm inside the MLP and does not show what stands before it")
    _refuse_no_loss(model, batch)
    work = _Outliers(model, batch, _layers(layers, model.weights.shape.n_layers))
    found = in_micro_batches(
        model,
        batch,
        work.of_micro_batch,
        what="zeroing MLPs",
        sequences_at_once=sequences_at_once,
        share=SHARE,
    )
    work.checks.finish()
    return work.result(found, {"k": k, "controls": controls, "seed": seed})


def _refuse_no_loss(model: ResidualModel, batch: PromptBatch) -> None:
    """Refuse prompts that have no next token, and models that do not answer with the tokens that they read."""
    shape = model.weights.shape
    if shape.d_vocab_in != shape.d_vocab:
        raise InputError(
            "the loss is of the prompt's next tokens, but the model reads "
            f"{shape.d_vocab_in} tokens and has {shape.d_vocab} outputs"
        )
    if (short := batch.lengths < 2).any():
        raise InputError(
            f"prompt {int(short.int().argmax())} has a single token: the loss is of the next tokens in the prompt, "
            "expected at least two tokens"
        )


def _layers(layers: Sequence[int] | None, n_layers: int) -> tuple[int, ...]:
    """The layers, by default all.

    Raises:
        InputError: no list, an empty one, layers that the model does not have, or one of them twice.
    """
    if layers is None:
        return tuple(range(n_layers))
    check_list(layers, "layers", "layer")
    chosen = tuple(check_whole("a layer", layer, 0, n_layers - 1) for layer in layers)
    if not chosen or len(set(chosen)) < len(chosen):
        raise InputError(f"layers are different layers from 0 to {n_layers - 1}, got {list(chosen)}")
    return chosen


def _standing_out(neurons: Float[Tensor, "... d_mlp"]) -> Float[Tensor, "..."]:
    """The largest neuron minus the mean of all; exactly 0 where all are the same, whose mean is rounded."""
    largest = neurons.amax(-1)
    return torch.where(largest == neurons.amin(-1), 0.0, (largest - neurons.mean(-1)).clamp_min(0))


@dataclass(frozen=True, eq=False)
class _Outliers:
    """The zeroing of one batch's MLP activations."""

    model: ResidualModel
    batch: PromptBatch
    layers: tuple[int, ...]
    checks: SumChecks = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "checks", SumChecks(self.model.weights.precision))

    @property
    def normed(self) -> bool:
        """Whether there is a norm inside the MLP."""
        return self.model.weights.blocks[0].inner_norm is not None

    def of_micro_batch(self, micro: MicroBatch) -> tuple[Tensor, Parts]:
        """The numbers of a micro-batch's prompts."""
        edited = [Site("neurons", i, position="all") for i in self.layers]
        plain, rerun = self.model.forward.editable(micro, [*AT_THE_END, LOGITS, LOSSES], edited)
        self._check_logits(plain, micro)
        logits = at_least_single(plain[LOGITS])
        here = logit(self.batch).select(micro.prompts)
        parts: Parts = {"metric": here(logits), **judged(logits, here.answers, here.foils)}
        losses = plain[LOSSES].cpu().double()
        parts["loss"] = self._mean(losses, micro, torch.arange(len(micro.prompts)))
        by_sequence = self._activations(micro)
        parts |= {name: x.index_select(0, micro.rows) for name, x in by_sequence.items()}
        parts["loss_increase"] = self._increases(micro, losses, by_sequence["norm"], rerun)
        return micro.prompts, parts

    def _check_logits(self, plain: Activations, micro: MicroBatch) -> None:
        """The model's logits at read positions are those of its final residual, of which losses are made."""
        own = at_least_single(plain[LOGITS])
        ours = self.model.weights.logits(plain[FINAL_RESIDUAL], plain[FINAL_SCALE])
        worst = (own - ours).abs().nan_to_num(nan=torch.inf).argmax(-1, keepdim=True)
        size = own.abs().amax(-1)
        what = "the model's logits = those of the final residual"
        self.checks.add(own.gather(1, worst)[:, 0], ours.gather(1, worst), size, what, micro.prompts)

    def _mean(
        self, losses: Float[Tensor, "row position"], micro: MicroBatch, prompts: Int[Tensor, " prompt"]
    ) -> Float[Tensor, " prompt"]:
        """The mean over each prompt's positions that have a next token in it."""
        ends = micro.positions[prompts]
        within = torch.arange(losses.shape[1]) < ends[:, None]
        return losses[micro.rows[prompts]].where(within, 0.0).sum(1) / ends

    def _activations(self, micro: MicroBatch) -> Parts:
        """How far the largest neuron stands out before and after the norm, and the activation's length.

        [sequence, layer, position]; one layer is held at a time.
        """
        rows: dict[str, list[Tensor]] = {"outlier": [], "outlier_after": [], "norm": []}
        for i in self.layers:
            names = ("neurons", "mlp_mid") if self.normed else ("neurons",)
            sites = [Site(name, i, position="all") for name in names]
            found = self.model.forward(micro, sites)
            before, after = (at_least_single(found[site]).double() for site in (sites[-1], sites[0]))
            rows["outlier"].append(_standing_out(before).cpu())
            rows["outlier_after"].append(_standing_out(after).cpu())
            rows["norm"].append(before.norm(dim=-1).cpu())
        return {name: torch.stack(values, 1) for name, values in rows.items()}

    def _increases(
        self,
        micro: MicroBatch,
        losses: Float[Tensor, "sequence position"],
        norms: Float[Tensor, "sequence layer position"],
        rerun: Rerun,
    ) -> Float[Tensor, "prompt layer position"]:
        """How far each prompt's loss rises; exactly zero where nothing is there to be zeroed, where nothing is run."""
        longest = self._longest(micro)
        increases = torch.zeros(len(micro.prompts), *norms.shape[1:], dtype=torch.float64)
        ends = torch.zeros(len(longest), dtype=torch.long).scatter_reduce(0, micro.rows, micro.positions, "amax")
        zeroable = (norms != 0) & (torch.arange(norms.shape[2]) < ends[:, None, None])
        for cells in self._chunks(torch.nonzero(zeroable), losses.shape[1]):
            row, layer, position = cells.unbind(1)
            found = rerun(longest[row], self._edits(layer, position), [LOSSES])[LOSSES].cpu().double()
            since = torch.arange(losses.shape[1]) >= position[:, None]
            so_far = (found - losses[row]).where(since, 0.0).cumsum(1)
            for prompt, (of, end) in enumerate(zip(micro.rows.tolist(), micro.positions.tolist(), strict=True)):
                own = torch.nonzero((row == of) & (position < end)).flatten()
                increases[prompt, layer[own], position[own]] = so_far[own, end - 1] / end
        return increases

    def _longest(self, micro: MicroBatch) -> Int[Tensor, " sequence"]:
        """The prompt of each sequence that reads furthest."""
        longest = torch.zeros(len(micro.tokens), dtype=torch.long)
        order = micro.positions.argsort(stable=True)
        for prompt in order.tolist():
            longest[micro.rows[prompt]] = prompt
        return longest

    def _chunks(self, cells: Int[Tensor, "cell 3"], width: int) -> Iterator[Int[Tensor, "cell 3"]]:
        """Cells (sequence, layer, position), those of one position together, since their branches are about as long."""
        cells = cells[cells[:, 2].argsort(stable=True)]
        return iter(cells.split(max(MOST_NUMBERS // width, 1)) if len(cells) else ())

    def _edits(self, layer: Int[Tensor, " branch"], position: Int[Tensor, " branch"]) -> list[Edit]:
        """The edit of each layer: what neurons are once the activation before their norm is zero."""
        edits = []
        for at in layer.unique().tolist():
            block = self.model.weights.blocks[self.layers[at]]
            assert block.W_out is not None
            zero = block.W_out.new_zeros(len(block.W_out))
            values = zero if block.inner_norm is None else block.inner_norm(zero)
            branches = torch.nonzero(layer == at).flatten()
            site = Site("neurons", self.layers[at], position="all")
            edits.append(Edit(site, branches, position[branches], values.expand(len(branches), -1)))
        return edits

    def result(self, found: Parts, asked: dict[str, Any]) -> MlpOutliersResult:
        """The result of these numbers, NaN after each prompt's end."""
        described: Any = describe(self.model, self.batch, logit(self.batch), found.pop("predicted"))
        longest = int(self.batch.lengths.max())
        after = (torch.arange(longest) >= self.batch.lengths[:, None])[:, None]
        for name in ("loss_increase", "outlier", "outlier_after", "norm"):
            found[name] = found[name][..., :longest].masked_fill(after, torch.nan)
        fields: dict[str, Any] = {"correct": None, **described, **found, **asked}
        return MlpOutliersResult(**fields, layers=self.layers, normed=self.normed)
