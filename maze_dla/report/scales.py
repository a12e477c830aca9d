"""Scales that several reports share, so that their pictures can be read side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from maze_dla.results.attribution import AttributionResult
from maze_dla.results.lens import LensResult

MARGIN = 0.05  # of the range, on either side
LYING = ("neurons", "source_kinds")  # pictures whose bars lie


@dataclass(frozen=True)
class Scales:
    """For each kind of picture the least and the largest number that it has to show, in logits; none for its own."""

    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @classmethod
    def of(cls, every: Sequence[AttributionResult | LensResult]) -> Scales:
        """The scales in which the pictures of all these results fit."""
        results = [result for result in every if isinstance(result, AttributionResult)]
        found: dict[str, list[float]] = {"lens": [], "layers": [], "heads": [], "neurons": [], "source_kinds": []}
        for result in results:
            layers, constant = result.layer_summary(), result.constant_summary()
            found["layers"] += _ends(layers) + _ends(constant)
            found["heads"] += _ends(result.head_summary(), "mean", "mean")
            if result.sources_by_kind is not None:
                of_heads = result.kind_summary().mean.flatten(0, 1)
                found["source_kinds"] += [*of_heads.clip(max=0).sum(0).tolist(), *of_heads.clip(min=0).sum(0).tolist()]
                found["source_kinds"] += _ends(result.moved_summary())
            if result.neuron_mean is not None:
                found["neurons"] += [end for part in result.top_neurons(20) for end in (part.low, part.high)]
        for result in every:
            found["lens"] += _ends(result.lens_summary().summary)
        known = {name: [v for v in values if v == v] for name, values in found.items()}
        return cls({name: (min(0.0, *values), max(0.0, *values)) for name, values in known.items() if values})

    def applied(self, picture: str, ax: Any) -> Any:
        """The axes of a picture with its shared scale, if it has one."""
        if picture not in self.ranges:
            return ax
        low, high = self.ranges[picture]
        if picture == "heads":
            limit = max(-low, high)
            ax.images[0].set_clim(-limit, limit)
            return ax
        room = MARGIN * (high - low)
        (ax.set_xlim if picture in LYING else ax.set_ylim)(low - room, high + room)
        return ax


def _ends(summary: Any, low: str = "low", high: str = "high") -> list[float]:
    """The least and the largest end of the intervals, and of the means where there are none."""
    ends = [getattr(summary, name).nan_to_num(nan=0.0).flatten() for name in (low, high, "mean")]
    return [float(end.min()) for end in ends if end.numel()] + [float(end.max()) for end in ends if end.numel()]
