"""Streams of prompts that are several about one maze: intervals are those of one run over all of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import maze_dla as dla
from maze_dla.engine.prompts import PromptBatch
from maze_dla.errors import InputError
from maze_dla.results.statistics import summarize
from tests.engine.small_models import make_batch, random_metric, shared_model

LENGTHS = (5, 31, 17, 9, 40, 12, 26, 8, 8, 21)
MAZES = ("a", "b", "a", "c", "d", "b", "e", "f", "f", "g")
TOGETHER = ([0, 2, 1, 5], [3, 4, 6], [7, 8, 9])
APART = ([0, 1, 2, 3, 4], [5, 6, 7, 8, 9])  # b is in both


def whole() -> PromptBatch:
    return replace(make_batch(LENGTHS), unit="maze", columns={"maze": MAZES})


def streamed(parts: Any, neurons: Any = "mean", **more: Any) -> dla.StreamedResult:
    metric, rows = random_metric(whole()), iter(parts)

    def ask(batch: PromptBatch) -> Any:
        return dla.attribute(shared_model(), batch, metric.select(next(rows)), neurons=neurons)

    return dla.stream(ask, [whole().select(part) for part in parts], **more)


def attributed(**options: Any) -> Any:
    return dla.attribute(shared_model(), whole(), random_metric(whole()), **options)


@pytest.mark.parametrize("at_once", [1, 3, None])
def test_neurons_kept_as_means_are_clustered(at_once: int | None) -> None:
    """In micro-batches of the longest first, so that a maze's prompts come apart."""
    seen = attributed(neurons="mean", sequences_at_once=at_once)
    expected = summarize(attributed(neurons=True).neurons, whole_clusters())
    torch.testing.assert_close(seen.neuron_summary().standard_error, expected.standard_error, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(seen.neuron_summary().low, expected.low, rtol=1e-4, atol=1e-6)
    assert seen.neuron_summary().n_clusters == 7


def whole_clusters() -> torch.Tensor:
    return torch.tensor(["abcdefg".index(m) for m in MAZES])


@pytest.mark.parametrize("neurons", [True, "mean"])
def test_a_stream_of_whole_mazes_is_one_run(neurons: Any) -> None:
    expected, seen = attributed(neurons=neurons), streamed(TOGETHER, neurons)
    assert (seen.n_clusters, seen.n_units) == (7, 7)
    for name in ("metric", "heads", "layers", "neurons"):
        mine, theirs = seen.summary(name), expected.summary(name)
        torch.testing.assert_close(mine.standard_error, theirs.standard_error, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(mine.high, theirs.high, rtol=1e-4, atol=1e-5)
    assert seen.accuracy is not None
    assert seen.accuracy.interval == pytest.approx(expected.accuracy.interval)
    assert "prompts: 10 about 7 mazes" in repr(seen)
    assert "prompts: 10 about 7 mazes" in repr(expected)


def test_mazes_in_two_batches_are_clustered_by_buckets() -> None:
    seen, expected = streamed(APART), attributed(neurons=True)
    by_bucket = summarize(expected.heads, whole_buckets())
    assert seen.n_units == 7
    torch.testing.assert_close(seen.summary("heads").standard_error, by_bucket.standard_error, rtol=1e-4, atol=1e-6)
    assert "some things came in several batches" in repr(seen)
    assert "several batches" not in repr(streamed(TOGETHER))


def whole_buckets() -> torch.Tensor:
    return attributed().buckets.unique(return_inverse=True)[1]


def test_old_streams_load_and_say_that_they_count_prompts(tmp_path: Path) -> None:
    new = streamed(TOGETHER)
    old = replace(new, errors={}, bucket_sums={}, bucket_counts=None, n_clusters=None, n_units=None)
    again = dla.load_result(old.save(tmp_path / "old.zanj"))
    assert isinstance(again, dla.StreamedResult)
    assert "intervals: count prompts" in repr(again)
    plain = summarize(attributed().heads)
    torch.testing.assert_close(again.summary("heads").standard_error, plain.standard_error, rtol=1e-4, atol=1e-6)
    assert again.accuracy == dla.load_result(old.save(tmp_path / "b.zanj")).accuracy
    assert again.accuracy.n_clusters is None  # pyright: ignore
    kept = dla.load_result(new.save(tmp_path / "new.zanj"))
    assert repr(kept) == repr(new)
    assert kept.errors["heads"].equal(new.errors["heads"])  # pyright: ignore


LIES = {
    "errors: heads of shape": {"errors": lambda v: {**v, "heads": v["heads"][:1]}},
    "errors: metric of shape": {"errors": lambda v: {**v, "metric": -v["metric"]}},
    "errors: none of metric": {"errors": lambda v: {k: x for k, x in v.items() if k != "metric"}},
    "bucket_sums: heads do not sum": {"bucket_sums": lambda v: {**v, "heads": v["heads"] + 1}},
    "bucket_counts: expected": {"bucket_counts": lambda v: v + 1},
    "n_clusters: 11": {"n_clusters": lambda v: 11},
    "n_clusters: not known": {"n_clusters": lambda v: None},
}


@pytest.mark.parametrize("message", LIES)
def test_hostile_files_are_refused(message: str, tmp_path: Path) -> None:
    result = streamed(TOGETHER)
    ((name, change),) = LIES[message].items()
    wrong = replace(result, **{name: change(getattr(result, name))})
    with pytest.raises(dla.errors.ResultFileError, match=message):
        dla.load_result(wrong.save(tmp_path / "wrong.zanj"))


def test_token_lenses_have_clustered_intervals() -> None:
    tokens = dla.token_lens(shared_model(), whole())
    for name, values in (("kl", tokens.kl), ("target_rank", tokens.target_rank)):
        expected = summarize(values.double(), whole_clusters())
        torch.testing.assert_close(tokens.summary(name).standard_error, expected.standard_error)
    with pytest.raises(InputError, match="unknown number 'heads', this result has metric, target_rank"):
        tokens.summary("heads")


def test_shards_hold_the_columns(tmp_path: Path) -> None:
    streamed(TOGETHER, shards=tmp_path)
    frame = pd.read_parquet(tmp_path)
    assert frame["maze"].tolist() == [MAZES[i] for part in TOGETHER for i in part]
    named = whole().with_column("heads", range(10))
    with pytest.raises(InputError, match="shards have a number 'heads' of their own"):
        dla.stream(lambda b: dla.attribute(shared_model(), b, dla.logit(b)), [named], shards=tmp_path / "more")
