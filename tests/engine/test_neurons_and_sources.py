"""Neurons for each prompt or in the mean; sources after a prompt's end are nothing."""

from __future__ import annotations

from dataclasses import replace
from inspect import unwrap

import numpy as np
import pytest
import torch
from scipy import stats

from maze_dla.analysis import attribute, token_lens
from maze_dla.engine.direct import attribution
from maze_dla.engine.metrics import logit_diff
from maze_dla.engine.prompts import PromptBatch
from maze_dla.errors import InputError
from tests.engine.small_models import hooked_view

from .small_models import MODERN, make_batch, random_metric, shared_model


@pytest.mark.parametrize("at_once", [1, 3, 16])
@pytest.mark.parametrize("settings", [{}, MODERN], ids=str)
def test_mean_and_variance_are_those_of_all_prompts(settings: dict, at_once: int) -> None:
    model, batch = shared_model(**settings), make_batch()
    how = {"metric": random_metric(batch), "sequences_at_once": at_once}
    full, brief = attribute(model, batch, neurons=True, **how), attribute(model, batch, neurons="mean", **how)
    assert brief.neurons is None
    assert full.neurons is not None
    assert full.neurons.shape == (7, 2, 40)
    values = full.neurons.double()
    for result in (full, brief):
        assert result.neuron_mean is not None
        assert result.neuron_variance is not None
        assert torch.allclose(result.neuron_mean, values.mean(0), atol=1e-6)
        assert torch.allclose(result.neuron_variance, torch.var(values, dim=0), rtol=1e-4, atol=1e-8)
        assert not torch.allclose(result.neuron_variance, torch.var(values, dim=0, correction=0), rtol=1e-2)
    assert torch.equal(brief.heads, full.heads)


def test_one_prompt_has_no_variance() -> None:
    batch = make_batch((9,))
    result = attribute(shared_model(), batch, random_metric(batch), neurons="mean")
    assert result.neuron_variance is not None
    assert result.neuron_variance.isnan().all()
    assert all(np.isnan([part.low, part.high]).all() for part in result.top_neurons(3))


@pytest.mark.parametrize("neurons", [True, "mean"])
def test_top_neurons(neurons: bool | str) -> None:
    batch = make_batch()
    how = {"model": shared_model(), "batch": batch, "metric": random_metric(batch)}
    values = attribute(**how, neurons=True).neurons
    assert values is not None
    array = values.double().numpy()
    mean, error = array.mean(0), stats.sem(array, axis=0)
    order = sorted(np.ndindex(mean.shape), key=lambda i: -abs(mean[i]))[:6]
    top = attribute(**how, neurons=neurons).top_neurons(6)
    assert [(part.layer, part.number) for part in top] == order
    for part, i in zip(top, order, strict=True):
        low, high = stats.t.interval(0.95, len(batch) - 1, loc=mean[i], scale=error[i])
        assert (part.mean, part.low, part.high) == pytest.approx((mean[i], low, high), rel=1e-4)
        assert part.name == f"L{i[0]}N{i[1]}"


def test_without_neurons_there_are_none() -> None:
    batch = make_batch()
    result = attribute(shared_model(), batch, random_metric(batch))
    assert result.neurons is result.neuron_mean is result.neuron_variance is result.sources is result.patterns is None
    with pytest.raises(ValueError, match="this result has no neurons: ask with attribute"):
        result.top_neurons()


@pytest.mark.parametrize("neurons", ["all", "sum", None, 2])
def test_an_unknown_value_is_refused(neurons: object) -> None:
    batch = make_batch()
    unchecked = unwrap(attribution.attribute)  # in tests the annotation refuses such values first
    with pytest.raises(InputError, match=f"^neurons is False, True or 'mean', got {neurons!r}$"):
        unchecked(hooked_view(shared_model()), batch, random_metric(batch), neurons=neurons)


def test_sources_end_at_the_read_position_and_sum_to_their_head() -> None:
    batch = make_batch()
    result = attribute(shared_model(), batch, random_metric(batch), sources=True, sequences_at_once=2)
    assert result.sources is not None
    assert result.patterns is not None
    for p, n in enumerate(batch.lengths.tolist()):
        for array in (result.sources, result.patterns):
            assert array.shape == (7, 2, 3, 40)
            assert (array[p, ..., n:] == 0).all()
            assert (array[p, ..., :n] != 0).all()
        assert torch.allclose(result.sources[p].sum(-1), result.heads[p], atol=1e-4)
        assert torch.allclose(result.patterns[p].sum(-1), torch.ones(2, 3), atol=1e-5)
    one_short = torch.stack([s[..., : n - 1].sum(-1) for s, n in zip(result.sources, batch.lengths, strict=True)])
    assert not torch.allclose(one_short, result.heads, atol=1e-2)


KINDS = ("start", "middle", "rest")


def with_kinds() -> PromptBatch:
    """Prompts whose tokens are of random kinds; what pads them is of a kind too."""
    batch = make_batch()
    kinds = torch.randint(3, batch.sequences.shape, generator=torch.Generator().manual_seed(2))
    return replace(batch, kinds=KINDS, sequence_kinds=kinds)


@pytest.mark.parametrize("at_once", [1, 3, 16])
@pytest.mark.parametrize("settings", [{}, MODERN], ids=str)
def test_sources_by_kind_are_sums_of_sources(settings: dict, at_once: int) -> None:
    model, batch = shared_model(**settings), with_kinds()
    how = {"metric": random_metric(batch), "sequences_at_once": at_once}
    full, brief = attribute(model, batch, sources=True, **how), attribute(model, batch, sources="kinds", **how)
    assert full.sources is not None
    for p, n in enumerate(batch.lengths.tolist()):
        for k in range(3):
            own = [s for s in range(n) if int(batch.sequence_kinds[p, s]) == k]  # pyright: ignore
            expected = full.sources[p][..., own].sum(-1)
            for result in (full, brief):
                assert torch.allclose(result.sources_by_kind[p, ..., k], expected, atol=1e-5)  # pyright: ignore
    assert (full.kinds, brief.kinds) == (KINDS, KINDS)
    assert brief.sources is brief.patterns is None
    assert torch.equal(brief.heads, full.heads)


def test_selected_prompts_keep_their_kinds() -> None:
    batch = with_kinds()
    whole = attribute(shared_model(), batch, random_metric(batch), sources="kinds").sources_by_kind
    part = attribute(shared_model(), batch.select([5, 2]), random_metric(batch).select([5, 2]), sources="kinds")
    assert torch.allclose(part.sources_by_kind, whole[[5, 2]], atol=1e-5)  # pyright: ignore


def test_kinds_that_a_batch_does_not_name() -> None:
    batch = make_batch()
    assert attribute(shared_model(), batch, random_metric(batch), sources=True).sources_by_kind is None
    with pytest.raises(InputError, match=r"^this batch does not say of which kind its tokens are: sources is"):
        attribute(shared_model(), batch, random_metric(batch), sources="kinds")


@pytest.mark.parametrize("sources", ["all", None, 2])
def test_an_unknown_value_of_sources_is_refused(sources: object) -> None:
    batch = with_kinds()
    with pytest.raises(InputError, match=f"^sources is False, True or 'kinds', got {sources!r}$"):
        unwrap(attribution.attribute)(hooked_view(shared_model()), batch, random_metric(batch), sources=sources)


def test_with_an_incorrect_token_preferred_means_likelier_than_that() -> None:
    batch = make_batch()
    plain = attribute(shared_model(), batch, random_metric(batch))
    likeliest = token_lens(shared_model(), batch, k=1).top_ids[:, -1, 0]
    rivals = replace(batch, incorrect=torch.where(likeliest == batch.targets, 0, likeliest))
    result = attribute(shared_model(), rivals, random_metric(rivals))
    assert plain.preferred is None
    assert torch.equal(result.correct, plain.correct)
    assert torch.equal(result.preferred, plain.correct)  # nothing is likelier than the likeliest
    diff = logit_diff(rivals)
    easy = attribute(shared_model(), rivals, diff)
    assert torch.equal(easy.preferred, easy.metric > 0)
    turned = replace(rivals, targets=rivals.incorrect, incorrect=rivals.targets, answers=None, foils=None)
    assert torch.equal(attribute(shared_model(), turned, logit_diff(turned)).preferred, ~easy.preferred)
