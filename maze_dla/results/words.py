"""Names of depths as a reader says them."""

from __future__ import annotations

import re


def of_a_layer(label: str) -> bool:
    """Whether a component belongs to a layer (3_attn_out, 3_mlp_out); all others stand before the first block."""
    return re.fullmatch(r"\d+_(attn|mlp)_out", label) is not None


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
