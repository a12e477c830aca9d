"""Models with random weights keep each weight's numbers, and leave the model as it was."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import maze_dla as dla
from maze_dla.adapters.transformer_lens import random_weights
from maze_dla.adapters.transformer_lens.random_weights import with_random_weights
from maze_dla.errors import InputError, ModelError
from tests.engine.small_models import make_batch, make_model

TOKENS = torch.tensor([[1, 2, 3, 4, 5]])


@pytest.mark.parametrize("how", ["permuted", "normal"])
def test_each_weight_keeps_its_scale(how: Any) -> None:
    model = make_model()
    logits = model(TOKENS)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    copy = with_random_weights(model, 3, how)
    for (name, weight), other in zip(before.items(), copy.parameters(), strict=True):
        assert torch.equal(weight, dict(model.named_parameters())[name])
        assert other.data_ptr() != dict(model.named_parameters())[name].data_ptr()
        if how == "permuted":
            assert torch.equal(weight.flatten().sort().values, other.flatten().sort().values), name
        elif weight.numel() > 200:
            assert float(other.std() / weight.std()) == pytest.approx(1, abs=0.25), name
        if weight.numel() > 8:
            assert not torch.equal(weight, other), name
    assert torch.equal(model(TOKENS), logits)
    assert not torch.allclose(copy(TOKENS), logits, atol=1e-2)
    assert torch.equal(with_random_weights(model, 3, how)(TOKENS), copy(TOKENS))
    assert not torch.equal(with_random_weights(model, 4, how)(TOKENS), copy(TOKENS))


def test_a_copy_can_be_read_as_the_model_can() -> None:
    """Both passes read the copy's own weights."""
    batch, copy = make_batch((7, 5)), with_random_weights(make_model())
    own, hooked = (dla.activations(copy, batch, site="resid", forward=f) for f in ("auto", "hooked"))
    torch.testing.assert_close(own.values, hooked.values, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(own.values, dla.activations(make_model(), batch, site="resid").values, atol=0.1)
    dla.attribute(copy, batch, dla.logit(batch))  # its parts add up


def test_gpt2_too(bundled: Any) -> None:
    before = bundled(TOKENS)
    copy = with_random_weights(bundled)
    assert not torch.allclose(copy(TOKENS), before, atol=1e-2)
    assert torch.equal(bundled(TOKENS), before)
    batch = dla.ioi_prompts(bundled).select([0, 1])
    dla.attribute(copy, batch, dla.logit(batch))


def test_a_copy_that_changes_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random_weights, "_drawn", lambda weight, how, generator: weight)
    with pytest.raises(ModelError, match="gives the same logits: it has no random control"):
        with_random_weights(make_model())


def test_what_is_refused() -> None:
    with pytest.raises(InputError, match="random weights are 'permuted' or 'normal', got 'zero'"):
        with_random_weights(make_model(), how="zero")  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="seed is at least 0, got -1"):
        with_random_weights(make_model(), -1)
    with pytest.raises(InputError, match="a model of TransformerLens, got int"):
        with_random_weights(3)
