"""Checks of the numbers of saved attention patterns and scores of heads."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from maze_dla.results.checking.shapes import check_finite, check_names
from maze_dla.results.checking.sums import after_the_end
from maze_dla.results.parts import place_of_head

OFF = 1e-2  # what the attention of a query may be off by, in half precision


def check_attention(result: Any) -> None:
    """Refuse patterns that no heads can have: negative, of keys after their query, or above 1 together.

    Raises:
        ValueError: naming the field.
    """
    check_finite("metric", result.metric)
    _check_heads(result.head_labels, result.patterns.shape[1])
    patterns, n = result.patterns, result.patterns.shape[-1]
    beyond = after_the_end(result, n)[:, None, :, None].expand_as(patterns)
    if patterns.shape[2] != n or not torch.equal(patterns.isnan(), beyond):
        raise ValueError("patterns: some are no numbers, or are numbers at queries after a prompt's end")
    known = patterns.nan_to_num()
    if (known.triu(1) != 0).any():
        raise ValueError("patterns: attention to keys after their query")
    if (known < 0).any() or (known.sum(-1) > 1 + OFF).any():
        raise ValueError("patterns: below 0, or above 1 over all keys of a query")


def check_head_scores(result: Any) -> None:
    """Refuse scores that are no shares, or that are there for prompts without a query that counts.

    Raises:
        ValueError: naming the field.
    """
    check_finite("metric", result.metric)
    check_names("relations", result.relations)
    if len(result.relations) != result.values.shape[1]:
        raise ValueError(f"relations: {len(result.relations)} names for {result.values.shape[1]} of them")
    for name in ("values", "random", "uniform", "overlap"):
        _check_shares(name, getattr(result, name))
    none = result.n_queries == 0
    if (result.n_queries < 0).any():
        raise ValueError("n_queries: below 0")
    for name in ("values", "uniform"):
        missing = getattr(result, name).isnan()
        expected = none.reshape(*none.shape, *[1] * (missing.ndim - 2)).expand_as(missing)
        if not torch.equal(missing, expected):
            raise ValueError(f"{name}: numbers where no query counts, or none where some do")


def check_distances(result: Any) -> None:
    """Refuse correlations that are none, and attention that is no share.

    Raises:
        ValueError: naming the field.
    """
    check_finite("metric", result.metric)
    _check_heads(result.head_labels, result.correlation.shape[1])
    _check_shares("attention", result.attention)
    if (result.correlation.abs() > 1 + 1e-6).any():
        raise ValueError("correlation: some are not between -1 and 1")


def _check_heads(labels: Any, n: int) -> None:
    check_names("head_labels", labels)
    if len(labels) != n:
        raise ValueError(f"head_labels: {len(labels)} names for {n} heads")
    for name in labels:
        place_of_head(name, 10**6, 10**6)


def _check_shares(name: str, values: Tensor) -> None:
    if (values < -OFF).any() or (values > 1 + OFF).any() or values.isinf().any():
        raise ValueError(f"{name}: some are no shares between 0 and 1")
