"""The HTML page: one file that opens anywhere."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape as escape_html

from maze_dla.errors import visible
from maze_dla.report.facts import N_RANKED, part_text
from maze_dla.report.pictures import Picture
from maze_dla.results.attribution import AttributionResult
from maze_dla.results.base import format_mean
from maze_dla.results.ranking import RankedPart
from maze_dla.results.storage import installed_versions

PROVENANCE = ("checkpoint", "sha256", "seed", "prepend_bos", "mazes", "prompts")
HOW_RANKED = (
    "<p>Means with 95% intervals, estimated on other prompts than those that picked the part for being large; "
    "where there are too few for that, the part says so.</p>"
)
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #1b1f24; }
h1 { margin-bottom: 0; } .lead { color: #57606a; margin-top: .2rem; }
table { border-collapse: collapse; margin: 1rem 0; } th, td { text-align: left; padding: .25rem .9rem .25rem 0; }
tr { border-bottom: 1px solid #d8dee4; } td { font-variant-numeric: tabular-nums; }
figure { margin: 2rem 0; } img { max-width: 100%; } figcaption { color: #57606a; max-width: 48rem; }
.promise { background: #eef6ee; border-left: 4px solid #4a7c59; padding: .6rem 1rem; }
.warning { background: #fdf3e7; border-left: 4px solid #b35900; padding: .6rem 1rem; }
footer { color: #57606a; font-size: .85rem; margin-top: 3rem; }
"""


@dataclass(frozen=True)
class Section:
    """Pictures of one thing, with its title and words about it, both empty for what is about all prompts.

    An empty line parts paragraphs. `rows` are those of a table between the words and the pictures, name and value.
    """

    title: str
    words: str
    pictures: Sequence[Picture]
    rows: Sequence[tuple[str, str]] = ()


def escape(text: str) -> str:
    """Text for a page, which is UTF-8: a file's name need not be, nor need what was read from a file."""
    return escape_html(visible(text))


def render_page(result: AttributionResult, facts: list[tuple[str, str]], sections: Sequence[Section]) -> str:
    """The page as text, pictures embedded."""
    name, task = (escape(str(result.info.get(k))) for k in ("model", "task"))
    warning = f'<p class="warning">{escape(result.warning)}</p>' if result.warning else ""
    largest = float(result.gap.abs().max())
    figures = "".join(map(_section, sections))
    metric = escape(str(result.info.get("metric")))
    neurons = _neurons(result) if result.neuron_mean is not None else ""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>maze_dla: {name}, {task}, {metric}</title>
<style>{STYLE}</style></head><body>
<h1>Who writes the next {"step" if "mazes" in result.info else "token"}?</h1>
<p class="lead">Direct logit attribution of {name} on {task}: {metric}</p>
{warning}
{_table(facts)}
<p class="promise">For each of the {len(result)} prompts the contributions and the constant add up to the metric
that the model's own logits give; the largest gap is {largest:.1e} logits. All contributions are in logits,
at the scale that the final norm recorded.{_shift_note(result)}</p>
{figures}
{_ranking("Strongest heads", result.top_heads(N_RANKED))}
{neurons}
<footer>{_provenance(result)}</footer>
</body></html>
"""


def _shift_note(result: AttributionResult) -> str:
    if result.info.get("shift_invariant"):
        return " The metric does not change when a constant is added to all logits."
    return (
        " The metric changes when a constant is added to all logits, so it depends on how the unembedding is centred."
    )


def _section(section: Section) -> str:
    """A section's title in words, its table, and its figures; those about all prompts have figures alone."""
    title = f"<h2>{escape(section.title)}</h2>" if section.title else ""
    paragraphs = section.words.split("\n\n") if section.words else []
    words = "".join(f"<p>{escape(words[:1].upper() + words[1:])}</p>" for words in paragraphs)
    table = _table(section.rows) if section.rows else ""
    return title + words + table + "".join(_figure(p) for p in section.pictures)


def _figure(picture: Picture) -> str:
    data = base64.b64encode(picture.file.read_bytes()).decode()
    title = escape(picture.title)
    return (
        f'<figure><h3>{title}</h3><img alt="{title}" src="data:image/png;base64,{data}">'
        f"<figcaption>{escape(picture.caption)}</figcaption></figure>"
    )


def _neurons(result: AttributionResult) -> str:
    together = f"{format_mean(result.top_neurons_together(20))} logits"
    return _ranking("Strongest neurons", result.top_neurons(N_RANKED), ("20 strongest together", together))


def _ranking(title: str, parts: list[RankedPart], *more: tuple[str, str]) -> str:
    return f"<h2>{escape(title)}</h2>{HOW_RANKED}{_table([*((part.name, part_text(part)) for part in parts), *more])}"


def _table(rows: Sequence[tuple[str, str]]) -> str:
    lines = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in rows)
    return f"<table>{lines}</table>"


def _provenance(result: AttributionResult) -> str:
    shown = {k: v for k, v in result.info.items() if k in PROVENANCE}
    facts = ", ".join(f"{k} {v}" for k, v in {**shown, **installed_versions()}.items())
    return escape(facts)
