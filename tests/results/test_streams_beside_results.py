"""A stream answers as the result over all its prompts does, as far as means go."""

from __future__ import annotations

import math
from dataclasses import replace
from inspect import unwrap

import pytest
import torch

from maze_dla.errors import InputError
from maze_dla.results.attribution import AttributionResult
from maze_dla.results.comparison import compare
from maze_dla.results.measures import DEPTH, SHARES
from maze_dla.results.streamed import StreamedResult
from maze_dla.results.streaming import stream
from results.test_comparison import noisy
from results.test_result_classes import lens, token_lens

FACE = ("layer_summary", "constant_summary", "head_summary", "neuron_summary", "kind_summary", "moved_summary")


def parts() -> tuple[AttributionResult, AttributionResult, AttributionResult]:
    """A result, and its first and last prompts."""
    g = torch.Generator().manual_seed(3)
    whole = noisy(12)
    neurons = torch.randn(12, 2, 5, dtype=torch.float64, generator=g)

    def of(rows: slice) -> AttributionResult:
        mine = {name: values[rows] for name, values in vars(whole).items() if isinstance(values, torch.Tensor)}
        mine |= {"neuron_mean": neurons[rows].mean(0), "neuron_variance": neurons[rows].var(0)}
        return replace(whole, **mine, prompt_tokens=whole.prompt_tokens[rows], targets=whole.targets[rows])

    return of(slice(None)), of(slice(5)), of(slice(5, None))


def streamed(*results: object) -> StreamedResult:
    """The results in turn as a stream."""
    one_by_one = iter(results)
    return stream(lambda batch: next(one_by_one), [None] * len(results))  # pyright: ignore


def test_the_shared_face_is_that_of_one_run() -> None:
    whole, *pieces = parts()
    seen = streamed(*pieces)
    summaries = [*((getattr(seen, name)(), getattr(whole, name)()) for name in FACE)]
    summaries.append((seen.lens_summary().summary, whole.lens_summary().summary))
    for mine, expected in summaries:
        assert mine.n == expected.n == 12
        for field in ("mean", "standard_error", "low", "high"):
            torch.testing.assert_close(getattr(mine, field), getattr(expected, field))
    assert seen.layer_labels == whole.layer_labels
    assert seen.kinds == whole.kinds
    assert seen.lens_summary().labels == whole.lens().labels
    assert seen.lens_summary().first_depth_with() == whole.lens().first_depth_with()
    assert [part.name for part in seen.top_neurons(3)] == [part.name for part in whole.top_neurons(3)]


def test_all_heads_together_have_an_interval_of_their_own() -> None:
    """Not the sum of the heads' intervals: heads vary together."""
    whole, *pieces = parts()
    assert whole.sources_by_kind is not None
    moved = whole.sources_by_kind.sum((1, 2))
    for result in (whole, streamed(*pieces)):
        torch.testing.assert_close(result.moved_summary().mean, moved.mean(0))
        torch.testing.assert_close(result.moved_summary().standard_error, moved.std(0) / math.sqrt(12))


def test_streamed_lenses_keep_their_scale() -> None:
    values = torch.tensor([[1.0, 4.0], [3.0, 2.0], [0.0, 9.0], [2.0, 1.0]])
    one = lens(values[:, -1], values, ("0_pre", "final_post"))
    curve = streamed(one, one).lens_summary()
    assert curve.scale == one.scale == "own"
    assert curve.summary.mean.tolist() == values.double().mean(0).tolist()
    with pytest.raises(InputError, match="unknown number 'lens', this result has metric, target_rank"):
        streamed(token_lens()).lens_summary()
    with pytest.raises(InputError, match="unknown number 'heads', this result has metric, values"):
        streamed(one).top_heads()


@pytest.mark.parametrize(("name", "ask"), [("neuron", "neurons=True"), ("kind", "'kinds'"), ("moved", "'kinds'")])
def test_what_was_not_asked_for(name: str, ask: str) -> None:
    bare = replace(noisy(), sources_by_kind=None, kinds=())
    for result in (bare, streamed(bare)):
        with pytest.raises(InputError, match=f"this result has no .*: ask with attribute.*{ask}"):
            getattr(result, f"{name}_summary")()


def test_a_stream_has_the_measures_of_the_whole() -> None:
    whole, *pieces = parts()
    compared = compare(whole, streamed(*pieces))
    for numbers in (compared.values, compared.low, compared.high):
        torch.testing.assert_close(numbers[:, 0], numbers[:, 1], equal_nan=True)
    assert {*SHARES, DEPTH} <= set(compared.measures)
    assert compared.differences == ()


def test_an_old_stream_says_what_it_lacks() -> None:
    whole, *pieces = parts()
    old = replace(streamed(*pieces), errors={}, bucket_sums={}, bucket_counts=None, n_clusters=None, n_units=None)
    compared = compare(whole, old)
    assert compared.notes == ("2: tiny is a stream of version 0.1, which kept means alone: most measures need more.",)
    assert [row[0] for row in compared.table()[1:] if row[2] != "-"] == ["accuracy", "metric (logits)"]


def test_streams_of_something_else_are_refused() -> None:
    with pytest.raises(InputError, match="takes results of attribute or streams of them, got a stream of LensResult"):
        compare(streamed(noisy().lens()))
    for wrong, name in ((None, "None"), (3, "int"), ("x", "str"), ([], "list")):
        with pytest.raises(InputError, match=f"takes results of attribute or streams of them, got {name}"):
            unwrap(compare)(wrong)
