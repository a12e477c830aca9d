"""Interventions leave a model, and torch, as they found them, also where they fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import maze_dla as dla
from maze_dla.engine.causal.reading import MetricAtReads
from maze_dla.engine.metrics import LinearMetric
from maze_dla.engine.pairs import PromptPairs
from tests.engine.pairs_of_tokens import random_pairs
from tests.engine.small_models import make_model

Call = Callable[[Any, PromptPairs, LinearMetric, Any], Any]
CALLS: dict[str, Call] = {
    "patch": lambda m, p, _, f: dla.patch(m, p, site="pattern", forward=f),
    "gradient": lambda m, p, _, f: dla.patch(m, p, site="mlp_out", estimate="gradient", forward=f),
    "ablate": lambda m, p, metric, f: dla.ablate(m, p.clean, metric, parts="layers", positions="all", forward=f),
    "keep_only": lambda m, p, metric, f: dla.keep_only(m, p.clean, metric, ["L0H0"], forward=f),
    "steer": lambda m, p, metric, f: dla.steer(m, p.clean, metric, torch.ones(24), layer=1, forward=f),
}


def fresh() -> Any:
    """A model that has run once: a bridge hangs hooks of its own into itself in its first run."""
    model = make_model()
    model(torch.tensor([[1, 2]]))
    return model


def state(model: Any) -> dict[str, Any]:
    weights = {name: (value.data_ptr(), float(value.double().sum())) for name, value in model.state_dict().items()}
    hooks = [len(point.fwd_hooks) + len(point.bwd_hooks) for point in model.hook_dict.values()]
    torch_hooks = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()]
    return {
        "weights": weights,
        "hooks": hooks,
        "torch's hooks": torch_hooks,
        "gradients": [(p.requires_grad, p.grad is None) for p in model.parameters()],
        "modes": [module.training for module in model.modules()],
        "grad mode": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "random": torch.get_rng_state().sum(),
        "dtype": torch.get_default_dtype(),
    }


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("forward", ["auto", "hooked"])
@pytest.mark.parametrize("name", CALLS)
def test_nothing_is_left_behind(name: str, forward: Any, train: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a success, and after a failure in the middle of the edited runs."""
    model, pairs = fresh().train(train), random_pairs((5, 7))
    metric = dla.correct_vs_other(pairs.clean)
    before = state(model)
    CALLS[name](model, pairs, metric, forward)
    assert state(model) == before
    right = MetricAtReads.__call__

    def failing(self: Any, found: Any, prompts: Any = None) -> Any:
        if prompts is not None:
            raise RuntimeError("in the middle")
        return right(self, found)

    monkeypatch.setattr(MetricAtReads, "__call__", failing)
    if name == "steer":
        monkeypatch.setattr("maze_dla.engine.causal.steering._Steering._edit", failing_edit)
    with pytest.raises(RuntimeError, match="in the middle"):
        CALLS[name](model, pairs, metric, forward)
    assert state(model) == before


def failing_edit(*_: Any) -> Any:
    raise RuntimeError("in the middle")


@pytest.mark.parametrize("name", CALLS)
def test_a_hook_that_fails_leaves_none_behind(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The failure is inside the model's own forward pass, while the hooks of an edit stand."""
    model, pairs = fresh(), random_pairs((5, 7))
    metric = dla.correct_vs_other(pairs.clean)
    before = state(model)
    if name == "gradient":
        monkeypatch.setattr("maze_dla.adapters.transformer_lens.hooked.metric_along", failing_edit)
    else:
        monkeypatch.setattr("maze_dla.adapters.transformer_lens.hooked_edits.with_entries", failing_edit)
    with pytest.raises(Exception, match="in the middle"):
        CALLS[name](model, pairs, metric, "hooked")
    assert state(model) == before
