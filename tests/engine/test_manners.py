"""The world is left as it was found, after success and after an error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from maze_dla.analysis import attribute, logit_lens, token_lens
from maze_dla.engine.forward.running import run
from maze_dla.engine.metrics import logit
from maze_dla.engine.sites import LOGITS
from maze_dla.errors import CompletenessError
from tests.engine.small_models import hooked_view

from .small_models import inner, make_batch, random_metric, with_block
from .small_models import make_model as fresh_model

METHODS: dict[str, Callable[..., Any]] = {
    "attribute": lambda m, b: attribute(m, b, random_metric(b), neurons=True, sources=True, sequences_at_once=2),
    "logit_lens": lambda m, b: logit_lens(m, b, random_metric(b), sequences_at_once=2),
    "token_lens": lambda m, b: token_lens(m, b, positions="all", sequences_at_once=2),
}


def make_model() -> Any:
    """A model that has run once: TransformerLens leaves hooks of its own on the norms at its first forward pass."""
    model = fresh_model()
    model(torch.tensor([[1, 2, 3]]))
    return model


def hooks_on(model: Any) -> int:
    """Every hook that any part of the model carries, TransformerLens' own included."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "fwd_hooks", "bwd_hooks")
    return sum(len(getattr(part, kind, ()) or ()) for part in model.modules() for kind in kinds)


def state_of(model: Any) -> dict[str, Any]:
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {
        "hooks": hooks_on(model),
        "training": [part.training for part in model.modules()],
        "bytes": {name: t.detach().contiguous().numpy().tobytes() for name, t in tensors.items()},
        "gradients": {name: (t.requires_grad, t.grad is None) for name, t in tensors.items()},
        "grad": torch.is_grad_enabled(),
        "random": torch.get_rng_state().tolist(),
    }


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("name", METHODS)
def test_success_leaves_no_trace(name: str, grad: bool, capfd: pytest.CaptureFixture[str]) -> None:
    model, batch = make_model(), make_batch()
    before = batch.sequences.clone()
    with torch.set_grad_enabled(grad):
        state = state_of(model)
        result = METHODS[name](model, batch)
        assert state_of(model) == state
    assert torch.equal(batch.sequences, before)
    assert not any(value.requires_grad for value in vars(result).values() if isinstance(value, torch.Tensor))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("grad", [True, False])
def test_an_error_leaves_no_trace(grad: bool, capfd: pytest.CaptureFixture[str]) -> None:
    model, batch = make_model(), make_batch()
    state = state_of(model)
    with torch.set_grad_enabled(grad), pytest.raises(CompletenessError):
        attribute(with_block(model, 1, b_O=None), batch, random_metric(batch))
    assert state_of(model) == state
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", METHODS)
def test_an_error_inside_the_forward_pass_leaves_no_trace(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = make_model(), make_batch()
    state = state_of(model)

    def fail(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(inner(model.blocks[1].attn), "forward", fail)
        with pytest.raises(KeyboardInterrupt):
            METHODS[name](model, batch)
    assert state_of(model) == state


@pytest.mark.parametrize("grad", [True, False])
def test_gradients_are_off_for_the_run_alone(grad: bool) -> None:
    view, batch = hooked_view(make_model()), make_batch()
    seen = []

    def measure(micro: Any, found: Any) -> dict[str, torch.Tensor]:
        seen.append((torch.is_grad_enabled(), found[LOGITS].requires_grad))
        return {"prompts": micro.prompts}

    with torch.set_grad_enabled(grad):
        run(view, batch, [LOGITS], measure, what="test", sequences_at_once=2)
        assert torch.is_grad_enabled() == grad
    assert seen == [(False, False)] * 4


def test_the_state_would_show_a_trace() -> None:
    """The state that the tests above compare does change when something is left behind."""
    model = make_model()
    state = state_of(model)
    handle = inner(model.blocks[0].attn).register_forward_hook(lambda *_: None)
    assert state_of(model)["hooks"] == state["hooks"] + 1
    handle.remove()
    with torch.no_grad():
        next(model.parameters())[0, 0].add_(1e-6)
    assert state_of(model)["bytes"] != state["bytes"]
    with torch.random.fork_rng(devices=[]):
        torch.rand(1)
        assert state_of(model)["random"] != state["random"]


def test_no_weight_is_ever_turned_into_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """TransformerLens asks each hook for its repr; one that shows its tensors costs more than the forward pass."""

    def shown(self: torch.Tensor) -> str:
        raise AssertionError("a tensor was printed")

    model, batch = make_model(), make_batch()
    monkeypatch.setattr(torch.Tensor, "__repr__", shown)
    for method in METHODS.values():
        method(model, batch)
    repr(hooked_view(model))
    with pytest.raises(AssertionError, match="a tensor was printed"):
        repr(model.W_U)


def test_the_engine_takes_its_own_view_and_nothing_else() -> None:
    from maze_dla.errors import ModelError

    model, batch = make_model(), make_batch()
    view = hooked_view(model)
    assert hooked_view(view) is view
    heads = attribute(model, batch, logit(batch), forward="hooked").heads
    assert torch.equal(attribute(view, batch, logit(batch)).heads, heads)
    with pytest.raises(ModelError, match=r"expected a TransformerLens model .*, got Linear"):
        attribute(torch.nn.Linear(2, 2), batch, logit(batch))
