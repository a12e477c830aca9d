"""The result of a rollout: the walks of a model by itself, judged in their mazes, beside random walkers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from maze_dla.errors import InputError
from maze_dla.results.base import PromptResult, format_signed
from maze_dla.results.columns import groups_of
from maze_dla.results.skill import BASELINES, AccuracyComparison, Skill, skill_of_prompts
from maze_dla.results.statistics import Proportion, Summary, proportion, summarize
from maze_dla.results.torch_defaults import torch_defaults

if TYPE_CHECKING:
    import pandas as pd

Score = Literal[
    "solved",
    "exact",
    "shortest",
    "valid",
    "reached",
    "finished",
    "adjacent",
    "connected",
    "overlap",
    "end_distance",
    "n_steps",
    "other_tokens",
]
SCORES: tuple[Score, ...] = get_args(Score)
YES_OR_NO = SCORES[:6]
SHOWN: dict[Score, str] = {
    "solved": "solved",
    "exact": "exact",
    "valid": "valid",
    "reached": "target reached",
    "adjacent": "steps adjacent on the lattice",
    "connected": "steps connected in the maze",
    "overlap": "overlap with the solution",
}
FAULTS = (
    "not the origin",
    "jumped",
    "stayed",
    "through a wall",
    "turned back",
    "away from the target",
    "ended early",
    "past the target",
    "not a cell",
    "after no cell",
    "cut off from the target",
)
BESIDE = ("solved", "reached")  # the scores whose difference to walkers the short representation shows
UNFINISHED = "unfinished, "  # how what left a walk so begins in the column `stopped`
NEVER = -1  # the first wrong step of a walk that has none


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class RolloutResult(PromptResult):
    """Walks that a model took by itself, one for each prompt and sample, judged in their mazes.

    A step is counted as in prompts: the number of tokens between `<PATH_START>` and the token in question, so that the
    origin is token 0 and the first move step 1.

    | score | of a walk, by the cells that it names |
    | --- | --- |
    | `solved` | a shortest path or the very solution from origin to target, then `<PATH_END>`, and nothing else |
    | `exact` | the solution, cell by cell |
    | `shortest` | valid, to the target, and as short as can be: in mazes with loops another one than the solution may be |
    | `valid` | from the origin on, every step leads through an open passage |
    | `reached` | the last cell is the target |
    | `finished` | the walk ended with `<PATH_END>`; else it is unfinished |
    | `adjacent`, `connected` | share of steps between neighbours on the lattice, and through a passage; NaN without steps |
    | `overlap` | share of the solution's cells that the walk visits, in whatever order |
    | `end_distance` | steps from the last cell to the target, in the maze; NaN where no way leads there |
    | `n_steps` | steps between cells |
    | `other_tokens` | tokens that are no cells, `<PATH_END>` aside |

    `exact`, `valid`, `reached` and `overlap` are the `exact_path_predicted`, "valid rollouts", "rollouts with target
    reached" and `node_overlap` of maze-transformer's `evaluation/path_evals.py`: as there, tokens that are no cells are
    passed over, and neither the end nor other tokens count. Different from it: `adjacent` and `connected` are both
    divided by the number of steps, where maze-transformer divides the first by that of cells, and gives 0 for the
    second where there is no step; `end_distance` counts steps in the maze, where `distance_between_end_nodes` is
    Euclidean; and a valid walk begins at the origin.

    `metric` is the log-likelihood of the tokens that the model said, in nats and at temperature 1, `correct` is
    `solved`, `targets` are the solutions and `predicted` the walks as texts, from the token after `<PATH_START>` on.
    """  # noqa: E501

    scores: Float[Tensor, "prompt score"]
    """The scores of each walk, in the order of `SCORES`; yes is 1."""
    log_probs: Float[Tensor, "prompt token"]
    """The log-probability of each token that the model said, in nats; NaN after the last."""
    given: Int[Tensor, " prompt"]
    """How many tokens after `<PATH_START>` were given: 1 for the origin."""
    faults: tuple[tuple[str, ...], ...]
    """The fault of each token that the model said, by itself: one of `FAULTS`, empty for a right one."""
    walkers: Float[Tensor, "prompt walker score"]
    """The scores of random walkers in the same maze, means over their walks."""
    walker_names: tuple[str, ...]
    """The names of the walkers."""

    @property
    def walks(self) -> tuple[tuple[str, ...], ...]:
        """The tokens of each walk, from the one after `<PATH_START>` on; the first ones were `given`."""
        return tuple(tuple(text.split()) for text in self.predicted or ())

    @property
    def solutions(self) -> tuple[tuple[str, ...], ...]:
        """The tokens of each maze's solution, `<PATH_END>` the last."""
        return tuple(tuple(text.split()) for text in self.targets)

    @property
    @torch_defaults()
    def first_wrong(self) -> Int[Tensor, " prompt"]:
        """The step of the first token that is wrong where the walk stood; -1 where none is."""
        firsts = [next((k for k, fault in enumerate(faults) if fault), None) for faults in self.faults]
        given = self.given.tolist()
        return torch.tensor([NEVER if k is None else k + n for k, n in zip(firsts, given, strict=True)])

    @property
    def first_fault(self) -> tuple[str, ...]:
        """The fault of that token; empty where none is wrong."""
        return tuple(next((fault for fault in faults if fault), "") for faults in self.faults)

    @torch_defaults()
    def score(self, name: Score) -> Float[Tensor, " prompt"]:
        """A score of each walk by its name; yes is 1.

        Raises:
            InputError: no such score.
        """
        return self.scores[:, _place(name)]

    @torch_defaults()
    def holds(self, name: Score) -> Bool[Tensor, " prompt"]:
        """For which walks a score that is yes or no is yes.

        Raises:
            InputError: no such score.
        """
        return self.scores[:, _place(name, YES_OR_NO)] > 0

    @torch_defaults()
    def share(self, name: Score) -> Proportion:
        """The share of walks for which a score that is yes or no is yes, with Wilson's interval, clustered by maze.

        Raises:
            InputError: no such score.
        """
        return proportion(self.holds(name), self.clusters)

    @torch_defaults()
    def summary(self, name: Score) -> Summary:
        """Mean of a score with its clustered interval, over the walks that have it.

        Raises:
            InputError: no such score, or no walk that has it.
        """
        values = self.score(name)
        if bool(values.isnan().all()):
            raise InputError(f"no walk has a score {name!r}")
        return self.summarized(values)

    @torch_defaults()
    def summarized(self, values: Float[Tensor, "prompt ..."]) -> Summary:
        """Mean, standard error and 95% interval over walks, clustered by maze; walks without a score are left out."""
        if values.ndim > 1 or not bool(values.isnan().any()) or bool(values.isnan().all()):
            return super().summarized(values)
        known = ~values.isnan()
        return summarize(values[known], groups_of(self.clusters[known]))

    @torch_defaults()
    def beside_walkers(self, name: Score = "solved") -> tuple[AccuracyComparison, ...]:
        """A score beside that of each random walker, with paired differences and intervals, clustered by maze.

        Walks of which either has no score are left out.

        Raises:
            InputError: no such score.
        """
        place = _place(name)
        plain = dict(zip(self.walker_names, self.walkers[..., place].unbind(1), strict=True))
        if name in YES_OR_NO:
            return skill_of_prompts(self.holds(name), plain, {BASELINES: self.walker_names}, self.clusters).comparisons
        found, own = [], self.scores[:, place]
        for walker, values in plain.items():
            known = ~(own.isnan() | values.isnan())
            if bool(known.any()):
                groups = groups_of(self.clusters[known])
                both = summarize(values[known], groups), summarize((own - values)[known], groups)
                found.append(AccuracyComparison(walker, *both, int(known.sum())))
        return tuple(found)

    @property
    @torch_defaults()
    def baselines(self) -> dict[str, Float[Tensor, " prompt"]]:
        """For each random walker the share of its walks that solve the maze."""
        return dict(zip(self.walker_names, self.walkers[..., _place("solved")].unbind(1), strict=True))

    @property
    @torch_defaults()
    def skill(self) -> Skill:
        """The share of mazes solved beside that of random walkers."""
        return Skill(self.beside_walkers("solved"), len(self), 0)

    @property
    @torch_defaults()
    def means(self) -> pd.DataFrame:
        """One row for each score: mean, low and high of the model, and the same of the difference to each walker.

        The interval of a share of walks is Wilson's, all are clustered by maze. NaN where no walk has a score.
        """
        import pandas as pd

        rows = {}
        for name in SCORES:
            known = not bool(self.score(name).isnan().all())
            rows[name] = dict(
                zip(("mean", "low", "high"), self._interval(name) if known else (torch.nan,) * 3, strict=True)
            )
            for one in self.beside_walkers(name):
                difference = (one.difference.mean, one.difference.low, one.difference.high)
                rows[name] |= {one.name: float(one.plain.mean)}
                rows[name] |= {
                    f"above {one.name}{end}": float(x)
                    for end, x in zip(("", ", low", ", high"), difference, strict=True)
                }
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("score")

    def _interval(self, name: Score) -> tuple[float, float, float]:
        if name in YES_OR_NO:
            return (self.share(name).value, *self.share(name).interval)
        summary = self.summary(name)
        return float(summary.mean), float(summary.low), float(summary.high)

    @property
    @torch_defaults()
    def table(self) -> pd.DataFrame:
        """One row for each walk, with its number as the index.

        First the columns of its maze: `maze`, `sample`, `origin_cell`, `target_cell`, `path_length` (steps of the
        solution) and any of your own; `stopped` ("path end", or what left it unfinished), the scores, `first_wrong`
        (the step of the first wrong token, -1 where none is) and `fault` (what was wrong with it), `log_likelihood`,
        `walk` and `solution`.
        """
        import pandas as pd

        scores = {name: self.holds(name) if name in YES_OR_NO else self.score(name) for name in SCORES}
        counts = {name: self.score(name).long() for name in ("n_steps", "other_tokens")}
        said = {"first_wrong": self.first_wrong, "fault": self.first_fault, "log_likelihood": self.metric}
        texts = {"walk": self.predicted or (), "solution": self.targets}
        known = {**self.columns, **scores, **counts, **said, **texts}
        return pd.DataFrame({name: v.tolist() if isinstance(v, Tensor) else list(v) for name, v in known.items()})

    @torch_defaults()
    def to_frame(self) -> pd.DataFrame:
        """One row for each token that the model said.

        Columns: prompt (the number of the walk), step, token, log_prob (nats), right, and fault (what is wrong with it
        where the walk then stood).
        """
        import pandas as pd

        rows = []
        for i, (walk, faults, first) in enumerate(zip(self.walks, self.faults, self.given.tolist(), strict=True)):
            for k, (token, fault) in enumerate(zip(walk[first:], faults, strict=True)):
                rows.append((i, first + k, token, float(self.log_probs[i, k]), not fault, fault))
        return pd.DataFrame(rows, columns=["prompt", "step", "token", "log_prob", "right", "fault"])

    def per_prompt(self) -> dict[str, Float[Tensor, "prompt ..."]]:
        """The numbers of each walk: its log-likelihood and its scores."""
        return {**super().per_prompt(), **{name: self.score(name) for name in SCORES}}

    def _summary_rows(self) -> list[tuple[str, str]]:
        rows = [
            ("model", str(self.info.get("model", "?"))),
            ("walks", f"{len(self)}{self.about}, {self.info.get('walk', '?')}"),
        ]
        rows += [("in words", self.in_words)]
        return rows + [(words, self._shown(name)) for name, words in SHOWN.items()] + self._wrong_rows()

    @property
    def in_words(self) -> str:
        """How many walks solve their maze, and how many of the random walkers'."""
        n, walkers = len(self), self.baselines
        share = {name: float(solved.mean()) * n for name, solved in walkers.items()}
        plain = "; ".join(f"a {name} solves {count:.1f} of {n}" for name, count in share.items())
        return f"{int(self.holds('solved').sum())} of {n} walks solve their maze; {plain}"

    def _shown(self, name: Score) -> str:
        if bool(self.score(name).isnan().all()):
            return "-"
        mean, low, high = self._interval(name)
        words = [f"{mean:.3f} [{low:.3f}, {high:.3f}]"]
        if name == "valid" and (n := int((self.score("n_steps") == 0).sum())):
            words.append(f"{n} walks take no step")
        if name in BESIDE:
            compared = self.beside_walkers(name)
            words += [f"{c.name} {float(c.plain.mean):.3f}, difference {format_signed(c.difference)}" for c in compared]
        return "; ".join(words)

    def _wrong_rows(self) -> list[tuple[str, str]]:
        faults, steps = Counter(filter(None, self.first_fault)), self.first_wrong
        wrong = steps[steps != NEVER].double()
        counted = ", ".join(f"{n} {fault}" for fault, n in faults.most_common()) or "none"
        median = f"; median step {float(wrong.median()):.0f}" if len(wrong) else ""
        unfinished = Counter(str(text) for text in self.columns.get("stopped", ()) if text != "path end")
        rows = [("first wrong steps", counted + median)]
        if unfinished:
            rows.append(
                ("unfinished", ", ".join(f"{n} {text.removeprefix(UNFINISHED)}" for text, n in unfinished.items()))
            )
        return rows


def _place(name: object, of: tuple[str, ...] = SCORES) -> int:
    if not isinstance(name, str) or name not in of:
        raise InputError(f"no score {name!r:.80} here: expected one of {', '.join(of)}")
    return SCORES.index(name)  # pyright: ignore[reportArgumentType]
