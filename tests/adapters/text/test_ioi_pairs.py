"""Pairs of IOI prompts: names swapped, or a third name."""

from __future__ import annotations

from typing import Any

import pytest

import maze_dla as dla
from maze_dla.errors import InputError, MazeDlaError


@pytest.fixture(scope="module")
def model() -> Any:
    return dla.load_gpt2()


@pytest.mark.parametrize("n_prompts", [None, 30])
def test_swapped_names_differ_in_the_last_name_and_in_the_answer(model: Any, n_prompts: int | None) -> None:
    pairs = dla.ioi_pairs(model, "names", n_prompts, seed=4)
    assert pairs.changed().sum(1).tolist() == [1] * len(pairs)
    assert pairs.clean.targets.equal(pairs.corrupted.incorrect)
    assert pairs.clean.incorrect.equal(pairs.corrupted.targets)
    assert pairs.clean.labels == dla.ioi_prompts(model, n_prompts, seed=4).labels
    found = dla.contrast(model, pairs)
    assert found.clean.metric.allclose(dla.attribute(model, pairs.clean, dla.logit_diff(pairs.clean)).metric)
    assert found.clean.accuracy.value == float(found.clean.preferred.float().mean())
    assert found.dependent.metric.mean() > 5


def test_a_third_name_is_in_neither_place_and_has_no_contrast(model: Any) -> None:
    pairs = dla.ioi_pairs(model, "third_name", 30)
    assert pairs.changed().sum(1).tolist() == [1] * 30
    for i, place in enumerate(pairs.changed().int().argmax(1).tolist()):
        assert pairs.corrupted.labels[i][place] not in pairs.clean.labels[i]
        assert pairs.clean.labels[i][place] == pairs.clean.token_name(int(pairs.clean.incorrect[i]))
    assert pairs.corrupted.labels == dla.ioi_pairs(model, "third_name", 30).corrupted.labels
    for metric in (None, dla.logit_diff(pairs.clean)):
        with pytest.raises(MazeDlaError, match=r"with a third name in the place .* neither of the two names is right"):
            dla.contrast(model, pairs, metric)


def test_refusals(model: Any) -> None:
    with pytest.raises(InputError, match="change is one of 'names', 'third_name', got 'name'"):
        dla.ioi_pairs(model, "name")  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="names is a list of at least 3 different words"):
        dla.ioi_pairs(model, "third_name", 4, names=["Mary", "John"])


def test_the_earlier_names_still_work_and_say_so(model: Any) -> None:
    batch, pairs = dla.ioi_prompts(model), dla.ioi_pairs(model)
    with pytest.warns(DeprecationWarning, match="corrupted gives way to ioi_pairs") as caught:
        assert batch.corrupted.labels == pairs.corrupted.labels
    assert caught[0].filename == __file__
    with pytest.warns(DeprecationWarning, match="with_corrupted gives way to ioi_pairs"):
        assert batch.with_corrupted.labels == pairs.joined().labels
