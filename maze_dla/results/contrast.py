"""The result of a contrast: two runs of a metric, and what in them depends on the change between their prompts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maze_dla.results.attribution import AttributionResult, ContributionResult
from maze_dla.results.base import Reported, format_mean, shown_accuracy
from maze_dla.results.components import Component
from maze_dla.results.statistics import Proportion

if TYPE_CHECKING:
    import pandas as pd

DEPENDENT, SHARED = "dependent", "shared"
PARTS = ("clean", "corrupted", DEPENDENT, SHARED)
CAUTION = (
    "Shared is not independent of the change: a part that writes 2 in one prompt and 0 in the other is half shared."
)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ContrastResult(Reported):
    """A metric attributed in both prompts of each pair, and split in two halves, all in logits.

    With u, v the unscaled contributions of a part (activation times pulled-back direction) in the clean and the
    corrupted run and a, b the inverse final scales of the two:

    - `dependent`: (u - v)/2 * (a + b)/2, what depends on the change. It sums to half the difference of the two metrics,
      and is exactly 0 for a part that writes the same in both runs.
    - `shared`: (u + v)/2 * (a + b)/2, what is common to both runs. It sums to half the sum of the two metrics. It is
      not independent of the change: a part that writes 2 in one prompt and 0 in the other is half shared.

    Both halves have one more component, `norm`, by which the final scales of the two runs differ: sum(u + v)/2 *
    (a - b)/2 in dependent, sum(u - v)/2 * (a - b)/2 in shared. The constant stands in shared alone. Prompts and tokens
    of the halves are those of the clean run. What is not linear (accuracy, scales, attention patterns) stays with the
    two runs.
    """

    clean: AttributionResult
    corrupted: AttributionResult
    dependent: ContributionResult
    shared: ContributionResult
    info: Mapping[str, Any]
    """The change made between the prompts, and how many pairs there are."""

    def __len__(self) -> int:
        return len(self.clean)

    @property
    def accuracy(self) -> Proportion | None:
        """The share of clean prompts that the model answers correctly; `corrupted.accuracy` is that of the others."""
        return self.clean.accuracy

    @property
    def warning(self) -> str | None:
        """A sentence where the model cannot do the task in one of the two runs."""
        said = [f"{name} prompts: {run.warning}" for name, run in self._runs().items() if run.warning]
        return " ".join(said) or None

    def select(self, prompts: Any) -> ContrastResult:
        """The contrast of just these pairs, numbered anew in this order, or of those where a mask holds.

        Args:
            prompts: as in `AttributionResult.select`.

        Raises:
            InputError: as `AttributionResult.select`.
        """
        parts = {part: getattr(self, part).select(prompts) for part in PARTS}
        made = self.info.get("selected_from", len(self))
        return replace(self, **parts, info={**self.info, "pairs": len(parts["clean"]), "selected_from": made})

    def save(self, path: str | Path) -> Path:
        """Write all four results to one `.zanj` file, replacing one of that name only when the new one is whole.

        Raises:
            ResultFileError: a name that does not end in `.zanj`, or a folder that cannot be written.
        """
        from maze_dla.results.storage import save_result

        return save_result(self, path)

    def to_frame(self) -> pd.DataFrame:
        """The tables of all four, one after the other, with a column `part`: clean, corrupted, dependent, shared."""
        import pandas as pd

        return pd.concat([getattr(self, part).to_frame().assign(part=part) for part in PARTS], ignore_index=True)

    def _runs(self) -> dict[str, AttributionResult]:
        return {"clean": self.clean, "corrupted": self.corrupted}

    def _summary_rows(self) -> list[tuple[str, str]]:
        clean = self.clean
        rows = [(name, str(clean.info.get(name, "?"))) for name in ("model", "task", "metric")]
        rows += [("change", str(self.info.get("change", "?"))), ("pairs", str(len(self)))]
        if self.info.get("left_out"):
            rows.append(("left out", f"{self.info['left_out']}, in which nothing can be changed so"))
        for name, run in self._runs().items():
            accuracy = shown_accuracy(run.accuracy)
            rows.append((f"{name} run", f"{format_mean(run.metric_summary())} logits, accuracy {accuracy}"))
        for half, words in ((self.dependent, "half the difference"), (self.shared, "half the sum")):
            heads = ", ".join(f"{h.name} {h.mean:+.2f}" for h in half.top_heads(3))
            total = f"{words} of the two runs, {format_mean(half.metric_summary())} logits"
            rows.append((f"{half.info['part']} part", f"{total}; strongest heads: {heads}"))
        if sizes := self.sizes_in_words():
            rows.append(("size in a pair", sizes))
        return [*rows, ("note", CAUTION)]

    def sizes_in_words(self, k: int = 3) -> str:
        """The heads whose shared part is largest in a pair, whatever its sign, beside the size of their dependent part.

        The mean of the shared part can be near zero where it is large in every pair: what a head writes for one of two
        steps has the sign of the pair's right one. Sizes are means of absolute values over pairs, in logits.
        """
        shared, dependent = (half.heads.abs().double().mean(0) for half in (self.shared, self.dependent))
        order = shared.flatten().argsort(descending=True, stable=True)[:k].tolist()
        found = []
        for layer, head in (divmod(i, shared.shape[1]) for i in order):
            sizes = f"{float(shared[layer, head]):.2f} shared, {float(dependent[layer, head]):.2f} dependent"
            found.append(f"{Component('head', layer, head)} {sizes}")
        return "; ".join(found)
