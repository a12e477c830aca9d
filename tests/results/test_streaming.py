"""Runs over more prompts than memory holds say what one run over all of them says."""

from __future__ import annotations

import json
import weakref
from dataclasses import replace
from inspect import unwrap
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import maze_dla as dla
from maze_dla.engine.prompts import PromptBatch
from maze_dla.errors import InputError, ResultFileError
from maze_dla.results.statistics import summarize
from tests.engine.small_models import make_batch, make_model, random_metric, shared_model
from tests.results.causal_results import make_circuit, make_effects, make_patch, make_steered

LENGTHS = (5, 31, 17, 9, 40, 12, 26, 8, 8, 21)
PARTS = ([0, 3, 1], [2], [4, 5, 6, 7], [8, 9])


def whole() -> PromptBatch:
    return make_batch(LENGTHS)


def pieces() -> list[PromptBatch]:
    return [whole().select(part) for part in PARTS]


def order() -> list[int]:
    return [i for part in PARTS for i in part]


def ask(**options: Any) -> Any:
    metric = random_metric(whole())

    def one(batch: PromptBatch) -> Any:
        chosen = [i for part in PARTS if len(part) == len(batch) for i in part]
        return dla.attribute(shared_model(), batch, metric.select(chosen[: len(batch)]), **options)

    return one


@pytest.mark.parametrize("neurons", [True, "mean"])
def test_means_and_intervals_are_those_of_one_run(neurons: Any) -> None:
    expected = dla.attribute(shared_model(), whole(), random_metric(whole()), neurons=neurons)
    seen = dla.stream(ask(neurons=neurons), pieces())
    assert len(seen) == len(expected) == 10
    assert seen.accuracy == expected.accuracy
    assert seen.largest_gap == pytest.approx(float(expected.gap.abs().max()), abs=1e-6)
    lens = expected.lens()
    for name, values in (("heads", expected.heads), ("layers", expected.layers), ("lens", lens.values)):
        summary = summarize(values)
        for field in ("mean", "standard_error", "low", "high"):
            torch.testing.assert_close(
                getattr(seen.summary(name), field), getattr(summary, field), atol=1e-5, rtol=1e-5
            )
    assert expected.neuron_mean is not None
    assert expected.neuron_variance is not None
    torch.testing.assert_close(seen.means["neurons"], expected.neuron_mean, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(seen.variances["neurons"], expected.neuron_variance, atol=1e-5, rtol=1e-4)
    assert [h.name for h in seen.top_heads(3)] == [h.name for h in expected.top_heads(3)]
    assert [n.name for n in seen.top_neurons(3)] == [n.name for n in expected.top_neurons(3)]
    assert seen.axis_labels["layers"] == expected.layer_labels
    assert seen.axis_labels["lens"] == lens.labels


def test_lenses_can_be_streamed_too() -> None:
    batches = pieces()
    tokens = dla.stream(lambda batch: dla.token_lens(shared_model(), batch), batches)
    expected = dla.token_lens(shared_model(), whole())
    torch.testing.assert_close(tokens.means["kl"], expected.kl.double().mean(0), atol=1e-5, rtol=1e-5)
    lens = dla.stream(lambda batch: dla.logit_lens(shared_model(), batch, dla.logit(batch), "own"), batches)
    own = dla.logit_lens(shared_model(), whole(), dla.logit(whole()), "own")
    torch.testing.assert_close(lens.means["values"], own.values.double().mean(0), atol=1e-5, rtol=1e-5)
    assert lens.axis_labels == {"values": own.labels}


def test_shards_hold_every_prompt(tmp_path: Path) -> None:
    import pyarrow.parquet as parquet

    folder = tmp_path / "new" / "shards"
    dla.stream(ask(neurons=True), pieces(), shards=folder)
    expected = dla.attribute(shared_model(), whole(), random_metric(whole()), neurons=True)
    assert [file.name for file in sorted(folder.iterdir())] == [f"shard-0000{i}.parquet" for i in range(4)]
    table = pd.read_parquet(folder)
    assert table["prompt"].tolist() == list(range(10))
    assert table["target"].tolist() == [expected.targets[i] for i in order()]
    heads = np.stack(table["heads"].to_list()).reshape(10, *expected.heads.shape[1:])
    np.testing.assert_allclose(heads, expected.heads[order()].numpy(), atol=1e-5)
    described = json.loads(parquet.read_schema(folder / "shard-00000.parquet").metadata[b"maze_dla"])
    assert described["shapes"]["neurons"] == list(expected.neurons.shape[1:])
    assert tuple(described["labels"]["layers"]) == expected.layer_labels


def test_a_folder_with_shards_is_left_as_it_is(tmp_path: Path) -> None:
    dla.stream(ask(), pieces()[:1], shards=tmp_path)
    before = (tmp_path / "shard-00000.parquet").read_bytes()
    with pytest.raises(InputError, match=r"holds 1 shards already .*, expected an empty folder"):
        dla.stream(ask(), pieces(), shards=tmp_path)
    assert (tmp_path / "shard-00000.parquet").read_bytes() == before
    with pytest.raises(InputError, match="cannot be written as a folder"):
        dla.stream(ask(), pieces(), shards=tmp_path / "shard-00000.parquet")


def test_an_error_leaves_the_shards_before_it(tmp_path: Path) -> None:
    def fails(batch: PromptBatch) -> Any:
        if len(batch) == 4:
            raise RuntimeError("broken")
        return ask()(batch)

    with pytest.raises(RuntimeError, match="broken"):
        dla.stream(fails, pieces(), shards=tmp_path)
    assert [file.name for file in sorted(tmp_path.iterdir())] == ["shard-00000.parquet", "shard-00001.parquet"]
    assert len(pd.read_parquet(tmp_path)) == 4


def test_saved_and_read_again(tmp_path: Path) -> None:
    result = dla.stream(ask(neurons="mean"), pieces())
    again = dla.load_result(result.save(tmp_path / "stream.zanj"))
    assert isinstance(again, dla.StreamedResult)
    assert repr(again) == repr(result)
    assert again.axis_labels == result.axis_labels
    for name, mean in result.means.items():
        assert torch.equal(again.means[name], mean)
        assert torch.equal(again.variances[name], result.variances[name])
    with pytest.raises(ResultFileError, match=r"ends in \.zanj"):
        result.save(tmp_path / "stream.json")


def test_what_it_says_of_itself() -> None:
    result = dla.stream(ask(), pieces())
    assert repr(result).splitlines()[0] == "StreamedResult"
    assert "  prompts: 10" in repr(result)
    table = result.to_frame()
    heads = table[table["number"] == "heads"]
    assert len(heads) == result.means["heads"].numel()
    assert heads["mean"].tolist() == pytest.approx(result.means["heads"].flatten().tolist())
    layers = table[table["number"] == "layers"]
    assert tuple(layers["label"]) == result.axis_labels["layers"]


def test_results_that_do_not_belong_together_are_refused() -> None:
    first, second = whole().select([0, 1]), whole().select([2])
    with pytest.raises(InputError, match="a stream needs at least one batch, got none"):
        dla.stream(ask(), [])
    with pytest.raises(
        InputError, match=r"results of one stream are alike, but after 2 prompts comes one of another numbers"
    ):
        dla.stream(
            lambda batch: dla.attribute(shared_model(), batch, dla.logit(batch), neurons=len(batch) == 2),
            [first, second],
        )
    with pytest.raises(InputError, match=r"unknown number 'sources', this result has metric, layers"):
        dla.stream(lambda batch: dla.attribute(shared_model(), batch, dla.logit(batch)), [first]).summary("sources")


def test_numbers_that_mean_different_things_are_not_averaged() -> None:
    model, parts = shared_model(), pieces()

    def in_turn(*asks: Any) -> Any:
        one_of = iter(asks)
        return lambda batch: next(one_of)(batch)

    attribute = {
        name: lambda batch, metric=metric, neurons=neurons: dla.attribute(model, batch, metric(batch), neurons=neurons)
        for name, metric, neurons in (
            ("logit", dla.logit, False),
            ("other", dla.correct_vs_other, False),
            ("neurons", dla.logit, "mean"),
        )
    }
    own, final = (lambda b, s=s: dla.logit_lens(model, b, dla.logit(b), s) for s in ("own", "final"))
    for first, second, what in (
        (attribute["logit"], attribute["other"], "metric: 'correct minus mean of all' where the first had 'logit of"),
        (attribute["logit"], attribute["neurons"], "neurons: True where the first had False"),
        (own, final, "scale: 'final' where the first had 'own'"),
        (attribute["logit"], own, "kind: 'LensResult' where the first had 'AttributionResult'"),
    ):
        with pytest.raises(InputError, match=what):
            dla.stream(in_turn(first, second), parts[:2])


@pytest.mark.parametrize("name", ["task", "prepend_bos", "padding"])
def test_batches_that_were_asked_otherwise_are_not_averaged(name: str) -> None:
    first, second = pieces()[:2]
    asked = (replace(first, info={**first.info, name: "a"}), replace(second, info={**second.info, name: "b"}))
    missing = (asked[0], second)
    for batches in (asked, missing):
        with pytest.raises(InputError, match=rf"after 3 prompts comes one of another {name}: "):
            dla.stream(lambda batch: dla.attribute(shared_model(), batch, dla.logit(batch)), batches)


def test_two_streams_into_one_folder(tmp_path: Path) -> None:
    """The second is refused while the first runs, and a shard that appeared meanwhile is not replaced."""
    inner = []

    def both(batch: PromptBatch) -> Any:
        if not inner:
            with pytest.raises(InputError) as caught:
                dla.stream(ask(), pieces(), shards=tmp_path)
            inner.append(str(caught.value))
            (tmp_path / "shard-00001.parquet").write_bytes(b"of another run")
        return ask()(batch)

    with pytest.raises(InputError, match=r"shard-00001\.parquet: cannot be written \(File exists\)"):
        dla.stream(both, pieces(), shards=tmp_path)
    assert "another run is writing into this folder" in inner[0]
    assert (tmp_path / "shard-00001.parquet").read_bytes() == b"of another run"


@pytest.mark.parametrize("batches", [None, 3, make_batch()])
def test_what_is_no_list_of_batches(batches: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="batches are a list of batches or what yields them, got"):
        unwrap(dla.stream)(ask(), batches, shards=tmp_path / "new")  # without the checks of annotations
    assert not (tmp_path / "new").exists()
    with pytest.raises(InputError, match="ask returns the result of a batch, got int"):
        dla.stream(lambda batch: 3, pieces())  # pyright: ignore


@pytest.mark.parametrize("make", [make_patch, make_effects, make_circuit, make_steered])
def test_results_of_edited_runs_are_refused(make: Any, tmp_path: Path) -> None:
    name = type(make()).__name__
    with pytest.raises(InputError, match=f"streams are of attribute, .*, got {name}: give patch, .* in one batch"):
        dla.stream(lambda batch: make(), pieces(), shards=tmp_path / "new")
    assert not list((tmp_path / "new").glob("*.parquet"))


def test_shards_of_a_model_in_half_precision(tmp_path: Path) -> None:
    model = make_model(torch.bfloat16)
    dla.stream(lambda batch: dla.logit_lens(model, batch, dla.logit(batch)), pieces()[:1], shards=tmp_path)
    expected = dla.logit_lens(model, pieces()[0], dla.logit(pieces()[0])).values
    assert np.stack(pd.read_parquet(tmp_path)["values"].to_list()).tolist() == expected.float().tolist()


def test_batches_are_made_when_they_are_due_and_let_go() -> None:
    made: list[Any] = []

    def due(part: Any) -> PromptBatch:
        assert not any(ref() is not None for ref in made)  # the one before is gone
        batch = whole().select(part)
        made.append(weakref.ref(batch))
        return batch

    dla.stream(lambda batch: dla.logit_lens(shared_model(), batch, dla.logit(batch)), map(due, PARTS))
    assert len(made) == len(PARTS)


def test_metrics_of_one_name_that_compare_with_other_tokens_are_refused() -> None:
    batch = make_batch()
    masks = [torch.arange(batch.d_vocab) % 3 == i for i in (0, 1)]
    chosen = iter(masks)

    def ask(part: Any) -> Any:
        return dla.logit_lens(shared_model(), part, dla.correct_vs_other(part, next(chosen)))

    with pytest.raises(InputError, match="one of another others"):
        dla.stream(ask, [batch, batch])
    same = dla.stream(
        lambda part: dla.logit_lens(shared_model(), part, dla.correct_vs_other(part, masks[0])), [batch] * 2
    )
    assert len(same) == 2 * len(batch)


@pytest.mark.parametrize("alike", [True, False], ids=["rows alike", "rows of their own"])
def test_what_each_prompt_has_of_its_own_can_be_streamed(alike: bool) -> None:
    """Whatever rows the array of one batch happens to have in common."""
    model, batch = shared_model(), whole()
    mask = batch.others("all")
    mask[:, :3] = False
    mask[torch.arange(len(batch)), torch.arange(len(batch)) % 3 + 5] = alike
    own = mask / torch.arange(1, len(batch) + 1, dtype=torch.float64)[:, None]
    for metric in (
        lambda part, rows: dla.correct_vs_other(part, mask[rows]),
        lambda part, rows: dla.linear_metric(part, own[rows]),
    ):
        rows = iter(PARTS)
        seen = dla.stream(lambda part: dla.logit_lens(model, part, metric(part, next(rows))), pieces())  # noqa: B023
        expected = dla.logit_lens(model, batch, metric(batch, list(range(len(batch))))).metric.mean()
        torch.testing.assert_close(seen.means["metric"], expected.to(seen.means["metric"]), rtol=1e-5, atol=1e-6)


def test_two_models_of_one_name_are_not_averaged() -> None:
    first, second = pieces()[:2]
    other = make_model()
    with torch.no_grad():
        next(other.parameters()).add_(0.1)
    models = iter((shared_model(), other))
    with pytest.raises(InputError, match="comes one of another sha256"):
        dla.stream(lambda batch: dla.attribute(next(models), batch, dla.logit(batch)), [first, second])
