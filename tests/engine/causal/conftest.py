"""A small model, prompts and a metric, to ablate."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from maze_dla.engine.metrics import LinearMetric
from maze_dla.engine.prompts import PromptBatch
from tests.engine.pairs_of_tokens import random_pairs
from tests.engine.small_models import random_metric, shared_model

LENGTHS = (9, 5, 9, 7, 5, 7)


@pytest.fixture(scope="module")
def model() -> Any:
    return shared_model(torch.float64)


@pytest.fixture(scope="module")
def batch() -> PromptBatch:
    """Six prompts about three things: each has others of its length about something else."""
    found = random_pairs(LENGTHS).clean
    return replace(found, columns={"maze": torch.tensor([0, 1, 2, 0, 2, 1])}, unit="maze")


@pytest.fixture(scope="module")
def other() -> PromptBatch:
    found = random_pairs((7, 9, 5, 9), seed=4).clean
    return replace(found, columns={"maze": torch.tensor([5, 6, 7, 8])}, unit="maze")


@pytest.fixture(scope="module")
def metric(batch: PromptBatch) -> LinearMetric:
    return random_metric(batch)
