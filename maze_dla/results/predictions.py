"""The most likely tokens of each prompt as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from maze_dla.results.columns import Columns
from maze_dla.results.torch_defaults import torch_defaults

if TYPE_CHECKING:
    import pandas as pd


@torch_defaults()
def prediction_table(
    ids: Int[Tensor, "prompt k"],
    probabilities: Float[Tensor, "prompt k"],
    is_answer: Bool[Tensor, "prompt k"],
    names: Mapping[int, str],
    columns: Columns,
) -> pd.DataFrame:
    """One row for each prompt and rank: prompt, rank, token, probability, is_answer, and the prompts' own columns."""
    import pandas as pd

    n, k = ids.shape
    said = pd.DataFrame(
        {
            "prompt": torch.arange(n).repeat_interleave(k).numpy(),
            "rank": torch.arange(k).repeat(n).numpy(),
            "token": [names[token] for token in ids.flatten().tolist()],
            "probability": probabilities.flatten().tolist(),
            "is_answer": is_answer.flatten().tolist(),
        }
    )
    held = {name: v.tolist() if isinstance(v, Tensor) else list(v) for name, v in columns.items() if name not in said}
    return said.join(pd.DataFrame(held), on="prompt")
