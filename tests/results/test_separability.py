"""The words of a result of separability, and that it comes back from files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from maze_dla.errors import InputError, ResultFileError
from maze_dla.results.checking import check_result
from maze_dla.results.loading import load_result
from maze_dla.results.separability import SeparabilityResult
from tests.results.separability_results import make_separability
from tests.results.test_causal_files import damaged, meddled, same


def test_accuracies_are_those_of_the_predictions() -> None:
    result = make_separability()
    right = result.probe_classes == result.class_of[:, None]
    by_class = torch.stack([right[result.class_of == k].double().mean(0) for k in (0, 1)])
    torch.testing.assert_close(result.accuracy.mean, by_class.mean(0))
    assert result.accuracy.n_clusters == 24
    assert result.random.shape == (2, 3)
    assert result.shuffled.shape == (20, 3)
    random = torch.stack([(result.random_classes[:, 1] == result.class_of[:, None])[result.class_of == k].double().mean(0) for k in (0, 1)])  # fmt: skip  # noqa: E501
    torch.testing.assert_close(result.random[1], random.mean(0))
    difference = result.beyond("random weights")
    torch.testing.assert_close(difference.mean, result.accuracy.mean - result.random.mean(0))
    torch.testing.assert_close(result.beyond("length").mean, result.accuracy.mean - result.baseline("length").mean)


def test_what_it_finds() -> None:
    result = make_separability()
    assert result.above_controls == ("0_post", "1_post")
    assert "linearly separable beyond every control after layer 0 and 1 later ones of 3 depths" in repr(result)
    assert "classes: no 24, yes 24\n" in repr(result)
    assert "prompts: 48 about 24 mazes\n" in repr(result)
    assert "<table>" in result._repr_html_()


def test_prompts_of_one_class_are_no_finding() -> None:
    """The share of one class that is told rightly is 1 where a probe always says this class."""
    result = make_separability()
    part = result.select(result.class_of == 1)
    assert part.above_chance == part.above_controls == ()
    assert "finding: none: there are no prompts of class no, so accuracies are not to be compared with" in repr(part)


def test_what_it_does_not_claim() -> None:
    result = make_separability()
    as_good = result.probe_classes[:, None].expand(-1, 2, -1).contiguous()
    for changed, words in (
        (
            make_separability(random_classes=as_good),
            "but at none beyond every control (not beyond: random weights)",
        ),
        (make_separability(probe_classes=result.probe_classes[:, :1].expand(-1, 3).contiguous()), "at no depth do the"),
        (
            make_separability(shuffles=5),
            "5 permutations of the labels are too few for a p-value of 0.05, 19 are enough",
        ),
    ):
        assert words in changed.finding
        assert "separable" not in repr(changed)


def test_intervals_widen_where_permuted_labels_vary_more() -> None:
    """All prompts of a permutation told rightly, or all wrongly: more than independent prompts would vary."""
    plain = make_separability()
    rows = [(own + i % 2) % 2 for i, own in enumerate(plain.shuffled_class_of.unbind(1))]
    mistaken = torch.stack(rows, 1).short()[:, :, None].expand(-1, -1, 3).clone()
    mistaken[:4] = 0  # else there is no error at all to compare with
    wide = make_separability(shuffled_classes=mistaken)
    assert wide.inflation > 4 > plain.inflation
    assert wide.accuracy.low[1] < plain.accuracy.low[1]
    assert make_separability(shuffles=5).inflation == 1


@pytest.mark.parametrize("options", [{}, {"shuffles": 0}, {"models": 0}])
def test_files_and_selections(options: dict[str, Any], tmp_path: Path) -> None:
    result = make_separability(**options)
    same(load_result(result.save(tmp_path / "s.zanj")), result)
    chosen = result.select(list(range(8, 40)))
    check_result(chosen)
    same(load_result(chosen.save(tmp_path / "c.zanj")), chosen)
    assert torch.equal(chosen.probe_classes, result.probe_classes[8:40])
    assert len(chosen) == 32


DAMAGES: dict[str, tuple[Callable[[SeparabilityResult], dict[str, Any]], str]] = {
    "a class": (lambda r: {"probe_classes": meddled(r.probe_classes, (0, 0), 2)}, "probe_classes: numbers outside the"),
    "a class below zero": (lambda r: {"class_of": meddled(r.class_of, (0,), -1)}, "class_of: numbers outside the 2"),
    "a fold": (lambda r: {"folds": meddled(r.folds, (0,), 3)}, "folds: prompts about one thing are in several"),
    "depths": (lambda r: {"depths": r.depths[1:]}, "depths: 2 names"),
    "names twice": (lambda r: {"classes": ("no", "no")}, "classes: expected different names"),
    "shares": (lambda r: {"explained": r.explained + 0.4}, "explained: no shares of a variance"),
    "coordinates": (lambda r: {"coordinates": meddled(r.coordinates, (0, 0, 0), torch.nan)}, "coordinates: 1 values"),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_damaged_files_are_refused(what: str, tmp_path: Path) -> None:
    change, message = DAMAGES[what]
    result = make_separability()
    with pytest.raises(ResultFileError, match=message):
        load_result(damaged(result, change(result)).save(tmp_path / "s.zanj"))


def test_controls_that_are_not_there() -> None:
    result = make_separability(models=0)
    with pytest.raises(InputError, match="controls are embeddings, length, got 'random weights'"):
        result.beyond("random weights")
    with pytest.raises(InputError, match="baselines are embeddings, length, got 'chance'"):
        result.baseline("chance")
