"""Folds keep groups together, permuted labels say nothing, and balanced accuracy has an interval that counts groups."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from maze_dla.errors import InputError
from maze_dla.results.probing import balanced, balanced_accuracy, cue_frame, folds_of, majority, permuted_classes
from maze_dla.results.statistics import proportion, summarize

GROUPS = torch.arange(30).repeat_interleave(3)
NAMES = [f"maze {i}" for i in range(30)]


def classes(seed: int = 0, n: int = 30) -> Tensor:
    return torch.randint(2, (n,), generator=torch.Generator().manual_seed(seed))


def test_a_group_is_in_one_fold_and_classes_are_in_all() -> None:
    y = classes()[GROUPS]
    folds = folds_of(y, GROUPS, NAMES, 5)
    assert all(len(folds[g == GROUPS].unique()) == 1 for g in range(30))
    for k in (0, 1):
        counts = folds[y == k].bincount(minlength=5) // 3
        assert int(counts.max() - counts.min()) <= 1


def test_folds_depend_on_the_seed_and_not_on_the_order() -> None:
    y = classes()[GROUPS]
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(1))
    number = {g: i for i, g in enumerate(dict.fromkeys(GROUPS[order].tolist()))}  # groups are numbered as they come
    renumbered = torch.tensor([number[g] for g in GROUPS[order].tolist()])
    names = [NAMES[g] for g in number]
    folds = folds_of(y, GROUPS, NAMES, 5)
    assert torch.equal(folds_of(y[order], renumbered, names, 5), folds[order])
    assert not torch.equal(folds_of(y, GROUPS, NAMES, 5, seed=1), folds)


def test_too_few_groups_of_a_class() -> None:
    y = torch.zeros(90, dtype=torch.long)
    y[:12] = 1
    with pytest.raises(InputError, match="a class has prompts in 4 groups, expected at least one for each of 5 folds"):
        folds_of(y, GROUPS, NAMES, 5)
    folds_of(y, GROUPS, NAMES, 4)


def test_permuted_labels_are_those_of_whole_groups() -> None:
    y, generator = classes()[GROUPS], torch.Generator().manual_seed(0)
    found = torch.stack([permuted_classes(y, GROUPS, generator) for _ in range(40)])
    assert all(len(row[g == GROUPS].unique()) == 1 for row in found for g in range(30))
    assert (found.sum(1) == y.sum()).all()
    agree = (found == y).double().mean()
    assert 0.4 < float(agree) < 0.6
    mixed = y.clone()
    mixed[::3] = 1 - mixed[::3]
    whole = sorted(sorted(mixed[g == GROUPS].tolist()) for g in range(30))
    given = permuted_classes(mixed, GROUPS, generator)
    assert sorted(sorted(given[g == GROUPS].tolist()) for g in range(30)) == whole


def test_permuted_labels_say_nothing_where_every_group_has_all_classes() -> None:
    """As where two prompts of each maze are told apart: other groups' classes would be the own ones."""
    y, generator = torch.arange(90) % 3, torch.Generator().manual_seed(0)
    found = torch.stack([permuted_classes(y, GROUPS, generator) for _ in range(40)])
    assert all(sorted(row[g == GROUPS].tolist()) == [0, 1, 2] for row in found for g in range(30))
    assert 0.28 < float((found == y).double().mean()) < 0.39


def test_groups_of_one_class_exchange_it_whatever_their_size() -> None:
    groups = torch.repeat_interleave(torch.arange(9), torch.arange(1, 10))
    y, generator = groups % 2, torch.Generator().manual_seed(0)
    y[-1] = 1 - y[-1]  # one group has both
    found = torch.stack([permuted_classes(y, groups, generator) for _ in range(40)])
    assert 0.3 < float((found[:, groups < 8] == y[groups < 8]).double().mean()) < 0.7


def test_no_class_has_all_of_its_prompts_in_one_fold() -> None:
    y = torch.tensor([0, 0, 0, 2, 1, 1, 1, 2])
    folds = folds_of(y, torch.arange(8) // 2, NAMES, 2)
    for k in range(3):
        assert len(folds[y == k].unique()) == 2
    assert folds[::2].tolist() == folds[1::2].tolist()


def test_balanced_is_the_mean_of_the_classes_means() -> None:
    y, right = torch.tensor([0, 0, 0, 0, 1, 1]), torch.tensor([1.0, 1, 1, 0, 0, 1])
    assert float(balanced(right, y, torch.arange(6)).mean) == 0.625
    assert float(balanced(right, y, torch.arange(6), inflation=4.0).standard_error) == pytest.approx(
        2 * float(balanced(right, y, torch.arange(6)).standard_error)
    )


def test_of_one_class_it_is_the_plain_clustered_mean() -> None:
    right = classes(3, 90).double()
    ours, plain = balanced(right, torch.zeros(90, dtype=torch.long), GROUPS), summarize(right, GROUPS)
    for name in ("mean", "standard_error", "low", "high"):
        torch.testing.assert_close(getattr(ours, name), getattr(plain, name))
    share = balanced_accuracy(right, torch.zeros(90, dtype=torch.long), GROUPS)
    low, high = proportion(right > 0, GROUPS).interval  # by the normal distribution, ours by Student's t
    assert float(share.low) == pytest.approx(low, abs=0.01)
    assert float(share.high) == pytest.approx(high, abs=0.01)
    assert float(share.low) <= low


def test_prompts_of_a_group_do_not_count_as_many() -> None:
    y, right = classes()[GROUPS], classes(5).double()[GROUPS]
    widths = [float(s.high - s.low) for s in (balanced_accuracy(right, y, c) for c in (GROUPS, torch.arange(90)))]
    assert widths[0] > 1.5 * widths[1]
    certain = balanced_accuracy(torch.ones(90), y, GROUPS)
    assert float(certain.high) == 1
    assert 0.8 < float(certain.low) < 0.95


def test_majority_reads_other_folds_alone() -> None:
    y = classes()[GROUPS]
    folds = folds_of(y, GROUPS, NAMES, 5)
    told = majority(tuple(str(int(k)) for k in y), y, folds)
    assert torch.equal(told, y)
    own_name = majority(tuple(f"maze {int(g)}" for g in GROUPS), y, folds)
    assert float((own_name == y).double().mean()) < 0.7  # a name that no other fold has tells nothing
    near = majority(y * 100 + torch.arange(90).double() / 90, y, folds)
    assert float((near == y).double().mean()) > 0.8  # numbers of many values are binned


def test_cues_are_ordered_by_what_they_tell() -> None:
    y = classes()[GROUPS]
    folds = folds_of(y, GROUPS, NAMES, 5)
    frame = cue_frame({"noise": classes(9)[GROUPS], "class": y}, y, GROUPS, folds)
    assert frame["cue"].tolist() == ["class", "noise"]
    assert frame["accuracy"][0] == 1
    assert frame["low"][1] < 0.5 < frame["high"][1] or frame["accuracy"][1] < 0.7
