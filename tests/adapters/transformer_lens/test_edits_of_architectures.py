"""Edits by hooks of bridges to Hugging Face, against PyTorch's own hooks on Hugging Face's modules."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import pytest
import torch
from torch import Tensor

from maze_dla.engine.edits import Edit
from maze_dla.engine.model import MicroBatch
from maze_dla.engine.sites import LOGITS, Site
from maze_dla.errors import ModelError
from tests.engine.small_models import hooked_view

pytest.importorskip(
    "transformer_lens.model_bridge.sources", reason="this version of TransformerLens has no bridges to Hugging Face"
)

from .hugging_face_models import ARCHITECTURES, random_model
from .test_architectures import bridge, check_the_model_itself

IDS = [7, 7, 20, 33, 41, 5, 6, 58, 12]
READ = len(IDS) - 1
ONE = MicroBatch(torch.tensor([IDS]), torch.tensor([0]), torch.tensor([0]), torch.tensor([READ]))
INTO, OUT_OF = True, False
# by site: whose module, and which end of it
PLACES = {"z": ("attn", INTO), "attn_out": ("attn", OUT_OF), "neurons": ("mlp", INTO), "mlp_out": ("mlp", OUT_OF)}


def logits_by_torch(hf: Any, module: str, into: bool, entries: list[tuple[int, Tensor]]) -> Tensor:
    """The last logits with values put in front of a module or behind it."""

    def changed(x: Tensor) -> Tensor:
        x = x.clone()
        for position, value in entries:
            x.view(len(IDS), -1)[position] = value.double().flatten()
        return x

    part = hf.double().get_submodule(module)
    if into:
        handle = part.register_forward_pre_hook(lambda _, given: (changed(given[0]), *given[1:]))
    else:
        handle = part.register_forward_hook(lambda _, given, out: changed(out))
    with torch.no_grad():
        logits = hf(torch.tensor([IDS])).logits[0, -1]
    handle.remove()
    return logits


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_edits_are_those_of_torchs_hooks(name: str) -> None:
    check_the_model_itself(name)
    architecture = ARCHITECTURES[name]
    forward: Any = hooked_view(bridge(architecture)).forward
    generator, hf = torch.Generator().manual_seed(1), random_model(architecture)
    for site in (Site(place, layer) for place in PLACES for layer in range(2)):
        whole = Site(site.name, site.layer, position="all")
        with torch.no_grad():
            found, rerun = forward.editable(ONE, [LOGITS, whole], [site])
            values = torch.randn(found[whole][0, :2].shape, generator=generator)
            edit = Edit(site, torch.tensor([1, 1]), torch.tensor([2, READ]), values)
            seen = rerun(torch.tensor([0, 0]), [edit], [LOGITS])[LOGITS]
        part, into = PLACES[site.name]
        module = getattr(architecture, part).format(site.layer)
        expected = logits_by_torch(hf, module, into, [(2, values[0]), (READ, values[1])])
        torch.testing.assert_close(seen[0], found[LOGITS][0], rtol=0, atol=2e-5)
        size = max(1.0, float(expected.abs().max()))
        torch.testing.assert_close(seen[1].double(), expected, rtol=0, atol=2e-5 * size)
        assert float((seen[1] - seen[0]).abs().max()) > 1e-3


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_site_goes_on_or_is_missing_and_gradients_are_small_steps(name: str) -> None:
    """In parallel blocks no stream lies between attention and MLP."""
    forward: Any = hooked_view(bridge(ARCHITECTURES[name])).forward
    names = ["resid_pre", "resid_mid", "attn_out", "mlp_out", "q", "k", "v", "pattern", "z", "neurons"]
    if "parallel" in name or name.startswith("Falcon"):
        names.remove("resid_mid")
        with pytest.raises(ModelError, match="the model has no resid_mid of layer 1"):
            forward.editable(ONE, [], [Site("resid_mid", 1)])
    sites = [Site(each, layer, position="all") for each in names for layer in range(2)]
    generator = torch.Generator().manual_seed(2)
    norm, d_model = forward.weights.final_norm, forward.weights.shape.d_model
    direction = torch.randn(1, d_model, generator=generator)
    if name.startswith("Granite") and int(version("transformer_lens").split(".")[0]) < 4:
        with pytest.raises(ModelError, match="there is no gradient of attn_out of layer 0: the model does not go on"):
            forward.gradients(ONE, sites, direction)  # where values are equal, it goes on with its own
        return
    found, gradients = forward.gradients(ONE, sites, direction)
    with torch.no_grad():
        _, rerun = forward.editable(ONE, [], [Site(site.name, site.layer) for site in sites])
        edits, expected = [], []
        for i, site in enumerate(sites):
            value, gradient = (
                x[site].transpose(1, 2) if site.name == "pattern" else x[site] for x in (found, gradients)
            )
            step = 1e-2 * gradient[0, READ] / gradient[0, READ].norm().clamp_min(1e-6)
            values = torch.stack([value[0, READ] + step, value[0, READ] - step])
            edits.append(
                Edit(Site(site.name, site.layer), torch.tensor([2 * i, 2 * i + 1]), torch.tensor([READ] * 2), values)
            )
            expected.append(float((gradient[0, READ] * step).sum()))
        final = rerun(torch.zeros(2 * len(sites)).long(), edits, [Site("final_residual")])[Site("final_residual")]
        metric = norm.apply(final, norm.scale(final)) @ direction[0]
    seen = (metric[0::2] - metric[1::2]) / 2
    torch.testing.assert_close(seen, torch.tensor(expected), rtol=2e-2, atol=2e-4)


def test_patterns_that_are_not_shown_cannot_be_edited_and_the_rest_can() -> None:
    model = bridge(ARCHITECTURES["OPT"])
    model.original_model.set_attn_implementation("sdpa")
    forward: Any = hooked_view(model).forward
    with torch.no_grad():
        with pytest.raises(ModelError, match=r"layer 1 did not show attn\.hook_pattern"):
            forward.editable(ONE, [], [Site("pattern", 1)])
        forward.editable(ONE, [], [Site(name, 1) for name in ("q", "k", "v", "z")])
