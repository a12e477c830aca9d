"""Ablation against hooks written by hand, one part and one prompt at a time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import maze_dla as dla
from maze_dla.engine.causal import ablation
from maze_dla.engine.causal.supplies import donors_of
from maze_dla.engine.metrics import LinearMetric, linear_metric
from maze_dla.engine.prompts import PromptBatch
from maze_dla.errors import InputError
from maze_dla.results.effects import EffectResult
from tests.engine.pairs_of_tokens import random_pairs
from tests.engine.small_models import D_VOCAB, random_metric, shared_model
from tests.engine.test_two_engines import prefixes

from .one_at_a_time import Found, Put, coefficients_of, effects, prompt, run

LENGTHS = (9, 5, 9, 7, 5, 7)
LISTED = ["L0N3", "L1H2", "1_mlp_out", (0, 1), "0_attn_out", "L1N0"]
NAMES = ("total", "direct", "later_heads", "later_mlps", "norm")


def model_of(**settings: Any) -> Any:
    return shared_model(torch.float64, **settings)


def place_of(name: str) -> tuple[str, int, int | None, tuple[str, Any]]:
    """The site, layer and number of a part, and where its direct effect stands."""
    if "_" in name:
        layer, kind = int(name[0]), name[2:]
        return kind, layer, None, ("attention" if kind == "attn_out" else "mlps", layer)
    site = "z" if "H" in name else "neurons"
    layer, number = map(int, name.removeprefix("L").replace("N", "H").split("H"))
    return site, layer, number, ("heads", (layer, number)) if site == "z" else ("mlps", layer)


class Means:
    """Means over the read positions of a reference, or over all its tokens of each kind."""

    def __init__(self, model: Any, reference: PromptBatch) -> None:
        self.runs = [run(model, prompt(reference, i)) for i in range(len(reference))]
        assert reference.sequence_kinds is not None
        rows = zip(reference.sequence_of.tolist(), reference.lengths.tolist(), strict=True)
        self.kinds = [reference.sequence_kinds[row, :n] for row, n in rows]

    def __call__(self, site: str, layer: int, kind: int | None) -> Tensor:
        held = [one[site, layer] for one in self.runs]
        if kind is None:
            return torch.stack([values[-1] for values in held]).mean(0)
        return torch.cat([v[k == kind] for v, k in zip(held, self.kinds, strict=True)]).mean(0)


def puts_of(
    i: int, batch: PromptBatch, part: str, value: str, positions: str, plain: Found, means: Means, donor: Found
) -> list[Put]:
    """What takes the place of a part in a prompt."""
    site, layer, number, _ = place_of(part)
    last, puts = int(batch.lengths[i]) - 1, []
    for p in range(last + 1) if positions == "all" else [last]:
        assert batch.sequence_kinds is not None
        kind = int(batch.sequence_kinds[batch.sequence_of[i], p]) if positions == "all" else None
        whole = {
            "zero": lambda p=p: torch.zeros_like(plain[site, layer][p]),
            "mean": lambda kind=kind: means(site, layer, kind),
            "resample": lambda p=p: donor[site, layer][p if positions == "all" else -1],
        }[value]()
        puts.append(Put(site, layer, p, whole if number is None else whole[number], number))
    return puts


def by_hooks(
    model: Any, batch: PromptBatch, metric: LinearMetric, reference: PromptBatch, found: EffectResult, seed: int
) -> dict[str, Tensor]:
    """Every number of a result."""
    value, positions = str(found.info["value"]), found.info["positions"]
    donors = donors_of(batch, reference, positions, seed) if value == "resample" else torch.zeros(len(batch)).long()
    means, coefficients = Means(model, reference), coefficients_of(metric)
    rows: dict[str, list[Tensor]] = {name: [] for name in NAMES}
    for i in range(len(batch)):
        plain, donor = run(model, prompt(batch, i)), means.runs[int(donors[i])]
        for part in found.part_labels:
            puts = puts_of(i, batch, part, value, positions, plain, means, donor)
            seen = effects(model, plain, prompt(batch, i), coefficients[i], puts, place_of(part)[-1])
            for name, numbers in seen.items():
                rows[name].append(numbers)
    shape = (len(batch), *found.total.shape[1:])
    return {name: torch.stack(numbers).view(*shape, *numbers[0].shape) for name, numbers in rows.items()}


def assert_same(found: EffectResult, expected: dict[str, Tensor]) -> None:
    for name, numbers in expected.items():
        torch.testing.assert_close(
            getattr(found, name), numbers, rtol=1e-9, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}"
        )


def assert_sums(found: EffectResult) -> None:
    torch.testing.assert_close(found.direct + found.indirect, found.total)
    heads, mlps, norm = found.indirect_by
    torch.testing.assert_close(heads.sum((-1, -2)) + mlps.sum(-1) + norm, found.indirect, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("positions", ["read", "all"])
@pytest.mark.parametrize("value", ["zero", "mean", "resample"])
@pytest.mark.parametrize("parts", ["heads", "layers", LISTED], ids=["heads", "layers", "listed"])
def test_effects_are_those_of_hooks(
    model: Any, batch: PromptBatch, metric: LinearMetric, other: PromptBatch, parts: Any, value: Any, positions: Any
) -> None:
    reference = other if parts == "layers" else None
    options: Any = {"parts": parts, "value": value, "positions": positions, "reference": reference}
    few = batch.select([0, 1, 3]) if reference is not None else batch
    few_metric = metric.select([0, 1, 3]) if reference is not None else metric
    found = dla.ablate(model, few, few_metric, **options, seed=3)
    assert_same(found, by_hooks(model, few, few_metric, few if reference is None else reference, found, 3))
    assert_sums(found)
    assert found.total.abs().max() > 1e-2
    assert found.indirect.abs().max() > 1e-2


def test_mlps_are_the_mlps_of_layers(model: Any, batch: PromptBatch, metric: LinearMetric) -> None:
    layers, mlps = (dla.ablate(model, batch, metric, parts=parts) for parts in ("layers", "mlps"))  # pyright: ignore
    of_mlps = [i for i, name in enumerate(layers.part_labels) if "mlp" in name]
    assert mlps.part_axes == ("layer",)
    torch.testing.assert_close(mlps.total, layers.total[:, of_mlps])
    torch.testing.assert_close(mlps.direct, layers.direct[:, of_mlps])
    assert mlps.part_labels == ("0_mlp_out", "1_mlp_out")


SETTINGS: dict[str, dict[str, Any]] = {
    "LN": {},
    "RMS": {"normalization_type": "RMS"},
    "no norm": {"normalization_type": None},
    "attention only": {"attn_only": True},
}


@pytest.mark.parametrize("kind", SETTINGS)
def test_own_pass_and_hooks_agree(kind: str, batch: PromptBatch, metric: LinearMetric) -> None:
    model, few, here = model_of(**SETTINGS[kind]), batch.select([1, 2, 4]), metric.select([1, 2, 4])
    asked = (("heads", "all"), ("layers", "read"), ("sources", "all"), ("source_positions", "read"))
    for parts, positions in asked:
        options: Any = {"parts": parts, "positions": positions, "answers": True}
        options["value"] = "renormalize" if "source" in parts else "mean"
        own, hooked = (dla.ablate(model, few, here, **options, forward=engine) for engine in ("auto", "hooked"))
        for name in (*NAMES, "metric", "loss", "loss_after"):
            torch.testing.assert_close(getattr(own, name), getattr(hooked, name), rtol=1e-5, atol=1e-5)
        assert torch.equal(own.correct_after, hooked.correct_after)  # pyright: ignore[reportArgumentType]
        assert_sums(own)


def test_zeroed_heads_take_their_contribution_along(model: Any, batch: PromptBatch, metric: LinearMetric) -> None:
    """The direct effect of zero is what direct attribution calls the head, of a layer its biases too."""
    attributed = dla.attribute(model, batch, metric)
    for positions in ("read", "all"):
        heads, layers = (
            dla.ablate(model, batch, metric, parts=parts, value="zero", positions=positions)  # pyright: ignore
            for parts in ("heads", "layers")
        )
        torch.testing.assert_close(heads.direct, -attributed.heads)
        written = [attributed.layer_labels.index(name) for name in layers.part_labels]
        torch.testing.assert_close(layers.direct, -attributed.layers[:, written])
        torch.testing.assert_close(heads.metric, attributed.metric)


def test_what_comes_last_acts_through_the_norm_alone(model: Any, batch: PromptBatch, metric: LinearMetric) -> None:
    for positions in ("read", "all"):
        options: Any = {"value": "zero", "positions": positions}
        mlps = dla.ablate(model, batch, metric, parts="mlps", **options)
        assert not mlps.later_heads[:, -1].any()
        assert not mlps.later_mlps[:, -1].any()
        torch.testing.assert_close(mlps.norm[:, -1], mlps.indirect[:, -1])
        assert mlps.norm[:, -1].all()
        assert mlps.later_heads[:, 0].any()
        heads = dla.ablate(model, batch, metric, **options)
        assert not heads.later_heads[:, -1].any()
        assert not heads.later_mlps[:, -1, :, 0].any()
        torch.testing.assert_close(heads.later_mlps[:, -1, :, 1] + heads.norm[:, -1], heads.indirect[:, -1])
        assert heads.later_mlps[:, -1, :, 1].all()
        assert not heads.later_heads[:, 0, :, 0].any()
        assert heads.later_heads[:, 0, :, 1].all()


def test_without_a_norm_the_last_mlps_total_effect_is_the_direct_one(batch: PromptBatch, metric: LinearMetric) -> None:
    model = model_of(normalization_type=None)
    mlps = dla.ablate(model, batch, metric, parts="mlps")
    torch.testing.assert_close(mlps.total[:, -1], mlps.direct[:, -1])
    assert not mlps.norm.any()
    assert (mlps.total[:, 0] - mlps.direct[:, 0]).abs().min() > 1e-6
    alone = model_of(normalization_type=None, attn_only=True)
    heads = dla.ablate(alone, batch, metric)
    torch.testing.assert_close(heads.total[:, -1], heads.direct[:, -1])
    assert heads.later_mlps.shape[-1] == 0


def pattern_puts(plain: Found, layer: int, head: int, sources: Tensor, renormalized: bool, at: list[int]) -> list[Put]:
    puts = []
    for p in at:
        pattern = plain["pattern", layer][p, head].clone()
        pattern[sources[: len(pattern)]] = 0
        whole = pattern.sum()
        puts.append(Put("pattern", layer, p, pattern / whole if renormalized and whole > 0 else pattern, head))
    return puts


@pytest.mark.parametrize("positions", ["read", "all"])
@pytest.mark.parametrize("value", ["zero", "renormalize"])
@pytest.mark.parametrize("parts", ["sources", "source_positions"])
def test_knocked_out_sources_are_those_of_hooks(
    model: Any, batch: PromptBatch, metric: LinearMetric, parts: Any, value: Any, positions: Any
) -> None:
    few, here = batch.select([0, 1]), metric.select([0, 1])
    heads = [(1, 2), "L0H1"]
    found = dla.ablate(model, few, here, parts=parts, heads=heads, value=value, positions=positions)
    coefficients = coefficients_of(here)
    assert few.sequence_kinds is not None
    for i in range(2):
        n, plain = int(few.lengths[i]), run(model, prompt(few, i))
        for h, (layer, head) in enumerate([(1, 2), (0, 1)]):
            for k in range(found.total.shape[-1]):
                sources = (
                    few.sequence_kinds[few.sequence_of[i], :n] == k if parts == "sources" else torch.arange(n) == k
                )
                at = list(range(n)) if positions == "all" else [n - 1]
                puts = pattern_puts(plain, layer, head, sources, value == "renormalize", at)
                seen = effects(model, plain, prompt(few, i), coefficients[i], puts, ("heads", (layer, head)))
                for name, numbers in seen.items():
                    torch.testing.assert_close(getattr(found, name)[i, h, k], numbers, rtol=1e-9, atol=1e-9)
    assert_sums(found)


@pytest.mark.parametrize("positions", ["read", "all"])
def test_knocked_out_sources_obey_the_formulas(
    model: Any, batch: PromptBatch, metric: LinearMetric, positions: Any
) -> None:
    """-sum of the sources; renormalized, what the others bring / (1 - attention paid to them), minus the head."""
    attributed = dla.attribute(model, batch, metric, sources=True)
    n = attributed.sources.shape[-1]
    is_kind = torch.stack([batch.sequence_kinds[batch.sequence_of, :n] == k for k in range(2)], 1)  # pyright: ignore
    is_kind &= torch.arange(n) < batch.lengths[:, None, None]
    by_place = torch.eye(n, dtype=torch.bool).expand(len(batch), n, n)
    for parts, held in (("sources", is_kind), ("source_positions", by_place)):
        mask = held[:, None, None].double()
        brought = (attributed.sources[:, :, :, None] * mask).sum(-1)
        paid = (attributed.patterns[:, :, :, None] * mask).sum(-1)
        zero, again = (
            dla.ablate(model, batch, metric, parts=parts, value=value, positions=positions)  # pyright: ignore
            for value in ("zero", "renormalize")
        )
        torch.testing.assert_close(zero.direct, -brought)
        whole = attributed.heads[..., None]
        torch.testing.assert_close(again.direct, (whole - brought) / (1 - paid) - whole)
        assert zero.part_axes == ("layer", "head", "source" if parts == "sources" else "position")
        assert zero.part_labels[0] == ("L0H0 <- even" if parts == "sources" else "L0H0 <- position 0")
        assert zero.later_heads[:, 0].abs().max() > 1e-3
        assert not zero.later_heads[:, 1].any()
    beyond = torch.arange(n) >= batch.lengths[:, None]
    assert zero.total.movedim(-1, 1)[beyond].abs().max() < 1e-12


def test_a_head_that_looks_at_nothing_else_brings_nothing(model: Any) -> None:
    """The first position looks at itself alone: renormalized, nothing is left to divide."""
    batch = replace(random_pairs((1, 3)).clean)
    metric = random_metric(batch)
    zero, again = (
        dla.ablate(model, batch, metric, parts="source_positions", value=value)
        for value in ("zero", "renormalize")  # pyright: ignore
    )
    torch.testing.assert_close(again.total[0, ..., 0], zero.total[0, ..., 0])
    torch.testing.assert_close(again.direct[0, ..., 0], -dla.attribute(model, batch, metric).heads[0])
    assert again.total.isfinite().all()


def test_answers_and_loss_are_those_of_the_logits(model: Any, batch: PromptBatch) -> None:
    batch = replace(batch, answers=torch.stack([batch.targets, (batch.targets + 1) % D_VOCAB], 1))
    metric = dla.correct_vs_other(batch)
    found = dla.ablate(model, batch, metric, parts=["L0H0", "1_mlp_out"], value="zero", answers=True)
    assert found.correct_after is not None
    assert found.loss is not None
    assert found.loss_after is not None
    for i in range(len(batch)):
        right = batch.answers[i]
        plain = run(model, prompt(batch, i))
        torch.testing.assert_close(found.loss[i], -plain["logits", 0].softmax(-1)[right].sum().log())
        for k, part in enumerate(found.part_labels):
            puts = puts_of(i, batch, part, "zero", "read", plain, Means(model, batch.select([i])), plain)
            logits = run(model, prompt(batch, i), puts)["logits", 0]
            torch.testing.assert_close(found.loss_after[i, k], -logits.softmax(-1)[right].sum().log())
            assert bool(found.correct_after[i, k]) == (int(logits.argmax()) in right.tolist())
    after = found.accuracy_after
    assert after is not None
    assert after["L0H0"].value == pytest.approx(float(found.correct_after[:, 0].double().mean()))
    without = dla.ablate(model, batch, metric, parts=["L0H0", "1_mlp_out"], value="zero")
    assert without.loss is without.loss_after is without.correct_after is None
    torch.testing.assert_close(without.total, found.total)


def test_answers_that_a_metric_does_not_know(model: Any, batch: PromptBatch) -> None:
    metric = linear_metric(batch, torch.randn(len(batch), D_VOCAB), answers=None)
    assert dla.ablate(model, batch, metric).correct_after is None
    with pytest.raises(InputError, match="answers=True needs a metric with right answers"):
        dla.ablate(model, batch, metric, answers=True)


def test_prompts_are_ablated_by_themselves(model: Any, batch: PromptBatch, metric: LinearMetric) -> None:
    """Neither order, pieces nor the rest of the batch change a number, as long as the reference is the same."""
    order = torch.tensor([4, 2, 0, 5, 1, 3])
    for value in ("zero", "mean", "resample"):
        for positions in ("read", "all"):
            options: Any = {"value": value, "positions": positions, "seed": 5, "reference": batch}
            whole = dla.ablate(model, batch, metric, **options)
            mixed = dla.ablate(model, batch.select(order), metric.select(order), **options)
            some = dla.ablate(model, batch.select([3, 1]), metric.select([3, 1]), **options, sequences_at_once=1)
            for name in NAMES:
                torch.testing.assert_close(getattr(mixed, name), getattr(whole, name)[order], rtol=1e-9, atol=1e-9)
                torch.testing.assert_close(getattr(some, name), getattr(whole, name)[[3, 1]], rtol=1e-9, atol=1e-9)


def test_parts_in_chunks_are_the_same(model: Any, batch: PromptBatch, metric: LinearMetric) -> None:
    whole = dla.ablate(model, batch, metric, parts=LISTED, answers=True)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ablation, "BYTES_OF_BRANCHES", 1)
        pieces = dla.ablate(model, batch, metric, parts=LISTED, answers=True)
    for name in (*NAMES, "loss_after", "correct_after"):
        torch.testing.assert_close(getattr(pieces, name), getattr(whole, name), rtol=1e-9, atol=1e-9)


def test_prompts_of_one_sequence(model: Any) -> None:
    batch = prefixes()
    metric = random_metric(batch)
    for value in ("zero", "mean"):
        whole = dla.ablate(model, batch, metric, value=value)  # pyright: ignore[reportArgumentType]
        for i in range(len(batch)):
            alone = dla.ablate(model, batch.select([i]), metric.select([i]), value=value, reference=batch)  # pyright: ignore
            torch.testing.assert_close(alone.total[0], whole.total[i], rtol=1e-9, atol=1e-9)
