"""Activations are what plain hooks of the model see, at every site and at any positions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

import maze_dla as dla
from maze_dla.engine.activations import SITES
from maze_dla.errors import InputError, ModelError
from maze_dla.results.activations import ActivationResult

from .small_models import make_batch, make_model, shared_model

LENGTHS = (9, 5, 12, 7)
N_LAYERS = 2
HOOKS = {
    "resid_pre": "hook_resid_pre",
    "resid_mid": "hook_resid_mid",
    "resid_post": "hook_resid_post",
    "attn_out": "hook_attn_out",
    "mlp_out": "hook_mlp_out",
    "z": "attn.hook_z",
    "neurons": "mlp.hook_post",
}
PLACES: dict[str, Any] = {
    "read": "read",
    "all": "all",
    "the same in every prompt": [-1, 0, 3],
    "one of each": torch.tensor([0, 4, 6, -2]),
}


def at(places: Any, i: int) -> list[int]:
    """The positions of a prompt, from 0, by hand."""
    n = LENGTHS[i]
    if isinstance(places, str):
        return [n - 1] if places == "read" else list(range(n))
    return [int(p) % n for p in (places if isinstance(places, list) else [places[i]])]


def by_hooks(model: Any, tokens: list[int], names: list[str]) -> dict[str, Tensor]:
    """Activations that TransformerLens's own hooks see, of one prompt that is run alone."""
    seen: dict[str, Tensor] = {}

    def keeper(name: str) -> Any:
        def keep(value: Tensor, hook: Any) -> None:
            seen[name] = value[0].detach().clone()

        return keep

    with torch.no_grad():
        model.run_with_hooks(torch.tensor([tokens]), fwd_hooks=[(name, keeper(name)) for name in names])
    return seen


@pytest.fixture(scope="module")
def expected() -> list[dict[str, Tensor]]:
    batch, model = make_batch(LENGTHS), shared_model()
    names = [f"blocks.{i}.{hook}" for i in range(N_LAYERS) for hook in HOOKS.values()]
    return [by_hooks(model, batch.tokens[i, :n].tolist(), names) for i, n in enumerate(LENGTHS)]


@pytest.mark.parametrize("forward", ["auto", "hooked"])
@pytest.mark.parametrize("places", PLACES)
@pytest.mark.parametrize("site", HOOKS)
def test_they_are_what_plain_hooks_see(site: str, places: str, forward: Any, expected: list[dict[str, Tensor]]) -> None:
    """Prompts that are run alone, without padding."""
    found = dla.activations(
        shared_model(), make_batch(LENGTHS), site=site, positions=PLACES[places], forward=forward, sequences_at_once=3
    )
    several = places in ("all", "the same in every prompt")
    assert found.axes == ("layer", *(["head"] if site == "z" else []), *(["position"] if several else []), "feature")
    for i, seen in enumerate(expected):
        rows = at(PLACES[places], i)
        assert found.positions[i, : len(rows)].tolist() == rows
        whole = torch.stack([seen[f"blocks.{layer}.{HOOKS[site]}"][rows] for layer in range(N_LAYERS)])
        whole = whole.movedim(1, -2)  # [layer, (head), position, feature]
        own = found.values[i]
        if several:
            assert own[..., len(rows) :, :].isnan().all()
            own = own[..., : len(rows), :]
        else:
            whole = whole.squeeze(-2)
        assert own.shape == whole.shape
        assert float((own - whole).abs().max()) <= 1e-5 * max(1.0, float(whole.abs().max()))


def test_that_comparison_sees_another_layer(expected: list[dict[str, Tensor]]) -> None:
    found = dla.activations(shared_model(), make_batch(LENGTHS), site="z")
    assert not torch.allclose(found.values[0, 0], expected[0]["blocks.1.attn.hook_z"][-1], atol=1e-2)


def test_the_stream_at_every_depth() -> None:
    batch, model = make_batch(LENGTHS), shared_model()
    whole = dla.activations(model, batch, site="resid")
    assert whole.layer_labels == ("0_pre", "0_mid", "1_pre", "1_mid", "final_post")
    assert torch.equal(whole.layer("0_mid"), dla.activations(model, batch, site="resid_mid").values[:, 0])
    after = dla.activations(model, batch, site="resid_post")
    assert after.layer_labels == ("0_post", "1_post")
    assert torch.equal(whole.layer("final_post"), after.layer("1_post"))
    assert torch.equal(whole.layer("1_pre"), after.layer("0_post"))
    assert dla.activations(model, batch, site="resid", layers=[0]).layer_labels == ("0_pre", "0_mid")


def test_chosen_layers_in_their_order() -> None:
    batch, model = make_batch(LENGTHS), shared_model()
    both = dla.activations(model, batch, site="mlp_out")
    turned = dla.activations(model, batch, site="mlp_out", layers=[1, 0])
    assert turned.layer_labels == ("1_mlp_out", "0_mlp_out")
    assert torch.equal(turned.values, both.values.flip(1))
    assert torch.equal(dla.activations(model, batch, site="mlp_out", layers=1).values, both.values[:, 1:])


def test_positions_of_any_kind() -> None:
    batch, model = make_batch(LENGTHS), shared_model()
    each = dla.activations(model, batch, positions=PLACES["one of each"]).values
    for given in (np.array([0, 4, 6, -2]), pd.Series([0, 4, 6, -2])):
        assert torch.equal(dla.activations(model, batch, positions=given).values, each)
    one = dla.activations(model, batch, positions=-3)
    assert torch.equal(one.values, dla.activations(model, batch, positions=[-3]).values[:, :, 0])
    assert one.axes == ("layer", "feature")


def test_prompts_are_described_as_in_other_results() -> None:
    """Also where the read position itself is not recorded."""
    batch, model = make_batch(LENGTHS), shared_model()
    other = dla.token_lens(model, batch)
    for positions in ("read", "all", [0, 1]):
        found = dla.activations(model, batch, positions=positions)
        torch.testing.assert_close(found.metric, other.metric)
        assert found.predicted == other.predicted
        assert found.correct is not None
        assert torch.equal(found.correct, other.correct)
        assert found.table.drop(columns="metric").equals(other.table.drop(columns="metric"))


def test_sequences_that_prompts_share() -> None:
    """Prompts that are prefixes of one sequence have the activations that they have alone."""
    from .test_two_engines import prefixes

    batch, model = prefixes(), shared_model()
    whole = dla.activations(model, batch, site="neurons", positions="all")
    for i in (0, 4, 7):
        alone = dla.activations(model, batch.select([i]), site="neurons", positions="all")
        torch.testing.assert_close(whole.select([i]).values, alone.values, equal_nan=True, rtol=1e-5, atol=1e-5)


def test_half_precision_comes_as_float32() -> None:
    found = dla.activations(make_model(torch.bfloat16), make_batch((5, 4)))
    assert found.values.dtype == torch.float32
    assert found.to_numpy().dtype == np.float32


def test_too_much_is_refused_before_anything_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from maze_dla.engine import activations as module

    batch, model = make_batch(LENGTHS), shared_model()
    size = 4 * 40 * N_LAYERS * len(LENGTHS) / (1 << 30)
    dla.activations(model, batch, site="neurons", limit_gib=size)
    monkeypatch.setattr(module, "run", lambda *_, **__: pytest.fail("it was run"))
    message = r"4 prompts at 1 position each, 80 numbers a position, take .* GiB, and limit_gib is .*: choose fewer lay"
    with pytest.raises(InputError, match=message):
        dla.activations(model, batch, site="neurons", limit_gib=0.99 * size)
    with pytest.raises(InputError, match="4 prompts at 12 positions each"):
        dla.activations(model, batch, site="neurons", positions="all", limit_gib=size)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a site": ({"site": "q"}, f"site is one of {', '.join(SITES)}, got 'q'"),
    "a layer": ({"layers": [2]}, "a layer is at most 1, got 2"),
    "layers twice": ({"layers": [1, 1]}, r"one or more different numbers from 0 to 1, got \[1, 1\]"),
    "no layers": ({"layers": []}, "one or more different numbers"),
    "a word": ({"positions": "last"}, "positions is 'read', 'all', a list of positions, or an array .* got 'last'"),
    "a position that is not there": ({"positions": [0, 6]}, r"prompt 1 has 5 tokens, so no position 0, 6 \(1 of 4"),
    "one of each that is not there": ({"positions": torch.tensor([0, -6, 0, 0])}, "prompt 1 has 5 tokens, so no p"),
    "positions twice": ({"positions": [3, -2]}, "positions are different from each other"),
    "too few": ({"positions": torch.tensor([0, 1])}, r"whole numbers \[4\], got torch.int64 of shape \(2,\)"),
    "a limit": ({"limit_gib": "2"}, "limit_gib is a number, got str"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_there_is_refused(what: str) -> None:
    options, message = REFUSED[what]
    with pytest.raises(InputError, match=message):
        dla.activations(shared_model(), make_batch(LENGTHS), **options)


def test_a_site_that_the_model_lacks() -> None:
    with pytest.raises(ModelError, match="the model has no neurons, it has "):
        dla.activations(shared_model(attn_only=True), make_batch(LENGTHS), site="neurons")


def test_streams_say_what_to_use_instead() -> None:
    batch = make_batch(LENGTHS)
    found: list[ActivationResult] = [dla.activations(shared_model(), batch)]
    with pytest.raises(InputError, match="got an ActivationResult: write_activations writes"):
        dla.stream(lambda _: found[0], [batch])
