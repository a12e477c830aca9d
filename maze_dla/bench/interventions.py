"""Interventions against the field's way: a hooked forward pass for each site, as TransformerLens's `patching` does."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm.auto import tqdm

from maze_dla.analysis import ablate, attribute, patch
from maze_dla.bench.methods import plain_forward
from maze_dla.bench.models import BenchModel, random_model
from maze_dla.bench.run import MODELS, ROUNDS, check_choice, facts_of
from maze_dla.bench.timing import Measured, Method, measure, threads
from maze_dla.engine.metrics import logit_diff
from maze_dla.engine.pairs import PromptPairs
from maze_dla.engine.prompts import PromptBatch
from maze_dla.errors import MazeDlaError

AGREEMENT = 1e-3
SAMPLED = 8  # sites that the field's way is timed on: each costs it the same
ABLATED_PROMPTS = 100
HOOKS = {"resid_pre": "resid_pre", "attn_out": "attn_out", "mlp_out": "mlp_out", "z": "z"}


@dataclass(frozen=True)
class PairShape:
    """How many pairs of how many tokens, and from which token on, or in which alone, they differ."""

    n: int
    tokens: int
    changed: int
    third: bool


PAIRS: Mapping[str, PairShape] = {
    "maze": PairShape(n=10, tokens=120, changed=116, third=True),
    "gpt2": PairShape(n=8, tokens=15, changed=10, third=False),
}


@dataclass(frozen=True)
class Intervention:
    """The measurements of one method: seconds of the field's way for all sites, and of maze_dla."""

    title: str
    n_sites: int
    theirs: float
    ours: float
    against: str
    peak: int | None
    peak_of_attribution: int | None

    @property
    def faster_by(self) -> float:
        """How many times as long the other way takes."""
        return self.theirs / self.ours


@dataclass(frozen=True)
class InterventionReport:
    """Facts, and the rows of each shape."""

    facts: Mapping[str, str]
    rows: Mapping[str, tuple[Intervention, ...]]


def run_interventions(
    shapes: Sequence[str] = tuple(MODELS),
    *,
    rounds: int | None = None,
    n_threads: int | None = None,
    known: Mapping[str, BenchModel] = MODELS,
    pairs: Mapping[str, PairShape] = PAIRS,
) -> InterventionReport:
    """Time patching and ablation beside one hooked forward pass for each site, on random models and prompts.

    Of the sites that the other way runs, eight are timed and stand for all; a bar shows on a terminal.

    Args:
        shapes: names among `known`.
        rounds: how many timed runs each method has; default 3.
        n_threads: threads for torch, put back afterwards; default: as many as torch takes.
        known: the shapes by name.
        pairs: the pairs of each shape.

    Raises:
        InputError: an unknown shape, rounds below 1, or threads outside 1..cores.
        MazeDlaError: the two ways do not find the same numbers.
    """
    check_choice(shapes, None, rounds, n_threads, known)
    with threads(n_threads) as n:
        rows = {name: _of_shape(known[name], pairs[name], rounds or ROUNDS) for name in shapes}
        facts = facts_of(torch.device("cpu"), n)
    return InterventionReport({**facts, **{known[name].spec.name: str(known[name]) for name in shapes}}, rows)


def _of_shape(shape: BenchModel, pairs: PairShape, rounds: int) -> tuple[Intervention, ...]:
    model = random_model(shape)
    one = random_pairs(shape, pairs)
    cases = [("target or name", one, site) for site in HOOKS]
    if pairs.third:
        cases.insert(0, ("from a third on", random_pairs(shape, pairs, from_third=True), "resid_pre"))
    rows = []
    with tqdm(total=len(cases) + 1, desc="interventions", disable=None, leave=False) as bar:
        for words, chosen, site in cases:
            rows.append(_patching(model, chosen, site, words, rounds))
            bar.update()
        rows.append(_ablation(model, shape, pairs, rounds))
        bar.update()
    return tuple(rows)


def random_pairs(shape: BenchModel, pairs: PairShape, from_third: bool = False, seed: int = 0) -> PromptPairs:
    """Pairs of random tokens that differ in one token, or in all from a third of their length on."""
    generator = torch.Generator().manual_seed(seed)
    d_vocab = shape.spec.d_vocab
    clean = torch.randint(0, d_vocab, (pairs.n, pairs.tokens), generator=generator)
    corrupted = clean.clone()
    changed = torch.arange(pairs.tokens // 3, pairs.tokens) if from_third else torch.tensor([pairs.changed])
    corrupted[:, changed] = (corrupted[:, changed] + 1) % d_vocab
    answers = torch.randint(0, d_vocab, (pairs.n,), generator=generator)
    one = PromptBatch.from_tokens(list(clean), answers, d_vocab=d_vocab)
    two = PromptBatch.from_tokens(list(corrupted), (answers + 1) % d_vocab, d_vocab=d_vocab)
    return PromptPairs(one, two)


def _patching(model: Any, pairs: PromptPairs, site: str, words: str, rounds: int) -> Intervention:
    n_layers, n_positions = model.cfg.n_layers, int(pairs.clean.lengths[0])
    n_others = model.cfg.n_heads if site == "z" else n_positions
    first = int(torch.nonzero(pairs.changed().any(0))[0])
    others = range(n_others) if site == "z" else range(first, n_positions)
    every = [(i, j) for i in range(n_layers) for j in others]
    sample = every[:: max(len(every) // SAMPLED, 1)][:SAMPLED]
    metric = logit_diff(pairs)
    ours = partial(patch, model, pairs, metric, site=site)
    theirs = partial(patched_one_by_one, model, pairs, site, sample)
    found = ours().values.mean(0)
    _check(torch.stack([found[place] for place in sample]), theirs(), f"patching {site}")
    methods = [Method("sites", theirs), Method("ours", ours), _attribution(model, pairs.clean)]
    measured = {row.name: row for row in measure(methods, rounds, torch.device("cpu"), inf)}
    title = f"{'heads (z, all positions)' if site == 'z' else site}, pairs that differ {_where(words)}"
    total = measured["sites"].median * n_layers * n_others / len(sample)
    return _row(title, n_layers * n_others, total, measured, "a forward pass per site")


def _where(words: str) -> str:
    return words if words.startswith("from") else "in one token"


def patched_one_by_one(
    model: Any, pairs: PromptPairs, site: str, sample: Sequence[tuple[int, int]]
) -> Float[Tensor, " site"]:
    """The mean metric with each of these sites patched: TransformerLens's `generic_activation_patch`."""
    import pandas as pd
    from transformer_lens import patching

    right, wrong = pairs.clean.targets[:, None], pairs.corrupted.targets[:, None]

    def metric(logits: Tensor) -> Tensor:
        last = logits[:, -1]
        return (last.gather(1, right) - last.gather(1, wrong)).mean()

    other = "head" if site == "z" else "pos"
    with torch.no_grad(), redirect_stderr(io.StringIO()):  # it shows a bar
        ends = f"hook_{HOOKS[site]}"
        _, cache = model.run_with_cache(pairs.clean.tokens, names_filter=lambda name: name.endswith(ends))
        found = patching.generic_activation_patch(
            model,
            pairs.corrupted.tokens,
            cache,
            metric,
            patching.layer_head_vector_patch_setter if site == "z" else patching.layer_pos_patch_setter,
            HOOKS[site],
            index_df=pd.DataFrame(list(sample), columns=["layer", other]),
        )
    return found.detach()


def _ablation(model: Any, shape: BenchModel, pairs: PairShape, rounds: int) -> Intervention:
    """All heads and MLPs at the read position: against a plain forward pass, or where that is short, one per part."""
    n = ABLATED_PROMPTS if pairs.third else pairs.n
    batch = random_pairs(shape, PairShape(n, pairs.tokens, pairs.changed, pairs.third)).clean
    metric = logit_diff(batch, (batch.targets + 1) % shape.spec.d_vocab)
    n_parts = model.cfg.n_layers * (model.cfg.n_heads + 1)

    heads = [f"L{i}H{h}" for i in range(model.cfg.n_layers) for h in range(model.cfg.n_heads)]
    every = [*heads, *(f"{i}_mlp_out" for i in range(model.cfg.n_layers))]
    ours = partial(ablate, model, batch, metric, parts=every, value="zero")

    sample = [(i, i % model.cfg.n_heads) for i in range(model.cfg.n_layers)][:SAMPLED]
    theirs: Callable[[], Any] = partial(ablated_one_by_one, model, batch, sample)
    found = ours().total
    differences = metric_differences(model, batch)
    ablated = theirs()
    _check(found[:, [heads.index(f"L{i}H{h}") for i, h in sample]], ablated - differences[:, None], "ablating heads")
    if pairs.third:
        theirs = partial(plain_forward, model, batch.tokens, n)
    methods = [Method("sites", theirs), Method("ours", ours), _attribution(model, batch)]
    measured = {row.name: row for row in measure(methods, rounds, torch.device("cpu"), inf)}
    title = f"ablation of all heads and MLPs where {n} prompts read, total, direct and indirect"
    if pairs.third:
        return _row(title, n_parts, measured["sites"].median, measured, "one plain forward pass in all")
    total = measured["sites"].median * n_parts / len(sample)
    return _row(title, n_parts, total, measured, "a forward pass per part")


def metric_differences(model: Any, batch: PromptBatch) -> Float[Tensor, " prompt"]:
    """The logit difference of each prompt in a plain forward pass."""
    with torch.no_grad():
        return _difference(model(batch.tokens)[:, -1], batch.targets)


def ablated_one_by_one(
    model: Any, batch: PromptBatch, sample: Sequence[tuple[int, int]]
) -> Float[Tensor, "prompt head"]:
    """The logit difference with each of these heads zeroed at the last position, a hooked forward pass each."""
    found = []
    for layer, head in sample:

        def zero(z: Tensor, hook: Any, head: int = head) -> Tensor:
            z = z.clone()
            z[:, -1, head] = 0
            return z

        with torch.no_grad():
            logits = model.run_with_hooks(batch.tokens, fwd_hooks=[(f"blocks.{layer}.attn.hook_z", zero)])
        found.append(_difference(logits[:, -1], batch.targets))
    return torch.stack(found, 1)


def _difference(logits: Float[Tensor, "prompt vocab"], targets: Int[Tensor, " prompt"]) -> Float[Tensor, " prompt"]:
    other = (targets + 1) % logits.shape[-1]
    return (logits.gather(1, targets[:, None]) - logits.gather(1, other[:, None]))[:, 0]


def _attribution(model: Any, batch: PromptBatch) -> Method:
    metric = logit_diff(batch, (batch.targets + 1) % batch.d_vocab)
    return Method("attribute", partial(attribute, model, batch, metric))


def _check(ours: Tensor, theirs: Tensor, what: str) -> None:
    gap = float((ours - theirs).abs().max())
    if not gap < AGREEMENT:
        raise MazeDlaError(f"{what}: the two ways differ by {gap:.1e} logits, so their times mean nothing")


def _row(title: str, n_sites: int, theirs: float, measured: Mapping[str, Measured], against: str) -> Intervention:
    ours, attribution = measured["ours"], measured["attribute"]
    return Intervention(title, n_sites, theirs, ours.median, against, ours.peak, attribution.peak)


HOW_TO_READ = """\
How to read it: `their s` are the seconds of TransformerLens's way, timed on up to eight sites and multiplied by the
number of sites, `our s` the median of interleaved runs in this process; `faster by` is their ratio. `peak MiB` is the
memory above what was held before, `/ attribute` its ratio to that of `attribute` on the same prompts. That both ways
find the same numbers was checked before timing. Attribution of the ablation is part of what is timed."""


def interventions_as_text(report: InterventionReport) -> str:
    """The report for a terminal."""
    width = max(map(len, report.facts))
    blocks = ["\n".join(f"{name:<{width}}  {value}" for name, value in report.facts.items())]
    head = ("", "sites", "their s", "our s", "faster by", "peak MiB", "/ attribute")
    for name, rows in report.rows.items():
        cells = [head, *(_cells(row) for row in rows)]
        widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
        lines = [name]
        for row in cells:
            numbers = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
            lines.append("  ".join(("", row[0].ljust(widths[0]), *numbers)).rstrip())
        blocks.append("\n".join(lines))
    return "\n\n".join([*blocks, HOW_TO_READ])


def _cells(row: Intervention) -> tuple[str, ...]:
    peak = "-" if row.peak is None else f"{row.peak / (1 << 20):,.0f}"
    share = "-" if not row.peak or not row.peak_of_attribution else f"{row.peak / row.peak_of_attribution:.1f}"
    return (
        f"{row.title}; against {row.against}",
        f"{row.n_sites:,}",
        f"{row.theirs:.2f}",
        f"{row.ours:.3f}",
        f"{row.faster_by:.1f}",
        peak,
        share,
    )
