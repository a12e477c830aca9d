"""Names of depths, and of the halves of a contrast, as a reader says them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from maze_dla.results.components import Component

HALVES = {
    "dependent": "dependent: half the difference of the clean and the corrupted run, what depends on the change",
    "shared": "shared: half the sum of the clean and the corrupted run, which is not independent of the change",
}


def rows_of_half(info: Mapping[str, Any], rows: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The lines about a result; where it is one half of a contrast, which half comes first, and no accuracy."""
    if (part := info.get("part")) is None:
        return rows
    return [("part", HALVES.get(part, str(part))), *(row for row in rows if row[0] != "accuracy")]


def depths_of(components: Sequence[Component]) -> list[str | None]:
    """For each component the depth that the residual stream has reached once it has written: 0_pre, 0_mid, ...

    None within the embeddings, of which the stream holds all or none.
    """
    return [_depth(one, following) for one, following in zip(components, (*components[1:], None), strict=True)]


def _depth(component: Component, following: Component | None) -> str | None:
    if following is None:
        return "final_post"
    if following.layer is None:
        return None
    if component.kind == "attn_out" and following == Component("mlp_out", component.layer):
        return f"{component.layer}_mid"
    return f"{following.layer}_pre"


def depth_names(labels: tuple[str, ...]) -> list[str]:
    """The part after which each depth is read: 0_pre, 0_mid, 1_pre are "embeddings", "attention 0", "MLP 0"."""
    return [_written_last(label, before) for label, before in zip(labels, (None, *labels[:-1]), strict=True)]


def depth_name(labels: tuple[str, ...], label: str) -> str:
    """The part after which one of the depths is read."""
    return depth_names(labels)[labels.index(label)]


def _written_last(label: str, before: str | None) -> str:
    if before is None:
        return "embeddings"
    if middle := re.fullmatch(r"(\d+)_mid", label):
        return f"attention {middle[1]}"
    earlier = re.fullmatch(r"(\d+)_(pre|mid)", before)
    if earlier is None:
        return label
    return f"{'MLP' if earlier[2] == 'mid' else 'layer'} {earlier[1]}"


def written_after(label: str) -> str:
    """Where an activation is read, from its label: 0_pre, 2_post, 3_mid, final_post, 1_attn_out, 4_z."""
    found = re.fullmatch(r"(\d+)_(.+)", label)
    if found is None:
        return "after the last layer" if label == "final_post" else label
    layer, site = found[1], found[2]
    if label == "0_pre":
        return "in the embeddings"
    places = {"pre": "before layer {}", "mid": "before the MLP of layer {}", "post": "after layer {}"}
    writers = {"attn_out": "in what attention {} writes", "mlp_out": "in what MLP {} writes"}
    heads = {"z": "in what the heads of layer {} bring", "neurons": "in the neurons of layer {}"}
    return {**places, **writers, **heads}.get(site, f"{site} of layer {{}}").format(layer)


def about(n: int, n_units: int, unit: object) -> str:
    """Of how many things `n` prompts are, where that is another number: " about 50 mazes", else nothing."""
    noun = "thing" if unit is None else str(unit)
    return "" if n_units == n else f" about {n_units} {noun}{'' if n_units == 1 else 's'}"
