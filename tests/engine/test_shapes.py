"""In tests every shape in a signature of the engine and its results is checked."""

from __future__ import annotations

from typing import Any

import beartype
import jaxtyping
import pytest
import torch

from maze_dla.engine.completeness import check_sums
from maze_dla.engine.metrics import LinearMetric, correct_vs_other
from maze_dla.engine.model import Norm
from maze_dla.results.statistics import summarize

from .small_models import make_batch

REFUSED: dict[str, Any] = {
    "parts without an axis for the parts": lambda: check_sums(
        torch.ones(3, 4), torch.ones(3, 4), torch.ones(3), torch.float32, "a = b"
    ),
    "sizes of other prompts": lambda: check_sums(
        torch.ones(3), torch.ones(3, 2), torch.ones(2), torch.float32, "a = b"
    ),
    "logits without a prompt axis": lambda: correct_vs_other(make_batch())(torch.ones(23)),
    "integers for logits": lambda: correct_vs_other(make_batch())(torch.ones(7, 23, dtype=torch.long)),
    "a direction that is a vector": lambda: Norm("layer").pull_back(torch.ones(24)),
    "weights for other prompts": lambda: LinearMetric(
        "m", torch.zeros(3, 1, dtype=torch.long), torch.ones(2, 1), torch.zeros(5), torch.zeros(3)
    ),
    "values without prompts": lambda: summarize(torch.tensor(1.0)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_wrong_shape_is_refused(name: str) -> None:
    if name == "weights for other prompts" and beartype.__version_info__ < (0, 15):
        pytest.skip(f"beartype {beartype.__version__} does not look at the fields of a dataclass")
    with pytest.raises(jaxtyping.TypeCheckError):
        REFUSED[name]()


def test_right_shapes_are_taken() -> None:
    check_sums(torch.full((3, 4), 2.0), torch.ones(3, 4, 2), torch.ones(3), torch.float32, "a = b")
    assert correct_vs_other(make_batch())(torch.ones(7, 23)).shape == (7,)
    assert Norm("layer").pull_back(torch.ones(2, 24)).shape == (2, 24)
