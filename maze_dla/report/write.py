"""From a model and its prompts to the files of a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from maze_dla.analysis import attribute, logit_lens
from maze_dla.engine.metrics import LinearMetric
from maze_dla.engine.pairs import PromptPairs
from maze_dla.engine.prompts import PromptBatch
from maze_dla.errors import check_kind
from maze_dla.files import drafted_folder, output_folder
from maze_dla.report.causal import NoPairs, causal_sections, check_causal
from maze_dla.report.close_up import RULES, check_asked, look_closely
from maze_dla.report.facts import fact_table
from maze_dla.report.halves import draw_halves
from maze_dla.report.page import Section, render_page
from maze_dla.report.pictures import PICTURES, draw_close_up, draw_pictures
from maze_dla.report.scales import Scales
from maze_dla.results.attribution import AttributionResult
from maze_dla.results.lens import LensResult
from maze_dla.results.torch_defaults import torch_defaults

PAGE, RESULT = "report.html", "result.zanj"
NOT_SHARED = (
    "Scales and colours of the pictures in this section are this report's own, other than in the reports that are to "
    "be read beside it: compare numbers, not colours."
)


@dataclass(frozen=True)
class Report:
    """The files that were written: page, result and pictures; `facts` is the short table."""

    result: AttributionResult
    page: Path
    result_file: Path
    pictures: tuple[Path, ...]
    facts: tuple[tuple[str, str], ...]


@torch_defaults()
def write_report(
    model: Any,
    batch: PromptBatch,
    metric: LinearMetric,
    out: str | Path,
    *,
    prompt: int | None = None,
    beside: Sequence[AttributionResult | LensResult] = (),
    pairs: PromptPairs | None = None,
    causal: PromptPairs | NoPairs | bool = False,
) -> Report:
    """Attribute a metric, draw it, and write `report.html`, `result.zanj` and the pictures into a folder.

    The folder is made if it is missing. Files of an earlier report are replaced only when all new ones are there.

    Args:
        model: a `MazeModel`, or a model of TransformerLens.
        batch: its prompts, about mazes or not.
        metric: made for them.
        out: the folder.
        prompt: which prompt the close-up shows; None for three: a typical one, the longest path that the model gets
            right, and one that it gets wrong.
        pairs: prompts with their counterfactuals, of `maze.pairs` for one: the page says which parts depend on what was
            changed.
        causal: also say what the answer hangs on: ablation of heads and MLPs with the direct and the total effect of
            each, where direct attribution misleads, a circuit, and patching between pairs. True takes `pairs`;
            PromptPairs are patched without a section on what depends on the change. Without any the page says that
            there is no patching, and `NoPairs(why)` why.
        beside: results whose reports are to be read beside this one, of `attribute` and of `logit_lens` at each depth's
            own scale: pictures over all prompts take a scale in which all of them fit; sections on pairs and
            interventions keep scales of their own, and say so.

    Raises:
        InputError: the folder cannot be written, batch, metric and pairs do not fit, or there is no such prompt.
        ModelError: `causal`, and a model that has no heads or MLPs to edit.
        CompletenessError: contributions or effects do not add up.
    """
    check_asked(batch, prompt, out)
    patched = check_causal(causal, pairs)
    if pairs is not None:
        check_kind(pairs, PromptPairs, "pairs are PromptPairs, such as those of maze.pairs()")
    with output_folder(out) as folder:
        return _write(model, batch, metric, folder, prompt, beside, pairs, patched)


def _with_own_scales(section: Section) -> Section:
    """The section, which says where it has pictures that their scales are not shared."""
    return replace(section, words=f"{section.words}\n\n{NOT_SHARED}") if section.pictures else section


def _write(
    model: Any,
    batch: PromptBatch,
    metric: LinearMetric,
    folder: Path,
    prompt: int | None,
    beside: Sequence[AttributionResult | LensResult],
    pairs: PromptPairs | None,
    patched: PromptPairs | NoPairs | None,
) -> Report:
    result = attribute(model, batch, metric, neurons="mean", sources=False if batch.sequence_kinds is None else "kinds")
    own = logit_lens(model, batch, metric, scale="own")
    close_ups = look_closely(model, batch, metric, result, prompt)
    scales = Scales.of([result, own, *beside]) if beside else Scales()
    facts = fact_table(result, own)
    steps = batch.steps if len(batch) > len(batch.sequences) else None  # where mazes are read at several
    with drafted_folder(folder, owned=PICTURES) as draft:
        sections = [Section("", "", draw_pictures(result, own, steps, scales, draft))]
        if pairs is not None:
            title = f"What depends on the {pairs.info.get('change', 'change')}?"
            sections.append(Section(title, *draw_halves(model, pairs, draft)))
        if patched is not None:
            sections += causal_sections(model, batch, metric, patched, draft)
        if beside:
            sections = [_with_own_scales(section) if section.title else section for section in sections]
        for one in close_ups:
            title = f"Prompt {one.number}: {RULES[one.rule]}"
            sections.append(Section(title, one.why, draw_close_up(result, one, draft)))
        (draft / PAGE).write_text(render_page(result, facts, sections), encoding="utf-8")
        result.save(draft / RESULT)
    drawn = tuple(folder / p.file.name for section in sections for p in section.pictures)
    return Report(result, folder / PAGE, folder / RESULT, drawn, tuple(facts))
