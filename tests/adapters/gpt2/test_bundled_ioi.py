"""The bundled IOI model: what it can do."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import maze_dla as dla
from maze_dla.adapters.gpt2.sources import BUNDLED
from maze_dla.training.gpt2.held_out import held_out_prompts

MIB = 2**20


def test_it_is_small() -> None:
    assert sum(f.stat().st_size for f in BUNDLED.iterdir()) <= 4 * MIB


def test_it_has_gpt2s_architecture(bundled: Any) -> None:
    from transformers import GPT2LMHeadModel

    hf = GPT2LMHeadModel.from_pretrained(BUNDLED)
    assert 2 <= hf.config.n_layer <= 4
    tokens = torch.tensor([[0, 5, 9]])
    with torch.no_grad():
        torch.testing.assert_close(bundled(tokens), hf(tokens).logits, rtol=0, atol=1e-4)


@pytest.mark.parametrize("seed", [1, 2])
def test_held_out_logit_differences_are_positive(bundled: Any, seed: int) -> None:
    batch = held_out_prompts(bundled, seed=seed)
    result = dla.attribute(bundled, batch, dla.logit_diff(batch))
    assert (len(result), result.accuracy.value >= 0.99) == (1000, True)
    assert float(result.gap.abs().max()) < 1e-3


def test_the_standard_prompts_are_answered(bundled: Any) -> None:
    batch = dla.ioi_prompts(bundled)
    result = dla.attribute(bundled, batch, dla.logit_diff(batch))
    assert result.preferred.all()  # the indirect object above the subject
    assert result.accuracy.value == 1.0
