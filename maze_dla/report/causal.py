"""A report's sections on what the answer hangs on: patching, ablation and a circuit, beside direct attribution."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from torch import Tensor

from maze_dla import plots
from maze_dla.analysis import ablate, find_circuit, patch
from maze_dla.engine.metrics import LinearMetric
from maze_dla.engine.pairs import PromptPairs
from maze_dla.engine.prompts import PromptBatch
from maze_dla.errors import InputError, check_kind
from maze_dla.report.facts import N_SHOWN, part_text
from maze_dla.report.page import Section
from maze_dla.report.pictures import Picture, save_picture
from maze_dla.results.base import format_mean
from maze_dla.results.circuits import CircuitResult
from maze_dla.results.disagreements import (
    MOSTLY_INDIRECT,
    OTHER_SIGN,
    OVERTURNED,
    REPAIR,
    REPAIR_OR_MORE,
    Disagreement,
)
from maze_dla.results.effects import EffectResult
from maze_dla.results.patching import PatchResult

N_STRONGEST = 10  # total effects that are listed
PATCHING, EFFECTS, WRONG, CIRCUIT = (
    "What brings the answer back? Patching",
    "What happens without a part? Ablation",
    "Where direct attribution misleads",
    "A circuit: which parts are enough?",
)
IN_WORDS = {
    OTHER_SIGN: "its direct and its total effect have opposite signs",
    MOSTLY_INDIRECT: "most of what it does goes through later parts, which direct attribution does not see",
    REPAIR: "later parts make up for at least half of what it wrote (repair)",
    OVERTURNED: "later parts lose or gain more than it wrote, in the other direction, which is no repair",
    REPAIR_OR_MORE: "later parts make up for all of what it wrote or more; its total effect may be zero",
}
MLP_NAMES = "0_mlp_out is the MLP of layer 0, L5H3 head 3 of layer 5, both counted from 0."
SHARE = "0 where the metric stays that of the corrupted prompts, 1 where it becomes that of the clean ones"


@dataclass(frozen=True)
class NoPairs:
    """There are no pairs of prompts to patch between, and `why`: the page says so."""

    why: str


def check_causal(causal: PromptPairs | NoPairs | bool, pairs: PromptPairs | None) -> PromptPairs | NoPairs | None:
    """The pairs to patch between, or why there are none; None where these sections are not asked for.

    Raises:
        InputError: neither pairs nor True or False.
    """
    check_kind(causal, PromptPairs | NoPairs | bool, "causal is True, False or PromptPairs, such as of maze.pairs()")
    if not isinstance(causal, bool):
        return causal
    if not causal:
        return None
    return NoPairs("no pairs of prompts were given") if pairs is None else pairs


def causal_sections(
    model: Any, batch: PromptBatch, metric: LinearMetric, pairs: PromptPairs | NoPairs, folder: Path
) -> list[Section]:
    """Patching between pairs, ablation of heads and MLPs, where direct attribution misleads, and a circuit."""
    effects = {"heads": ablate(model, batch, metric, parts="heads")}
    with suppress(InputError):  # of a model without MLPs
        effects["MLPs"] = ablate(model, batch, metric, parts="mlps")
    return [
        _patching(model, pairs, folder),
        _effects(effects, folder),
        _misleads(effects),
        _circuit(model, batch, metric),
    ]


def _patching(model: Any, pairs: PromptPairs | NoPairs, folder: Path) -> Section:
    if isinstance(pairs, NoPairs):
        why = f"There is no patching on this page, since that needs pairs of prompts: {pairs.why.rstrip('.')}. "
        return Section(PATCHING, why + "The sections on ablation below need no pairs.", ())
    stream, heads = (patch(model, pairs, site=site) for site in ("resid_pre", "z"))
    pictures = [*_of_stream(stream, folder), _of_heads(heads, folder), *_of_one_pair(stream, pairs, folder)]
    return Section(PATCHING, _pairs_in_words(stream, pairs), pictures, _by_layer(stream) + _strongest_heads(heads))


def _pairs_in_words(result: PatchResult, pairs: PromptPairs) -> str:
    left_out = pairs.info.get("left_out") or 0
    reasons = "; ".join(map(str, pairs.info.get("why") or ()))
    because = f" ({reasons})" if reasons else ""
    made = pairs.n_made
    without = f" {left_out} of {left_out + made} prompts have no such pair and are left out{because}." * bool(left_out)
    without += f" These pairs are a selection of {made}." * ("selected_from" in pairs.info)
    clean, corrupted = (format_mean(result.summarized(run)) for run in (result.clean, result.corrupted))
    told = bool(result.recovered.known.any())
    scale = f"The result is given as a share: {SHARE}." if told else (
        "The two runs cannot be told apart on average, so there are no shares: results are mean changes in logits."
    )  # fmt: skip
    return (
        f"{len(pairs)} pairs of prompts differ in one thing ({pairs.info.get('change', 'own pairs')}) and in the "
        f"answer.{without} The metric here is {result.info.get('metric')}, {_answers(pairs)}: {clean} logits on the "
        f"clean prompts, {corrupted} on the corrupted ones.\n\n"
        "Patching runs the corrupted prompt with the activation of one place taken from the clean run, and looks how "
        f"far the answer comes back. {scale} A place that brings the answer back holds what the two prompts differ "
        "in, in a form that later parts use. Each place is patched by itself; shares of several places do not add up."
        "\n\nThe table names for each layer the place that brings most "
        "back (chosen and measured on the same pairs) and the position where the answer is read, then the strongest "
        "heads, in logits, on mazes or prompts that did not choose them where there are enough."
    )


def _answers(pairs: PromptPairs) -> str:
    """Which logits the metric of pairs is made of."""
    return "the clean prompt's answer minus " + (
        "the corrupted prompt's" if pairs.unanswered is None else "the wrong tokens that the clean prompt names"
    )


def _by_layer(result: PatchResult) -> list[tuple[str, str]]:
    """For each layer of the residual stream the position that changes most, and what the read position does."""
    changes, rows = result.change_summary, []
    for layer, means in enumerate(changes.mean):
        best, last = int(means.abs().nan_to_num(-1.0).argmax()), len(means) - 1
        words = [f"{_place(result, best)} {_measure(result, layer, best)}"]
        if best != last:
            words.append(f"{_place(result, last)} {_measure(result, layer, last)}")
        rows.append((f"residual stream before layer {layer}", "; ".join(words)))
    return rows


def _measure(result: PatchResult, *at: int) -> str:
    """The share that a site recovers; its mean change where that is not known."""
    if bool(result.recovered.known[at]):
        return result.recovered.shown(*at)
    change = result.change_summary
    mean, low, high = (float(values[at]) for values in (change.mean, change.low, change.high))
    return f"{mean:+.3f} [{low:+.3f}, {high:+.3f}] logits" if low == low else f"{mean:+.3f} logits"


def _place(result: PatchResult, column: int) -> str:
    """A position, as an offset from the read position and by its kind where all prompts agree on that."""
    offset = result.offsets[column]
    name = "the read position" if offset == 0 else f"{-offset} before the read position"
    if result.token_kinds is None:
        return name
    at = result.lengths - 1 + offset
    found = {int(kinds[i]) for kinds, i in zip(result.token_kinds, at.tolist(), strict=True) if i >= 0}
    return f"{name} ({result.kinds[found.pop()]})" if len(found) == 1 and offset else name


def _strongest_heads(result: PatchResult) -> list[tuple[str, str]]:
    return [(f"head {part.name}", part_text(part)) for part in result.top(N_SHOWN)]


def _of_stream(result: PatchResult, folder: Path) -> list[Picture]:
    how = f"One colour a layer and place: {SHARE}. Places are counted back from the read position, the last column. "
    how += "Columns that few pairs reach may be grey: there the two runs cannot be told apart."
    drawn = [_saved(plots.patching(result), folder, "patched_positions", "The residual stream by position", how)]
    if result.token_kinds is not None:
        how = "The same by kind of token: of the tokens of a kind the one that changes most in each prompt, patched "
        how += "alone. All tokens of a kind together may bring back more, or less."
        kinds = plots.patching(result, kinds=True)
        drawn.append(_saved(kinds, folder, "patched_kinds", "The residual stream by kind of token", how))
    return drawn


def _of_heads(result: PatchResult, folder: Path) -> Picture:
    how = "What each head's output, patched at all positions together, brings back; the strongest heads are named."
    return _saved(plots.patching(result), folder, "patched_heads", "Which heads carry it?", how)


def _of_one_pair(result: PatchResult, pairs: PromptPairs, folder: Path) -> list[Picture]:
    """The pair whose two runs are about as far apart as the median, on its lattice by layer."""
    apart: Tensor = result.clean - result.corrupted
    number = int((apart - apart.median()).abs().argmin())
    if pairs.geometry(number) is None:
        return []
    how = (
        f"Pair {number}, whose two runs are about as far apart as the median, once for each layer: each cell has the "
        "largest change that patching one of its tokens makes, in logits. The maze and its path are those of the clean "
        "prompt; bars between cells are passages, and grey cells lie outside the maze."
    )
    axes = plots.patching_on_maze(result, pairs, number)[0]
    return [_saved(axes, folder, "patched_maze", "One pair: which cells matter at which layer?", how)]


def _effects(effects: Mapping[str, EffectResult], folder: Path) -> Section:
    heads = effects["heads"]
    words = (
        f"Each head and each MLP is switched off by itself: at the read position its output is replaced by the mean of "
        f"its outputs there over all {len(heads)} prompts. The total effect is how much the metric "
        f"({heads.info.get('metric')}, {format_mean(heads.metric_summary())} logits) changes, below zero where the "
        "part helped. The direct effect is what direct attribution knows: the change of what the part itself writes "
        "for the metric. The rest is indirect, through later parts that then see something else.\n\nThe table has "
        "the strongest total effects, estimated on mazes or prompts that did not choose them where there are enough. "
        f"{MLP_NAMES}"
    )
    every = chain.from_iterable(result.top(N_STRONGEST) for result in effects.values())
    strongest = sorted(every, key=lambda part: -abs(part.mean))
    rows = [(part.name, part_text(part)) for part in strongest[:N_STRONGEST]]
    how = "On the dashed line all of a part's effect is direct; {} far from it act through later parts."
    pictures = [
        _saved(plots.direct_and_total(result), folder, f"direct_and_total_{name}", f"Direct and total: {name}", caption)
        for name, result, caption in ((name, result, how.format(name)) for name, result in effects.items())
    ]
    return Section(EFFECTS, words, pictures, rows)


def _misleads(effects: Mapping[str, EffectResult]) -> Section:
    every = chain.from_iterable(result.disagreements() for result in effects.values())
    found = sorted(every, key=lambda one: -abs(float(one.indirect.mean)))
    n = sum(len(result.part_labels) for result in effects.values())
    words = (
        f"{len(found)} of {n} heads and MLPs: reading off what they write themselves says something else than "
        "switching them off does. Listed are parts whose direct and total effect have opposite signs, parts whose "
        "indirect effect is larger than the direct one, and parts whose indirect effect is opposed to the direct one "
        "and at least half its size: repair where the total stays between zero and the direct effect. The 95% "
        "intervals of the effects that make an entry exclude zero; those of its other effects may include it, which is "
        "marked.\n\n"
        f"The intervals are those of one part at a time: of parts without any such effect one in twenty excludes zero "
        f"by chance, here about {n / 20:.1f} of {n}, so a weak entry alone proves nothing."
    )
    return Section(WRONG, words, (), [(one.name, _disagreement(one)) for one in found])


def _disagreement(one: Disagreement) -> str:
    return f"{one.effects} logits: {'; '.join(IN_WORDS[kind] for kind in one.in_words)}"


def _circuit(model: Any, batch: PromptBatch, metric: LinearMetric) -> Section:
    try:
        found = find_circuit(model, batch, metric)
    except InputError as problem:
        return Section(CIRCUIT, f"No circuit was looked for: {str(problem).rstrip('.')}.", ())
    return Section(CIRCUIT, _circuit_in_words(found), (), _circuit_rows(found))


def _circuit_in_words(found: CircuitResult) -> str:
    unit = str(found.info.get("unit", "prompt"))
    return (
        "All heads and MLPs are switched off at the read position, as above but all at once; then the one that raises "
        f"the metric most is switched on again, and so on, until {found.info['share_asked']:.0%} of the metric is "
        "back (0 with all switched off, 1 for the whole model). Earlier positions keep all that they do. The search "
        f"sees one half of the {unit}s ({found.info['chosen_on']} prompts); its share there is too good, since parts "
        f"were chosen for it.\n\n"
        f"The share that counts is that of the other {len(found)} prompts. Where it is much lower, or its interval "
        "wide, these parts do not explain the answer in general. A greedy search finds a set, neither "
        "the smallest nor the only one."
    )


def _circuit_rows(found: CircuitResult) -> list[tuple[str, str]]:
    rows = [("parts, in the order found", ", ".join(found.parts))]
    rows.append(("share on prompts that chose them", f"{found.info['share_where_chosen']:.2f}"))
    rows.append(("share on the other prompts", _share(found)))
    for name, values in (
        ("the whole model there", found.metric),
        ("these parts alone", found.kept),
        ("all switched off", found.ablated),
    ):
        rows.append((name, f"{format_mean(found.summarized(values))} logits"))
    return rows


def _share(found: CircuitResult) -> str:
    told = bool(found.share.known.all())
    return found.share.shown(0) if told else "unknown: there the whole model cannot be told from all switched off"


def _saved(axes: Any, folder: Path, name: str, title: str, caption: str) -> Picture:
    return save_picture(axes, folder / f"{name}.png", title, caption)
