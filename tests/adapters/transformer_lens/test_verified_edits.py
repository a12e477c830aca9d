"""Which pass makes edits: the engine's own where it agrees with the model and has the sites, else the model's hooks."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from maze_dla.adapters.transformer_lens import verified as verified_module
from maze_dla.adapters.transformer_lens.hooked import HookedModel
from maze_dla.adapters.transformer_lens.hooked_edits import HookedRerun
from maze_dla.adapters.transformer_lens.verified import VerifiedModel
from maze_dla.analysis import as_residual_model
from maze_dla.engine.forward.decoder import PreNormDecoder
from maze_dla.engine.model import MicroBatch
from maze_dla.engine.sites import FINAL_RESIDUAL, LOGITS, Activations, Site
from maze_dla.errors import ModelError
from tests.engine.small_models import make_batch, make_model, micro_batches, shared_model

ASKED = [FINAL_RESIDUAL]
EDITED = [Site("z", 0), Site("q", 1), Site("resid_mid", 0), Site("neurons", 1, 3)]


def own_rerun(*_: Any) -> Activations:
    """Stands for the own pass's."""
    return {}


def verified(model: Any) -> VerifiedModel:
    forward = as_residual_model(model).forward
    assert isinstance(forward, VerifiedModel)
    return forward


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[list[Site]]:
    """What the own pass was asked for, which runs plainly."""
    asked: list[list[Site]] = []

    def editable(decoder: PreNormDecoder, micro: MicroBatch, sites: Sequence[Site], edited: Collection[Site]) -> Any:
        asked.append(list(sites))
        return decoder(micro, sites), own_rerun

    monkeypatch.setattr(verified_module, "editable", editable)
    return asked


def micro() -> MicroBatch:
    return micro_batches(make_batch(), 100)[0]


@torch.no_grad()
def test_the_own_pass_is_compared_once_and_makes_the_edits(calls: list[list[Site]]) -> None:
    forward = verified(shared_model())
    found, rerun = forward.editable(micro(), ASKED, EDITED)
    assert rerun is own_rerun
    assert list(found) == ASKED
    assert forward.agrees == [True]
    forward.editable(micro(), ASKED, EDITED)
    assert calls == [[*ASKED, LOGITS], ASKED]


@torch.no_grad()
def test_after_disagreement_the_model_itself_is_edited(calls: list[list[Site]]) -> None:
    forward = verified(make_model())
    lying = replace(forward, decoder=replace(forward.decoder, attn_scale=1.0))
    with pytest.warns(UserWarning, match="the model itself is run instead"):
        found, rerun = lying.editable(micro(), ASKED, EDITED)
    assert isinstance(rerun, HookedRerun)
    assert lying.agrees == [False]
    torch.testing.assert_close(found[FINAL_RESIDUAL], forward.hooked(micro(), ASKED)[FINAL_RESIDUAL])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert isinstance(lying.editable(micro(), ASKED, EDITED)[1], HookedRerun)
    assert len(calls) == 1


@torch.no_grad()
def test_sites_that_the_own_pass_does_not_record_are_left_to_the_model(calls: list[list[Site]]) -> None:
    forward = verified(shared_model())
    asked = [Site("pattern", 0, position="all"), Site("q", 0)]
    found, rerun = forward.editable(micro(), asked, EDITED)
    assert isinstance(rerun, HookedRerun)
    assert [list(found[site].shape) for site in asked] == [[7, 3, 40, 40], [7, 3, 8]]
    with pytest.raises(ModelError, match="the model has no mlp_out of layer 0"):
        verified(shared_model(attn_only=True)).editable(micro(), ASKED, [Site("mlp_out", 0)])
    assert not calls


def test_gradients_are_the_models_own(monkeypatch: pytest.MonkeyPatch) -> None:
    forward, taken = verified(shared_model()), micro()
    sites, direction = [Site("attn_out", 0, position="all")], torch.ones(7, 24)
    expected = forward.hooked.gradients(taken, sites, direction)
    seen = forward.gradients(taken, sites, direction)
    assert all(torch.equal(a[sites[0]], b[sites[0]]) for a, b in zip(seen, expected, strict=True))
    asked: list[Any] = []
    monkeypatch.setattr(HookedModel, "gradients", lambda *given: asked.append(given[1:]))
    forward.gradients(taken, sites, direction)
    assert asked == [(taken, sites, direction)]
