"""Models that share a config with a folded one: what their norms are is theirs, not the config's word."""

from __future__ import annotations

import pytest
import torch

import maze_dla as dla
from tests.engine.small_models import D_VOCAB, make_batch, make_model


@pytest.mark.parametrize("forward", ["auto", "hooked"])
def test_an_unfolded_model_whose_config_says_folded(forward):
    batch = make_batch((6, 11))
    model = make_model()
    expected = dla.token_lens(model, batch, k=D_VOCAB, positions="all", forward=forward)
    model.cfg.normalization_type = "LNPre"
    found = dla.token_lens(model, batch, k=D_VOCAB, positions="all", forward=forward)
    torch.testing.assert_close(found.kl, expected.kl, equal_nan=True)
    torch.testing.assert_close(found.top_probs, expected.top_probs, equal_nan=True)
    assert float(expected.kl[0, 0, 0]) > 0.1
