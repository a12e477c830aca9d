"""Gradients of a metric at sites, against finite differences of the weights written out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from maze_dla.adapters.transformer_lens.hooked import HookedModel
from maze_dla.engine.edits import EDITABLE
from maze_dla.engine.sites import Site
from maze_dla.errors import InputError, ModelError
from tests.engine.small_models import HOOKED, MODERN, hooked_view, make_batch, make_model, micro_batches, random_metric

from .plain_forward import PlainForward

MODELS: dict[str, dict[str, Any]] = {"plain": {}, "modern": MODERN, "attention alone": {"attn_only": True}}
if HOOKED:
    MODELS["parallel"] = {"parallel_attn_mlp": True}
STEP = 1e-5


def all_sites(forward: HookedModel) -> list[Site]:
    names = [name for name in EDITABLE if name in hooked_view(forward.model).sites]
    return [Site(name, layer, position="all") for name in names for layer in range(2)]


def at(activation: Tensor, site: Site, position: int) -> Tensor:
    """What stands at one position."""
    return activation[:, position] if site.name == "pattern" else activation[position]


@pytest.mark.parametrize("model", MODELS)
def test_gradients_are_those_of_finite_differences(model: str) -> None:
    forward: Any = hooked_view(make_model(torch.float64, **MODELS[model])).forward
    batch = make_batch((7, 12, 9))
    [taken] = micro_batches(batch, 10)
    direction = random_metric(batch).select(taken.prompts).direction(forward.weights.W_U)
    sites = all_sites(forward)
    found, gradients = forward.gradients(taken, sites, direction)
    plain, generator = PlainForward(forward.model), torch.Generator().manual_seed(3)
    for prompt, read in enumerate(taken.positions.tolist()):
        ids = taken.tokens[taken.rows[prompt], : read + 1].tolist()
        whole = plain(ids)
        for site, position in ((site, position) for site in sites for position in (2, read)):
            name = site.name, site.layer or 0
            value = at(whole[name], site, position)
            seen, gradient = (
                at(x[site][taken.rows[prompt]], site, position)[..., : value.shape[-1]] for x in (found, gradients)
            )
            torch.testing.assert_close(seen, value, atol=1e-5, rtol=1e-5)
            step = torch.randn(value.shape, generator=generator, dtype=torch.float64)
            if site.name == "pattern":  # attention is causal
                step = step.where(torch.arange(read + 1) <= position, 0.0)
            moved = [plain(ids, {name: [(position, None, value + h * step)]})["normed", 0] for h in (STEP, -STEP)]
            expected = float((moved[0] - moved[1]) @ direction[prompt].double()) / (2 * STEP)
            assert abs(float((gradient * step).sum()) - expected) < 1e-5 * max(1, abs(expected)), (site, position)


def test_the_scale_has_a_gradient_and_prompts_of_one_sequence_add_up() -> None:
    """Scaling the last stream changes no normed residual, so the gradient has no part along it but for epsilon."""
    forward: Any = hooked_view(make_model(torch.float64, attn_only=True)).forward
    [taken] = micro_batches(make_batch((9,)), 10)
    site = Site("attn_out", 1, position="all")
    direction = torch.randn(1, 24, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    _, gradients = forward.gradients(taken, [site], direction)
    with torch.no_grad():
        final = next(iter(forward(taken, [Site("final_residual")]).values()))[0]
    along = gradients[site][0, 8] @ final
    assert abs(float(along)) < 1e-3 * float(gradients[site][0, 8].norm() * final.norm())
    twice = type(taken)(taken.tokens, torch.arange(2), torch.zeros(2).long(), torch.tensor([8, 8]))
    _, doubled = forward.gradients(twice, [site], torch.cat([direction, 2 * direction]))
    torch.testing.assert_close(doubled[site], 3 * gradients[site])


def test_one_head_is_picked_and_nothing_carries_a_graph() -> None:
    model = make_model(**MODERN)
    forward: Any = hooked_view(model).forward
    batch = make_batch((7, 12))
    [taken] = micro_batches(batch, 10)
    sites = [Site("z", 1, 2, "all"), Site("z", 1, position="all"), Site("v", 0, 1, "all"), Site("pattern", 0, 3, "all")]
    with torch.no_grad():
        found, gradients = forward.gradients(taken, sites, torch.ones(2, 24))
        assert not torch.is_grad_enabled()
    assert gradients[sites[0]].equal(gradients[sites[1]][:, :, 2])
    assert found[sites[0]].equal(found[sites[1]][:, :, 2])
    assert list(gradients[sites[2]].shape) == [2, 12, 8]
    assert list(gradients[sites[3]].shape) == [2, 12, 12]
    assert float(gradients[sites[0]].abs().max()) > 0
    tensors: list[Tensor] = [*found.values(), *gradients.values()]
    assert not any(x.requires_grad for x in tensors)
    assert all(weight.grad is None for weight in model.parameters())


@pytest.mark.parametrize("weights_have_gradients", [True, False])
def test_weights_need_no_gradients(weights_have_gradients: bool) -> None:
    model = make_model().requires_grad_(weights_have_gradients)
    [taken] = micro_batches(make_batch((7, 12)), 10)
    site = Site("mlp_out", 0, position="all")
    _, gradients = hooked_view(model).forward.gradients(taken, [site], torch.arange(48.0).view(2, 24))
    assert float(gradients[site].abs().max()) > 0
    assert all(weight.requires_grad == weights_have_gradients for weight in model.parameters())


def test_what_is_no_gradient_is_refused() -> None:
    forward: Any = hooked_view(make_model()).forward
    [taken] = micro_batches(make_batch((7, 12)), 10)
    with pytest.raises(InputError, match="gradients are those at all positions, asked for the read positions of z of"):
        forward.gradients(taken, [Site("z", 0)], torch.ones(2, 24))
    with pytest.raises(InputError, match=r"the metric's directions have shape \[1, 24\], expected \[2, 24\]"):
        forward.gradients(taken, [Site("z", 0, position="all")], torch.ones(1, 24))
    with pytest.raises(ModelError, match="embed cannot be edited"):
        forward.gradients(taken, [Site("embed", position="all")], torch.ones(2, 24))
