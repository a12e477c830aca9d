"""Held-out predictions of classes: folds that keep groups together, balanced accuracy, and its clustered interval."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from maze_dla.errors import InputError
from maze_dla.results.columns import Column, Columns, groups_of, name_of
from maze_dla.results.statistics import Summary, interval_of

if TYPE_CHECKING:
    import pandas as pd

BINS = 10  # of a number with many values, each of about as many prompts
LEAST_DESIGN_EFFECT = 0.5
ATTEMPTS = 100  # at folds in which no class is in one alone


def folds_of(
    class_of: Int[Tensor, " prompt"], groups: Int[Tensor, " prompt"], names: Sequence[str], n_folds: int, seed: int = 0
) -> Int[Tensor, " prompt"]:
    """The fold of each prompt: prompts of a group are in one fold, and folds have the classes in like shares.

    Groups with the same classes are dealt to the folds in turn, in an order by a hash of their names (`names`, by
    number) and the seed: neither the order of the prompts nor other groups' names matter for it. Where that puts all
    prompts of a class into one fold, so that no probe could learn it for them, they are dealt by hashes alone.

    Raises:
        InputError: a class with prompts in fewer groups than there are folds.
    """
    held: dict[int, list[int]] = {}
    for group, label in zip(groups.tolist(), class_of.tolist(), strict=True):
        held.setdefault(group, []).append(label)
    counts = Counter(label for labels in held.values() for label in set(labels))
    if counts and min(counts.values()) < n_folds:
        raise InputError(
            f"a class has prompts in {min(counts.values())} groups, expected at least one for each of {n_folds} folds"
        )
    found = torch.empty_like(groups)
    for attempt in range(ATTEMPTS):
        named = [str(seed), *([str(attempt)] if attempt else [])]
        hashed = {group: name_of([*named, names[group]]) for group in held}
        order = sorted(held, key=lambda group: ([] if attempt else sorted(held[group]), hashed[group]))
        fold = {group: place % n_folds for place, group in enumerate(order)}
        found = torch.tensor([fold[group] for group in groups.tolist()])
        if all(len(found[class_of == k].unique()) > 1 for k in counts):
            return found
    raise InputError(f"no split into {n_folds} folds was found in which no class has all of its prompts in one")


def permuted_classes(
    class_of: Int[Tensor, " prompt"], groups: Int[Tensor, " prompt"], generator: torch.Generator
) -> Int[Tensor, " prompt"]:
    """Classes that say nothing about the prompts: groups have each other's.

    Groups whose prompts are all of one class exchange their classes. Each other group takes all classes of a group of
    as many prompts, and moves them on around its prompts by a number drawn at random: where every group has the same
    classes in the same order, to exchange them would change nothing. What prompts of one group have in common stays so.
    """
    members: dict[int, list[int]] = {}
    for prompt, group in enumerate(groups.tolist()):
        members.setdefault(group, []).append(prompt)
    labels = {group: class_of[torch.tensor(own)] for group, own in members.items()}
    found = torch.empty_like(class_of)
    sizes = {group: 1 if bool((own == own[0]).all()) else len(own) for group, own in labels.items()}
    for size in sorted(set(sizes.values())):
        of_size = [group for group in sorted(members) if sizes[group] == size]
        giver = torch.randperm(len(of_size), generator=generator).tolist()
        for group, i in zip(of_size, giver, strict=True):
            given = labels[of_size[i]]
            by = 0 if size == 1 else int(torch.randint(size, (1,), generator=generator))
            found[torch.tensor(members[group])] = given[0] if size == 1 else given.roll(by)
    return found


def balanced(
    values: Float[Tensor, "prompt ..."],
    class_of: Int[Tensor, " prompt"],
    clusters: Int[Tensor, " prompt"],
    inflation: float = 1.0,
) -> Summary:
    """The mean over classes of each class's mean, with its clustered 95% interval.

    Linearised: a prompt i of class k counts psi_i = (y_i - mean_k) / (K n_k), and the variance is G / (G - 1) times the
    sum over clusters of (sum of psi)^2, times `inflation`; t with G - 1 degrees of freedom.
    """
    values = values.double()
    present = class_of.unique()
    mean = values.new_zeros(values.shape[1:])
    psi = torch.zeros_like(values)
    for k in present.tolist():
        own = class_of == k
        of_class = values[own].mean(0)
        mean += of_class / len(present)
        psi[own] = (values[own] - of_class) / (len(present) * int(own.sum()))
    n_clusters = int(clusters.max()) + 1
    sums = values.new_zeros(n_clusters, *mean.shape).index_add_(0, clusters, psi)
    error = (sums.square().sum(0) * (n_clusters / max(n_clusters - 1, 1))).sqrt()
    return interval_of(mean, error * inflation**0.5, len(values), n_clusters)


def balanced_accuracy(
    right: Float[Tensor, "prompt ..."],
    class_of: Int[Tensor, " prompt"],
    clusters: Int[Tensor, " prompt"],
    inflation: float = 1.0,
) -> Summary:
    """The same of shares, with Wilson's interval at the number of independent prompts that the error implies.

    That number is p (1 - p) / error^2, at most twice that of independent prompts; where all or none are right it is
    that of the clusters of each class, K^2 / sum over k of 1 / G_k.
    """
    from scipy.stats import t as student_t

    plain = balanced(right, class_of, clusters, inflation)
    if plain.n_clusters < 2:
        return plain
    present = class_of.unique().tolist()
    shares = [1 / int((class_of == k).sum()) for k in present]
    certain = len(present) ** 2 / inflation / sum(1 / len(clusters[class_of == k].unique()) for k in present)
    most = len(present) ** 2 / inflation / sum(shares) / LEAST_DESIGN_EFFECT
    p, error = plain.mean.clamp(0, 1), plain.standard_error
    known = (error > 0) & (p > 0) & (p < 1)
    n = torch.where(known, (p * (1 - p) / error.square()).clamp(max=most), certain)
    z = float(student_t.ppf(0.975, plain.n_clusters - 1))
    middle, reach = p + z * z / (2 * n), z * (p * (1 - p) / n + z * z / (4 * n * n)).sqrt()
    low, high = ((middle + side * reach) / (1 + z * z / n) for side in (-1, 1))
    return Summary(plain.mean, error, low.clamp(0, 1), high.clamp(0, 1), plain.n, plain.n_clusters)


def majority(values: Column, class_of: Int[Tensor, " prompt"], folds: Int[Tensor, " prompt"]) -> Int[Tensor, " prompt"]:
    """For each prompt the class that is commonest, within its class's share, among other folds' prompts of its value.

    Numbers with more than 10 values are put into 10 bins. A value that no other fold has gets the first class.
    """
    value_of = groups_of(values) if not isinstance(values, Tensor) else _binned(values)
    n_classes, n_values = int(class_of.max()) + 1, int(value_of.max()) + 1
    found = torch.empty_like(class_of)
    for fold in folds.unique().tolist():
        own, others = folds == fold, folds != fold
        table = torch.zeros(n_values, n_classes, dtype=torch.double)
        table.index_put_((value_of[others], class_of[others]), torch.ones(1, dtype=torch.double), accumulate=True)
        table /= table.sum(0).clamp_min(1)  # as if classes were of one size
        found[own] = table[value_of[own]].argmax(1)
    return found


def cue_frame(
    columns: Columns,
    class_of: Int[Tensor, " prompt"],
    clusters: Int[Tensor, " prompt"],
    folds: Int[Tensor, " prompt"],
) -> pd.DataFrame:
    """How well each column by itself tells the classes of held-out prompts, best first.

    Columns: cue, accuracy (balanced), low, high.
    """
    import pandas as pd

    rows = []
    for name, values in columns.items():
        right = majority(values, class_of, folds) == class_of
        summary = balanced_accuracy(right.double(), class_of, clusters)
        ends = {end: float(getattr(summary, end)) for end in ("low", "high")}
        rows.append({"cue": name, "accuracy": float(summary.mean), **ends})
    return pd.DataFrame(rows, columns=["cue", "accuracy", "low", "high"]).sort_values(
        "accuracy", ascending=False, ignore_index=True
    )


def _binned(values: Tensor) -> Int[Tensor, " prompt"]:
    values = values.double().nan_to_num(nan=-torch.inf)
    if len(values.unique()) <= BINS:
        return values.unique(return_inverse=True)[1]
    finite = values[values.isfinite()]
    edges = finite.quantile(torch.linspace(0, 1, BINS + 1, dtype=torch.double)[1:-1])
    return torch.bucketize(values, edges.unique())
