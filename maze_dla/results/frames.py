"""Contributions as a table in long form, at a level of detail: whatever the level, the rows sum to the metric."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from maze_dla.errors import InputError
from maze_dla.results.components import Component
from maze_dla.results.summaries import no_such_number

if TYPE_CHECKING:
    import pandas as pd

    from maze_dla.results.attribution import ContributionResult

Level = Literal["layer", "head", "neuron", "source"]
SPLIT = {"head": "attn_out", "source": "attn_out", "neuron": "mlp_out"}  # the components that a level splits
NUMBERS = ("layer", "head", "neuron", "position")


@dataclass(frozen=True)
class _Part:
    """A row of each prompt: a part with its name and numbers, and what it contributes."""

    level: str
    component: str
    values: Float[Tensor, " prompt"]
    layer: int | None = None
    head: int | None = None
    neuron: int | None = None
    position: int | None = None
    source: str | None = None


def contribution_frame(result: ContributionResult, level: Any) -> pd.DataFrame:
    """One row for each prompt and part.

    Raises:
        InputError: an unknown level, or one of which the result has no numbers.
    """
    import pandas as pd

    if level not in get_args(Level):
        raise InputError(f"level is one of {', '.join(map(repr, get_args(Level)))}, got {level!r:.80}")
    parts = list(_parts(result, level))
    n, k = len(result), len(parts)
    values = torch.stack([part.values for part in parts], 1)
    table = pd.DataFrame({"prompt": torch.arange(n).repeat_interleave(k).numpy()})
    for name in ("level", "component"):
        table[name] = [getattr(part, name) for part in parts] * n
    for name in NUMBERS:
        table[name] = pd.array([getattr(part, name) for part in parts] * n, dtype="Int64")
    table["source"] = [part.source for part in parts] * n
    numbers = values.float() if values.dtype == torch.bfloat16 else values  # which numpy does not know
    table["contribution"] = numbers.reshape(-1).numpy()
    return table if result.sources is None or level != "source" else _with_tokens(table, result)


def _parts(result: ContributionResult, level: Level) -> Iterator[_Part]:
    """The parts of a level, which together are the metric: components that it splits are replaced by their parts."""
    yield _Part("constant", "constant", result.constant)
    for i, component in enumerate(result.components):
        if component.layer is None or component.kind != SPLIT.get(level):
            yield _Part("layer", str(component), result.layers[:, i], component.layer)
        elif level == "neuron":
            yield from _neurons(result, component.layer)
        else:
            yield from _heads(result, component.layer, level)


def _heads(result: ContributionResult, layer: int, level: Level) -> Iterator[_Part]:
    for head in range(result.heads.shape[2]):
        name = str(Component("head", layer, head))
        if level == "head":
            yield _Part("head", name, result.heads[:, layer, head], layer, head)
        elif result.sources is not None:
            for position, values in enumerate(result.sources[:, layer, head].unbind(1)):
                yield _Part("source", name, values, layer, head, position=position)
        elif result.sources_by_kind is not None:
            for kind, values in zip(result.kinds, result.sources_by_kind[:, layer, head].unbind(1), strict=True):
                yield _Part("source", name, values, layer, head, source=kind)
        else:
            raise InputError("this result has no sources: ask with attribute(..., sources=True) or sources='kinds'")
    yield _Part("bias", f"{layer}_attn_bias", result.attn_bias[:, layer], layer)


def _neurons(result: ContributionResult, layer: int) -> Iterator[_Part]:
    if result.neurons is None:
        raise no_such_number("neurons", [])
    for neuron, values in enumerate(result.neurons[:, layer].unbind(1)):
        yield _Part("neuron", f"L{layer}N{neuron}", values, layer, neuron=neuron)
    yield _Part("bias", f"{layer}_mlp_bias", result.mlp_bias[:, layer], layer)


def _with_tokens(table: pd.DataFrame, result: ContributionResult) -> pd.DataFrame:
    """Sources with the tokens that stand at their positions; what is after a prompt's end is left out."""
    tokens = result.prompt_tokens
    lengths = torch.tensor([len(row) for row in tokens]).numpy()[table["prompt"]]
    table = table.loc[(table["position"].fillna(0) < lengths).to_numpy(dtype=bool)].reset_index(drop=True)
    at = zip(table["prompt"].tolist(), table["position"].tolist(), strict=True)
    table["source"] = [tokens[i][p] if isinstance(p, int) else None for i, p in at]
    return table
