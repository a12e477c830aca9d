"""Checks of a saved result of separability."""

from __future__ import annotations

import torch

from maze_dla.results.checking.shapes import check_finite, check_names
from maze_dla.results.separability import BASELINES, SeparabilityResult

ROUNDING = 1e-6


def check_separability(result: SeparabilityResult) -> None:
    """Refuse classes outside those that are named, folds that part a group, and shares of variance that are none.

    Raises:
        ValueError: naming the field.
    """
    check_names("classes", result.classes)
    check_names("depths", result.depths)
    n_classes = len(result.classes)
    for name in ("class_of", "probe_classes", "baseline_classes", "shuffled_class_of", "shuffled_classes"):
        _check_classes(name, getattr(result, name), n_classes)
    _check_classes("random_classes", result.random_classes, n_classes)
    if n_classes < 2 or len(result.depths) != result.probe_classes.shape[1]:
        raise ValueError(f"depths: {len(result.depths)} names, {n_classes} classes")
    if result.baseline_classes.shape[1] != len(BASELINES) or result.coordinates.shape[2] != 2:
        raise ValueError("baseline_classes or coordinates: another number of them")
    check_finite("coordinates", result.coordinates)
    check_finite("explained", result.explained)
    if (result.explained < -ROUNDING).any() or (result.explained.sum(1) > 1 + ROUNDING).any():
        raise ValueError("explained: no shares of a variance")
    _check_folds(result)


def _check_classes(name: str, numbers: torch.Tensor, n_classes: int) -> None:
    if numbers.numel() and not 0 <= int(numbers.min()) <= int(numbers.max()) < n_classes:
        raise ValueError(f"{name}: numbers outside the {n_classes} classes")


def _check_folds(result: SeparabilityResult) -> None:
    """Prompts about one thing are in one fold, unless they were grouped by something else."""
    if (result.folds < 0).any():
        raise ValueError("folds: negative ones")
    if "groups" in result.info:
        return
    fold = {}
    for group, own in zip(result.clusters.tolist(), result.folds.tolist(), strict=True):
        if fold.setdefault(group, own) != own:
            raise ValueError("folds: prompts about one thing are in several")
