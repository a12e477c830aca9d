"""Contributions to a metric from recorded activations, and the checks of their sums.

The metric's direction is pulled back through the unembedding, the frozen final norm and W_O or W_out, and meets each
component's own small activation: no component's output in the residual stream is ever stacked.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from maze_dla.engine.completeness import SumChecks
from maze_dla.engine.devices import to_device
from maze_dla.engine.direct.directions import project
from maze_dla.engine.forward.running import Parts
from maze_dla.engine.model import MicroBatch, ResidualModel
from maze_dla.engine.precision import at_least_single
from maze_dla.engine.prompts import PromptBatch
from maze_dla.engine.sites import EMBEDDINGS, FINAL_SCALE, LOGITS, Activations, Site, in_all_layers
from maze_dla.errors import InputError
from maze_dla.results.components import Component
from maze_dla.results.moments import sum_in_double
from maze_dla.results.tolerances import ROUNDING_OF_LOGITS

FIELDS = (
    *("metric", "predicted", "correct", "preferred", "constant", "final_scale"),
    *("heads", "attn_bias", "mlp_bias", "sources_by_kind", "logit_size"),
)
Sources = Callable[[int, Tensor], Tensor]  # of a layer, by the direction pulled back through its W_O


def kept_parts(batch: PromptBatch, neurons: object, sources: object) -> set[str]:
    """The arrays with a prompt axis that are kept for what was asked.

    Raises:
        InputError: an unknown value, or kinds asked of a batch that names none.
    """
    if not (isinstance(neurons, bool) or neurons == "mean"):
        raise InputError(f"neurons is False, True or 'mean', got {neurons!r}")
    if not (isinstance(sources, bool) or sources == "kinds"):
        raise InputError(f"sources is False, True or 'kinds', got {sources!r}")
    if sources == "kinds" and batch.sequence_kinds is None:
        raise InputError("this batch does not say of which kind its tokens are: sources is False or True")
    return {
        *FIELDS,
        *({"neurons"} if neurons is True else ()),
        *({"sources", "patterns"} if sources is True else ()),
    }


def sites_to_record(model: ResidualModel, sources: bool | Literal["kinds"]) -> list[Site]:
    """All that contributions are made of."""
    n_layers = model.weights.shape.n_layers
    neurons = ["neurons"] if "neurons" in model.sites else []
    sites = [Site(name) for name in model.embeddings] + [FINAL_SCALE, LOGITS]
    sites += in_all_layers(["z", *_written(model), *neurons], n_layers)
    if sources:
        sites += [Site("v", layer, position="all") for layer in range(n_layers)] + in_all_layers(["pattern"], n_layers)
    return sites


def components_of(model: ResidualModel, parts: Parts) -> list[Component]:
    """The components among the parts, in the order in which they write."""
    writers = [Site(name) for name in model.embeddings] + in_all_layers(_written(model), model.weights.shape.n_layers)
    return [c for c in (Component(site.name, site.layer) for site in writers) if c in parts]


def fields_of(
    parts: Parts,
    components: Sequence[Component],
    batch: PromptBatch,
    neurons: Mapping[str, Tensor | None],
) -> dict[str, Any]:
    """The fields of a result of these parts, which sum to its metric up to the gap, and those of neurons' means."""
    layers = torch.stack([parts[component] for component in components], 1)
    longest = int(batch.lengths.max())
    numbers = {name: values for name, values in parts.items() if not isinstance(name, Component)}
    for name in numbers.keys() & {"sources", "patterns"}:
        numbers[name] = numbers[name][..., :longest]
    return {
        "correct": None,
        **numbers,
        "layers": layers,
        "gap": parts["metric"].double() - torch.cat([layers, parts["constant"][:, None]], 1).double().sum(1),
        "layer_labels": tuple(map(str, components)),
        **neurons,
        "kinds": batch.kinds if "sources_by_kind" in parts else (),
    }


def _written(model: ResidualModel) -> list[str]:
    return [name for name in ("attn_out", "mlp_out") if name in model.sites]


def contributions(
    model: ResidualModel,
    found: Activations,
    direction: Float[Tensor, "prompt d_model"],
    biases: Float[Tensor, " prompt"] | float = 1.0,
    sources: Sources | None = None,
) -> Parts:
    """Every component's inner product with a direction in the residual stream; biases are taken so many times."""
    weights = model.weights
    of_layers = defaultdict(list)
    neurons = direction.new_empty(len(direction), weights.shape.n_layers, weights.shape.d_mlp or 0)
    for i, block in enumerate(weights.blocks):
        through_W_O = torch.einsum("hed,pd->phe", at_least_single(block.W_O), direction)
        of_layers["heads"].append((found[Site("z", i)] * through_W_O).sum(-1))
        of_layers["attn_bias"].append(project(block.b_O, direction) * biases)
        of_layers["mlp_bias"].append(project(block.b_out, direction) * biases)
        if sources is not None:
            of_layers["sources"].append(sources(i, through_W_O))
        if block.W_out is not None:
            out = direction @ at_least_single(block.W_out).T
            torch.mul(found[Site("neurons", i)], out, out=neurons[:, i])
    return {
        **{
            Component(site.name, site.layer): (written * direction).sum(-1)
            for site, written in found.items()
            if site.name in (*EMBEDDINGS, "attn_out", "mlp_out")
        },
        **({"neurons": neurons} if neurons.numel() else {}),
        **{name: torch.stack(values, 1) for name, values in of_layers.items()},
    }


def value_contributions(
    values: Float[Tensor, "sequence position kv_head d_head"],
    through_W_O: Float[Tensor, "prompt head d_head"],
    micro: MicroBatch,
) -> Float[Tensor, "prompt head position"]:
    """The contribution of the value at each position if a head looked nowhere else."""
    values = values.repeat_interleave(through_W_O.shape[1] // values.shape[2], 2)
    return torch.einsum("pshe,phe->phs", values[to_device(micro.rows, values.device)], through_W_O)


def by_kind(
    sources: Float[Tensor, "prompt layer head position"], kinds: Int[Tensor, "prompt position"], n_kinds: int
) -> Float[Tensor, "prompt layer head kind"]:
    """Contributions that heads moved from the tokens of each kind."""
    here = to_device(kinds[:, : sources.shape[-1], None], sources.device)
    of_kind = (here == torch.arange(n_kinds, device=sources.device)).to(sources)
    return torch.einsum("plhs,psk->plhk", sources, of_kind)


def sizes(parts: Parts) -> tuple[Float[Tensor, " prompt"], Float[Tensor, " prompt"]]:
    """The size of the largest part of each prompt, and the size by which the rounding of its logits is measured."""
    size = _everything(parts).abs().amax(1).maximum(parts["metric"].abs())
    return size, size.maximum(ROUNDING_OF_LOGITS * parts["logit_size"])


def check_parts(
    checks: SumChecks,
    parts: Parts,
    prompts: Int[Tensor, " prompt"],
    size: Float[Tensor, " prompt"],
    of_logits: Float[Tensor, " prompt"],
    which: str = "",
) -> None:
    """Check every sum of a micro-batch; errors begin with `which` parts they are."""
    writers = {c: values for c, values in parts.items() if isinstance(c, Component)}
    checks.add(parts["metric"], _everything(parts), of_logits, f"{which}metric = contributions + constant", prompts)
    wholes = {
        "heads": ("attention layer = heads + b_O", _of_kind(writers, "attn_out"), "attn_bias"),
        "neurons": ("MLP = neurons + b_out", _of_kind(writers, "mlp_out"), "mlp_bias"),
        "sources": ("head = sources", parts["heads"], None),
        "sources_by_kind": ("head = sources by kind", parts["heads"], None),
    }
    for name, (what, whole, bias) in wholes.items():
        if (values := parts.get(name)) is not None:
            total = sum_in_double(values)
            both = [total] if bias is None else [total, parts[bias].to(total)]
            largest = torch.linalg.vector_norm(values.flatten(1), torch.inf, dim=1)
            checks.add(whole, torch.stack(both, -1), size.maximum(largest), which + what, prompts)


def _everything(parts: Parts) -> Float[Tensor, "prompt part"]:
    writers = [values for c, values in parts.items() if isinstance(c, Component)]
    return torch.stack([*writers, parts["constant"]], 1)


def _of_kind(writers: dict[Component, Tensor], kind: str) -> Float[Tensor, "prompt layer"]:
    """Contributions of the attention or the MLP of each layer; no columns where no layer has one."""
    columns = [values for component, values in writers.items() if component.kind == kind]
    return torch.stack(columns, 1) if columns else next(iter(writers.values()))[:, None][:, :0]
