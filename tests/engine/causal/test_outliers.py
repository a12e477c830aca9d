"""Zeroed MLP activations against one hooked forward pass of the model itself a position, on every kind of MLP."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

import maze_dla as dla
from maze_dla.analysis import as_residual_model
from maze_dla.engine.prompts import PromptBatch
from maze_dla.engine.sites import LOGITS, LOSSES, Site
from maze_dla.errors import CompletenessError, InputError, ModelError
from maze_dla.results.outliers import MlpOutliersResult
from tests.engine.small_models import (
    HOOKED,
    MODERN,
    SIZES,
    hooked_view,
    inner,
    make_batch,
    make_model,
    micro_batches,
    new_hooked_transformer,
    random_metric,
    random_tokens,
    with_weights,
)

MIDS = ("blocks.{}.mlp.hook_mid", "blocks.{}.mlp.ln.hook_in", "blocks.{}.mlp.hook_post")  # the first that is there
LENGTHS = (6, 37, 11)
LAYERS = range(2)


@cache
def model_of(kind: str) -> Any:
    """A random model; of `solu_ln` by the class that can hold one, where native bridges know no norm inside the MLP."""
    settings = {"solu_ln": {"act_fn": "solu_ln"}, "plain": {}, "gated": MODERN}[kind]
    try:
        return make_model(**settings)
    except ValueError:
        model = new_hooked_transformer({"normalization_type": "LN", **SIZES, **settings}, torch.float32)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.add_(0.3 * torch.randn(tensor.shape, generator=generator))
    return model


@cache
def found(kind: str, forward: Any = "auto") -> MlpOutliersResult:
    return dla.mlp_outliers(model_of(kind), make_batch(LENGTHS), forward=forward)


def mid_of(model: Any) -> str:
    return next(name for name in MIDS if name.format(0) in model.hook_dict)


def own_loss(model: Any, tokens: Tensor, hooks: Any = ()) -> float:
    """The model's own mean loss of the next tokens of one prompt."""
    with torch.no_grad():
        logits = model.run_with_hooks(tokens[None], fwd_hooks=list(hooks), return_type="logits")
    return float(torch.nn.functional.cross_entropy(logits[0, :-1].double(), tokens[1:]))


def zeroed(position: int) -> Callable[..., Tensor]:
    def hook(activation: Tensor, hook: Any) -> Tensor:
        changed = activation.clone()
        changed[:, position] = 0
        return changed

    return hook


def one_by_one(model: Any, tokens: Tensor) -> Tensor:
    """The loss increases of one prompt, [layer, position], one hooked forward pass each."""
    plain, name = own_loss(model, tokens), mid_of(model)
    rows = [[own_loss(model, tokens, [(name.format(i), zeroed(p))]) for p in range(len(tokens))] for i in LAYERS]
    return torch.tensor(rows) - plain


def tokens_of(batch: PromptBatch, prompt: int) -> Tensor:
    return batch.sequences[batch.sequence_of[prompt], : int(batch.lengths[prompt])]


@pytest.mark.parametrize("kind", ["solu_ln", "plain", "gated"])
def test_against_one_hooked_forward_a_position(kind: str) -> None:
    batch, result = make_batch(LENGTHS), found(kind)
    for prompt, n in enumerate(LENGTHS):
        tokens = tokens_of(batch, prompt)
        expected = one_by_one(model_of(kind), tokens)
        assert expected.abs().max() > 0.01  # the edits do something
        torch.testing.assert_close(result.loss_increase[prompt, :, :n], expected.double(), rtol=0, atol=1e-5)
        assert float(result.loss[prompt]) == pytest.approx(own_loss(model_of(kind), tokens), abs=1e-5)
        assert result.loss_increase[prompt, :, n - 1].eq(0).all()
        assert result.loss_increase[prompt, :, n:].isnan().all()


@pytest.mark.parametrize("kind", ["solu_ln", "plain"])
def test_the_wavefront_and_hooks_agree(kind: str) -> None:
    own, hooked = found(kind), found(kind, "hooked")
    for name in ("loss", "loss_increase", "outlier", "outlier_after", "norm"):
        torch.testing.assert_close(getattr(own, name), getattr(hooked, name), rtol=1e-4, atol=1e-5, equal_nan=True)
    view = as_residual_model(model_of(kind))
    assert type(view.forward).__name__ == "VerifiedModel"  # else both would be hooks


@pytest.mark.parametrize("kind", ["solu_ln", "plain"])
def test_outlier_scores_are_those_of_the_models_own_activations(kind: str) -> None:
    model, batch, result = model_of(kind), make_batch(LENGTHS), found(kind)
    assert result.normed == (kind == "solu_ln")
    names = {"outlier": mid_of(model), "outlier_after": MIDS[2]}
    for prompt, n in enumerate(LENGTHS):
        with torch.no_grad():
            _, cache = model.run_with_cache(tokens_of(batch, prompt)[None])
        for name, hook in names.items():
            own = torch.stack([cache[hook.format(i)][0] for i in LAYERS])
            expected = own.amax(-1) - own.mean(-1)
            seen = getattr(result, name)[prompt, :, :n]
            torch.testing.assert_close(seen, expected.double(), rtol=1e-4, atol=1e-5)
        own = torch.stack([cache[mid_of(model).format(i)][0] for i in LAYERS])
        assert (result.norm[prompt, :, :n] - own.norm(dim=-1)).abs().max() < 1e-4
    ratio = result.ratio[~result.ratio.isnan()]
    assert bool((ratio - 1).abs().max() > 0.1) == result.normed


def test_other_methods_run_a_norm_inside_the_mlp_as_hooks_do() -> None:
    """The engine's own pass with that norm, plain and edited."""
    model, batch = model_of("solu_ln"), make_batch(LENGTHS)
    metric = random_metric(batch)
    for ask in (
        lambda forward: dla.attribute(model, batch, metric, neurons=True, forward=forward).neurons,
        lambda forward: dla.ablate(model, batch, metric, parts=["L0N3", "0_mlp_out"], forward=forward).total,
    ):
        own, hooked = ask("auto"), ask("hooked")
        assert own.abs().max() > 1e-2
        torch.testing.assert_close(own, hooked, rtol=1e-3, atol=1e-4)


def test_prompts_of_one_sequence_have_their_own_losses() -> None:
    """A prompt that is the beginning of another is as it is alone, with the mean over its own tokens."""
    long = random_tokens((20,))[0]
    together = PromptBatch.from_tokens([long, long[:8], long[:8]], [1, 2, 3], d_vocab=23)
    alone = PromptBatch.from_tokens([long[:8]], [2], d_vocab=23)
    one, two = dla.mlp_outliers(model_of("plain"), together), dla.mlp_outliers(model_of("plain"), alone)
    for prompt in (1, 2):
        assert (one.loss_increase[prompt, :, :8] - two.loss_increase[0]).abs().max() < 1e-6
        assert one.loss_increase[prompt, :, 8:].isnan().all()
    assert (one.loss_increase[0, :, :8] - two.loss_increase[0]).abs().max() > 1e-3


def test_layers_pieces_and_batches_change_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    from maze_dla.engine.causal import outliers

    whole, batch = found("solu_ln"), make_batch(LENGTHS)
    monkeypatch.setattr(outliers, "MOST_NUMBERS", 7 * 40)  # seven branches at once
    some = dla.mlp_outliers(model_of("solu_ln"), batch, layers=[1], sequences_at_once=1)
    assert some.layers == (1,)
    for name in ("loss_increase", "outlier", "outlier_after", "norm"):
        value, expected = getattr(some, name), getattr(whole, name)[:, 1:]
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6, equal_nan=True)


@pytest.fixture
def dead() -> Any:
    """A ReLU model whose MLPs of layer 0 hold nothing but zeros."""
    model = make_model(act_fn="relu")
    bias = model.blocks[0].mlp.b_in if HOOKED else inner(inner(model.blocks[0].mlp).fc_in).bias
    with torch.no_grad():
        bias.sub_(1000.0)
    return model


def test_what_is_zero_already_changes_nothing(dead: Any) -> None:
    result = dla.mlp_outliers(dead, make_batch((7, 5)))
    assert result.loss_increase[0, 0].eq(0).all()
    assert result.score[0, 0].eq(0).all()  # and not 0 times infinity
    assert result.inverse_outlier[0, 0].isinf().all()
    assert result.loss_increase[0, 1, :-1].ne(0).any()
    assert {row.layer for row in result.top(99)} == {1} == {row.layer for row in result.control}


@pytest.mark.parametrize("forward", ["auto", "hooked"])
def test_losses_of_a_plain_run(forward: Any) -> None:
    model, batch = model_of("plain"), make_batch(LENGTHS)
    (micro,) = micro_batches(batch, 3)
    losses = as_residual_model(model, forward).forward(micro, [LOSSES, LOGITS])[LOSSES].detach()
    assert losses[:, -1].isnan().all()
    for row, prompt in enumerate(micro.prompts.tolist()):
        n = LENGTHS[prompt]
        own = losses[micro.rows[row], : n - 1].double().mean()
        assert float(own) == pytest.approx(own_loss(model, tokens_of(batch, prompt)), abs=1e-5)


def test_losses_of_branches_come_by_themselves() -> None:
    view, (micro,) = as_residual_model(model_of("plain")), micro_batches(make_batch(LENGTHS), 3)
    _, rerun = view.forward.editable(micro, [LOSSES, LOGITS], [Site("neurons", 0, position="all")])
    with pytest.raises(InputError, match="losses of branches are recorded by themselves, got 2 sites"):
        rerun(torch.tensor([0]), [], [LOSSES, LOGITS])


def test_what_is_refused() -> None:
    model, batch = model_of("plain"), make_batch((3, 1, 4))
    with pytest.raises(InputError, match="prompt 1 has a single token: the loss is of the next tokens in the prompt"):
        dla.mlp_outliers(model, batch)
    for layers in ([], [0, 0]):
        with pytest.raises(InputError, match=r"layers are different layers from 0 to 1, got \["):
            dla.mlp_outliers(model, make_batch((3,)), layers)
    with pytest.raises(InputError, match="a layer is at most 1, got 2"):
        dla.mlp_outliers(model, make_batch((3,)), [2])
    with pytest.raises(ModelError, match="the model has no neurons"):
        dla.mlp_outliers(make_model(attn_only=True), make_batch((3,)))
    view = hooked_view(model_of("solu_ln"))
    with pytest.raises(ModelError, match="a norm inside the MLP and does not show what stands before it"):
        dla.mlp_outliers(replace(view, sites=view.sites - {"mlp_mid"}), make_batch((3,)))


def test_other_weights_than_the_models_are_noticed() -> None:
    """Losses of the hooked run are made of its final residual, so a wrong unembedding must not pass."""
    model = model_of("plain")
    W_U = as_residual_model(model, "hooked").weights.W_U
    with pytest.raises(CompletenessError, match="the model's logits = those of the final residual"):
        dla.mlp_outliers(with_weights(model, W_U=W_U * 1.01), make_batch((5,)))
