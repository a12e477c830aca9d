"""A soft cap on the logits: attribution reads in front of it, distributions are those after it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from maze_dla.analysis import attribute, logit_lens, token_lens
from maze_dla.engine.metrics import correct_vs_other
from maze_dla.errors import ModelError
from tests.engine.small_models import with_weights

from .small_models import make_batch, make_model

CAP = 2.0


def capped_model(cap: float = CAP) -> Any:
    """A model whose cap bites; some classes of models know no cap of their own, and get one from outside."""
    model = make_model()
    model.cfg.output_logits_soft_cap = cap
    return model


def own_logits(model: Any, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.tensor([ids]))[0, -1]


def caps(model: Any) -> bool:
    return float(own_logits(model, [1, 2, 3]).abs().max()) <= CAP


@pytest.fixture
def model() -> Any:
    model = capped_model()
    if not caps(model):
        pytest.skip("this class of models does not apply output_logits_soft_cap")
    return model


def test_contributions_sum_to_the_logits_in_front_of_the_cap(model: Any) -> None:
    batch = make_batch()
    metric = correct_vs_other(batch)
    plain, result = attribute(make_model(), batch, metric), attribute(model, batch, metric)
    torch.testing.assert_close(result.metric, plain.metric, rtol=0, atol=1e-4)
    torch.testing.assert_close(result.heads, plain.heads, rtol=0, atol=1e-5)
    assert result.info["logits"] == "before the soft cap of 2"
    assert torch.equal(logit_lens(model, batch, metric).correct, plain.correct)


def test_distributions_are_those_behind_the_cap(model: Any) -> None:
    batch = make_batch()
    tokens = token_lens(model, batch, k=3)
    for p, n in enumerate(batch.lengths.tolist()):
        expected = own_logits(model, batch.tokens[p, :n].tolist()).softmax(-1).topk(3)
        torch.testing.assert_close(tokens.top_probs[p, -1], expected.values, rtol=0, atol=1e-5)
    assert tokens.kl[:, -1].abs().max() < 1e-5
    assert (token_lens(make_model(), batch, k=3).top_probs - tokens.top_probs).abs().max() > 0.01


def test_a_cap_that_the_model_does_not_apply_is_found_out() -> None:
    view = with_weights(make_model(), logit_cap=0.5)
    with pytest.raises(ModelError, match=r"not those of its last layer behind a soft cap of 0\.5$"):
        attribute(view, make_batch(), correct_vs_other(make_batch()))
