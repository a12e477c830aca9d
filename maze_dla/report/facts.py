"""The short table of a report: what it says in words and figures."""

from __future__ import annotations

from maze_dla.results.attribution import AttributionResult
from maze_dla.results.base import format_mean, shown_accuracy, skill_rows
from maze_dla.results.lens import LensResult
from maze_dla.results.ranking import RankedPart
from maze_dla.results.statistics import proportion
from maze_dla.results.words import depth_name

N_STRATEGIES = 4  # of those that are known, the best first
N_RANKED = 10  # heads and neurons of a list: held-out estimates are those of a list of this length
N_SHOWN = 5  # of them in the short table


def fact_table(result: AttributionResult, own: LensResult) -> list[tuple[str, str]]:
    """Name and value of each line, for the terminal and the page alike; `own` is the lens at each depth's own scale."""
    origin = result.info.get("mazes", result.info.get("prompts", "no origin given"))
    return [
        ("model", str(result.info.get("model"))),
        ("checkpoint", str(result.info.get("checkpoint"))),
        ("task", str(result.info.get("task"))),
        ("prompts", f"{len(result)}{result.about} ({origin})"),
        *_accuracies(result),
        (f"metric: {result.info.get('metric')}", f"{format_mean(result.metric_summary())} logits"),
        *((f"head {part.name}", part_text(part)) for part in result.top_heads(N_RANKED)[:N_SHOWN]),
        ("half of it is there", f"{_half(result.lens())} (lens at the final norm's recorded scale)"),
        ("at each depth's own scale", _half(own)),
        ("completeness gap", completeness_text(result)),
    ]


def _half(lens: LensResult) -> str:
    """The depth at which the mean metric reaches half of its final value."""
    if lens.lens_summary().may_be_zero:
        return "not to be told: the metric's interval includes zero"
    half = lens.first_depth_with(0.5)
    return f"after {depth_name(lens.labels, half)}" if half else "nowhere: it is not positive"


def _accuracies(result: AttributionResult) -> list[tuple[str, str]]:
    """How often the model is right: by its most likely token, and where wrong ones are named, against those."""
    if result.accuracy is None:
        return [("accuracy", shown_accuracy(None))]
    beside = skill_rows(result.skill, N_STRATEGIES)
    lines = [(accuracy_name(result), f"{result.accuracy}, 95% intervals in brackets")]
    if result.preferred is not None and result.correct is not None:
        lines.append(("most likely token is right", str(proportion(result.correct, result.clusters))))
    return [*lines, *beside]


def accuracy_name(result: AttributionResult) -> str:
    """The name of the accuracy: of the most likely token, or of the likelier of two."""
    return "correct likelier than incorrect" if result.info.get("forced_choice") else "accuracy"


def part_text(part: RankedPart) -> str:
    """A contribution or an effect with its interval, and what is to be said of it."""
    number, *marks = str(part).removeprefix(part.name).strip().split("], ", 1)
    return f"{number}] logits, {marks[0]}" if marks else f"{number} logits"


def completeness_text(result: AttributionResult) -> str:
    """The largest gap, and of how much."""
    largest = float(result.gap.abs().max())
    size = float(result.layers.abs().amax())
    return f"{largest:.1e} logits at most, beside parts of up to {size:.1f}"
