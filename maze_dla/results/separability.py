"""The result of separability: held-out predictions of classes by depth, beside controls; and principal components."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from maze_dla.errors import InputError
from maze_dla.results.base import Shown
from maze_dla.results.columns import Columns, groups_of, name_of
from maze_dla.results.probing import balanced, balanced_accuracy
from maze_dla.results.selection import selected
from maze_dla.results.statistics import Summary
from maze_dla.results.torch_defaults import torch_defaults
from maze_dla.results.words import about, written_after

if TYPE_CHECKING:
    import pandas as pd

EMBEDDINGS, LENGTH, RANDOM = "embeddings", "length", "random weights"
BASELINES = (EMBEDDINGS, LENGTH)
LEVEL = 0.05
LEAST_FOR_INFLATION = 10
LEAST_SHUFFLES = 19  # of which all are worse: p is 1 / 20


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class SeparabilityResult(Shown):
    """Which class each prompt is of, as a linear probe predicts it from activations, trained on other mazes.

    Accuracies are balanced: the mean over classes of the share of its prompts that are told rightly, so that `chance`
    is 1 over the number of classes. Their intervals are clustered by what prompts are about, over the held-out
    predictions of all folds, and are for the mean accuracy on new mazes of probes that are trained on so many mazes.
    Probes of different folds share most of the mazes that they are trained on, so that their errors are not
    independent: where nothing can be told the accuracy varies more from one set of mazes to the next than independent
    predictions would. By how much the permuted labels show, and `inflation` widens all intervals by it.
    """

    class_of: Int[Tensor, " prompt"]
    """The class of each prompt, an index into `classes`."""
    classes: tuple[str, ...]
    """The names of the classes."""
    depths: tuple[str, ...]
    """Depths that probes read: of the stream "0_pre" (the embeddings), "0_post", ...; else "0_attn_out", "2_z", ..."""
    folds: Int[Tensor, " prompt"]
    """The fold in which each prompt was held out."""
    probe_classes: Int[Tensor, "prompt depth"]
    """The class that the probe predicts for each held-out prompt."""
    baseline_classes: Int[Tensor, "prompt baseline"]
    """The same from the embeddings at the read position, and from the prompt's length alone (`BASELINES`)."""
    shuffled_class_of: Int[Tensor, "prompt shuffle"]
    """The classes permuted by group, which say nothing about the prompts."""
    shuffled_classes: Int[Tensor, "prompt shuffle depth"]
    """The classes predicted by probes that were trained on these."""
    random_classes: Int[Tensor, "prompt seed depth"]
    """The classes predicted from the activations of models with random weights."""
    coordinates: Float[Tensor, "prompt depth pc"]
    """The first two principal components of the activations of all prompts, centred; classes have no part in them."""
    explained: Float[Tensor, "depth pc"]
    """The share of the variance that each of the two explains."""
    prompt_tokens: tuple[tuple[str, ...], ...]
    info: Mapping[str, Any]
    columns: Columns = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.class_of)

    @property
    def chance(self) -> float:
        """The balanced accuracy of guessing: 1 over the number of classes."""
        return 1 / len(self.classes)

    @property
    def counts(self) -> dict[str, int]:
        """How many prompts each class has."""
        return dict(zip(self.classes, self.class_of.bincount(minlength=len(self.classes)).tolist(), strict=True))

    @property
    @torch_defaults()
    def clusters(self) -> Int[Tensor, " prompt"]:
        """The number of what each prompt is about; folds kept its prompts together."""
        named = self.columns.get(str(self.info.get("unit")))
        return groups_of(tuple(map(name_of, self.prompt_tokens)) if named is None else named)

    @cached_property
    @torch_defaults()
    def accuracy(self) -> Summary:
        """Balanced accuracy of the probe at each depth with its 95% interval, [depth]."""
        right = self.probe_classes == self.class_of[:, None]
        return balanced_accuracy(right.double(), self.class_of, self.clusters, self.inflation)

    @cached_property
    @torch_defaults()
    def inflation(self) -> float:
        """Variance of the accuracy over permuted labels, over that of independent predictions, all depths together.

        At least 1, and 1 where there are too few permutations (fewer than 10) to tell.
        """
        if len(self.shuffled) < LEAST_FOR_INFLATION:
            return 1.0
        nominal = [balanced(*self._shuffled_right(i)).standard_error.square() for i in range(len(self.shuffled))]
        expected = float(torch.stack(nominal).mean(0).sum())
        return max(1.0, float(self.shuffled.var(0).sum()) / expected) if expected > 0 else 1.0

    def _shuffled_right(self, i: int) -> tuple[Tensor, Tensor, Tensor]:
        """Whether the probe on a permutation is right by it, the permuted classes, and the clusters."""
        own = self.shuffled_class_of[:, i]
        return (self.shuffled_classes[:, i] == own[:, None]).double(), own, self.clusters

    @cached_property
    @torch_defaults()
    def shuffled(self) -> Float[Tensor, "shuffle depth"]:
        """Balanced accuracy of probes on permuted classes, of each permutation."""
        rows = [balanced(*self._shuffled_right(i)).mean for i in range(self.shuffled_class_of.shape[1])]
        return torch.stack(rows) if rows else torch.zeros(0, len(self.depths), dtype=torch.double)

    @cached_property
    @torch_defaults()
    def random(self) -> Float[Tensor, "seed depth"]:
        """Balanced accuracy of probes on models with random weights, of each of them."""
        right = self.random_classes == self.class_of[:, None, None]
        return balanced(right.double(), self.class_of, self.clusters).mean

    @torch_defaults()
    def baseline(self, name: str) -> Summary:
        """Balanced accuracy from the "embeddings" at the read position or from the prompt's "length", one number.

        Raises:
            InputError: another baseline.
        """
        if name not in BASELINES:
            raise InputError(f"baselines are {', '.join(BASELINES)}, got {name!r:.60}")
        right = self.baseline_classes[:, BASELINES.index(name)] == self.class_of
        return balanced_accuracy(right.double(), self.class_of, self.clusters, self.inflation)

    @torch_defaults()
    def beyond(self, name: str) -> Summary:
        """Balanced accuracy minus that of a control, prompt by prompt, with its 95% interval, [depth].

        Args:
            name: "embeddings", "length", or "random weights" (the mean over their seeds, at the same depth).

        Raises:
            InputError: another control, or no models with random weights.
        """
        right = (self.probe_classes == self.class_of[:, None]).double()
        if name == RANDOM and self.random_classes.shape[1]:
            control = (self.random_classes == self.class_of[:, None, None]).double().mean(1)
        elif name in BASELINES:
            control = (self.baseline_classes[:, BASELINES.index(name)] == self.class_of).double()[:, None]
        else:
            raise InputError(f"controls are {', '.join(self.controls)}, got {name!r:.60}")
        return balanced(right - control, self.class_of, self.clusters, self.inflation)

    @property
    def controls(self) -> tuple[str, ...]:
        """The controls that this result has, beside shuffled labels."""
        return (*BASELINES, *([RANDOM] if self.random_classes.shape[1] else []))

    @property
    @torch_defaults()
    def p_values(self) -> Float[Tensor, " depth"]:
        """(1 + permutations whose best depth is at least as good) / (1 + permutations): as many depths are looked at.

        NaN without permutations.
        """
        n = len(self.shuffled)
        if n == 0:
            return torch.full((len(self.depths),), torch.nan, dtype=torch.double)
        best = self.shuffled.amax(1)
        return (1 + (best[:, None] >= self.accuracy.mean).sum(0)).double() / (1 + n)

    @property
    @torch_defaults()
    def above_chance(self) -> tuple[str, ...]:
        """The depths at which the interval lies above chance and shuffled labels do worse (p at most 0.05)."""
        if 0 in self.counts.values():  # in a part of the prompts
            return ()
        held = (self.accuracy.low > self.chance) & ~(self.p_values > LEVEL)
        return tuple(depth for depth, yes in zip(self.depths, held.tolist(), strict=True) if yes)

    @property
    @torch_defaults()
    def above_controls(self) -> tuple[str, ...]:
        """Those of them at which the probe is also better than each control, by the intervals of the differences."""
        held = torch.stack([self.beyond(name).low > 0 for name in self.controls]).all(0)
        return tuple(d for d, yes in zip(self.depths, held.tolist(), strict=True) if yes and d in self.above_chance)

    @property
    def finding(self) -> str:
        """The conclusion from these numbers, in one sentence."""
        return _finding(self)

    @property
    @torch_defaults()
    def table(self) -> pd.DataFrame:
        """One row for each prompt: its columns, `class` and `fold`."""
        import pandas as pd

        known = {**self.columns, "class": [self.classes[k] for k in self.class_of.tolist()], "fold": self.folds}
        return pd.DataFrame({name: v.tolist() if isinstance(v, Tensor) else list(v) for name, v in known.items()})

    @torch_defaults()
    def by_depth(self) -> pd.DataFrame:
        """One row for each depth.

        Columns: accuracy (balanced) with low and high; shuffled (mean), shuffled_highest and p; of each control its
        accuracy and, as beyond_..., the lower end of the interval of the difference; explained, by both components.
        """
        import pandas as pd

        found = {"accuracy": self.accuracy.mean, "low": self.accuracy.low, "high": self.accuracy.high}
        if len(self.shuffled):
            found |= {"shuffled": self.shuffled.mean(0), "shuffled_highest": self.shuffled.amax(0), "p": self.p_values}
        for name in self.controls:
            mean = self.random.mean(0) if name == RANDOM else self.baseline(name).mean.expand(len(self.depths))
            found |= {name: mean, f"beyond_{name}_low": self.beyond(name).low}
        found["explained"] = self.explained.sum(1)
        return pd.DataFrame({name: values.tolist() for name, values in found.items()}, index=list(self.depths))

    @torch_defaults()
    def to_frame(self) -> pd.DataFrame:
        """One row for each prompt and depth: prompt, depth, class, predicted (held out), correct, pc1 and pc2."""
        import pandas as pd

        n, k = self.probe_classes.shape
        predicted, own = self.probe_classes.flatten().tolist(), self.class_of.repeat_interleave(k).tolist()
        return pd.DataFrame(
            {
                "prompt": [i for i in range(n) for _ in range(k)],
                "depth": list(self.depths) * n,
                "class": [self.classes[c] for c in own],
                "predicted": [self.classes[c] for c in predicted],
                "correct": [a == b for a, b in zip(own, predicted, strict=True)],
                "pc1": self.coordinates[..., 0].flatten().tolist(),
                "pc2": self.coordinates[..., 1].flatten().tolist(),
            }
        )

    @torch_defaults()
    def select(self, prompts: Any) -> SeparabilityResult:
        """The result of just these prompts: what probes that were trained on all of them predict there.

        Raises:
            InputError: as `PromptResult.select`.
        """
        return selected(self, prompts)

    def save(self, path: str | Path) -> Path:
        """Write the result to a `.zanj` file, replacing one of that name only when the new one is whole.

        Raises:
            ResultFileError: a name that does not end in `.zanj`, or a folder that cannot be written.
        """
        from maze_dla.results.storage import save_result

        return save_result(self, path)

    def _summary_rows(self) -> list[tuple[str, str]]:
        n_clusters = int(self.clusters.max()) + 1
        rows = [
            ("model", str(self.info.get("model", "?"))),
            ("question", str(self.info.get("question", "?"))),
            ("classes", ", ".join(f"{name} {n}" for name, n in self.counts.items())),
            ("prompts", str(len(self)) + about(len(self), n_clusters, self.info.get("unit"))),
            ("chance", f"{self.chance:.3f} (balanced accuracy)"),
        ]
        best = int(self.accuracy.mean.argmax())
        for i, what in {best: "highest", len(self.depths) - 1: "last depth"}.items():
            rows.append((f"{what}, {written_after(self.depths[i])}", shown_at(self.accuracy, i)))
        rows += [(f"from the {name}", shown_at(self.baseline(name), ...)) for name in BASELINES]
        if len(self.shuffled):
            low, high = float(self.shuffled.min()), float(self.shuffled.max())
            rows.append(("shuffled labels", f"{low:.3f} to {high:.3f} ({len(self.shuffled)} times, all depths)"))
        if RANDOM in self.controls:
            low, high = float(self.random.min()), float(self.random.max())
            rows.append((RANDOM, f"{low:.3f} to {high:.3f} ({len(self.random)} models, all depths)"))
        if missed := self.info.get("not_converged"):
            rows.append(("not converged", f"{missed} fits of the probe"))
        return [*rows, ("finding", self.finding)]


def shown_at(summary: Summary, i: Any) -> str:
    """One entry of a summary with its interval, "0.553 [0.512, 0.594]"."""
    mean, low, high = (float(getattr(summary, name)[i]) for name in ("mean", "low", "high"))
    return f"{mean:.3f} [{low:.3f}, {high:.3f}]"


def _finding(result: SeparabilityResult) -> str:
    """The sentence: which controls are passed where, and which is as good where none is."""
    if missing := [name for name, n in result.counts.items() if n == 0]:
        return f"none: there are no prompts of class {missing[0]}, so accuracies are not to be compared with chance"
    seen, passed = result.above_chance, result.above_controls
    n = len(result.shuffled)
    if 0 < n < LEAST_SHUFFLES:
        return f"none: {n} permutations of the labels are too few for a p-value of {LEVEL}, {LEAST_SHUFFLES} are enough"
    if not seen:
        return "at no depth do the probes tell the classes better than chance and shuffled labels"
    at_depths = f"at {len(seen)} of {len(result.depths)} depths"
    if not passed:
        as_good = [name for name in result.controls if not bool((result.beyond(name).low > 0).any())]
        named = " and ".join(as_good) or "one or another at every depth"
        return f"{at_depths} better than chance, but at none beyond every control (not beyond: {named})"
    first = passed[0]
    more = f" and {len(passed) - 1} later ones" if len(passed) > 1 else ""
    i = result.depths.index(first)
    compared = ", ".join(f"{name} {float(result.beyond(name).mean[i]):+.3f}" for name in result.controls)
    return (
        f"linearly separable beyond every control {written_after(first)}{more} of {len(result.depths)} depths, "
        f"first with {shown_at(result.accuracy, i)} (beyond {compared})"
    )
