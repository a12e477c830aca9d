"""Edits made by hooks do to a model what they do to its weights written out, and leave it as it was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from maze_dla.adapters.transformer_lens import hooked_edits
from maze_dla.adapters.transformer_lens.hooked import HookedModel
from maze_dla.engine.edits import EDITABLE, Edit
from maze_dla.engine.forward.running import BatchLimits
from maze_dla.engine.model import MicroBatch
from maze_dla.engine.sites import FINAL_RESIDUAL, LOGITS, Activations, Site
from maze_dla.errors import InputError, ModelError
from tests.engine.small_models import HOOKED, MODERN, hooked_view, make_batch, make_model, micro_batches, shared_model

from .plain_forward import PlainForward, Puts

MODELS: dict[str, dict[str, Any]] = {"plain": {}, "modern": MODERN, "attention alone": {"attn_only": True}}
if HOOKED:
    MODELS["parallel"] = {"parallel_attn_mlp": True}


def has(model: str, name: str) -> bool:
    without = {"attention alone": ("resid_mid", "mlp_out", "neurons"), "parallel": ("resid_mid",)}
    return name not in without.get(model, ())


CASES = [(model, name) for model in MODELS for name in EDITABLE if has(model, name)]


def hooked(model: str) -> HookedModel:
    forward = hooked_view(shared_model(**MODELS[model])).forward
    assert isinstance(forward, HookedModel)
    return forward


def micro() -> MicroBatch:
    """Seven sequences of other lengths, read at their ends."""
    return micro_batches(make_batch(), 100)[0]


def shape_of(forward: HookedModel, site: Site, width: int) -> list[int]:
    """What stands at one position."""
    shape, cfg = forward.weights.shape, forward.model.cfg
    n_kv = cfg.n_key_value_heads or cfg.n_heads
    heads = {"q": shape.n_heads, "z": shape.n_heads, "k": n_kv, "v": n_kv}
    whole = {name: [n, shape.d_head] for name, n in heads.items()}
    whole |= {"neurons": [shape.d_mlp], "pattern": [shape.n_heads, width]}
    sizes = whole.get(site.name, [shape.d_model])
    return sizes if site.head is None else sizes[1:]


def random_edit(
    forward: HookedModel, site: Site, branches: Sequence[int], positions: Sequence[int], seed: int = 0
) -> Edit:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(len(branches), *shape_of(forward, site, 6), generator=generator)
    if site.name == "pattern":  # attention is causal
        values = torch.stack([v.where(torch.arange(6) <= at, 0.0) for v, at in zip(values, positions, strict=True)])
    return Edit(site, torch.tensor(branches), torch.tensor(positions), values)


def puts_of(edits: Sequence[Edit], branch: int) -> Puts:
    puts: Puts = {}
    for edit in edits:
        for i in torch.nonzero(edit.branches == branch).flatten().tolist():
            entry = int(edit.positions[i]), edit.site.head, edit.values[i]
            puts.setdefault((edit.site.name, edit.site.layer or 0), []).append(entry)
    return puts


def same_as_plain(forward: HookedModel, taken: MicroBatch, prompts: Sequence[int], edits: Sequence[Edit]) -> None:
    """All that is recorded of every branch against the forward pass that is written out."""
    names = [name for name in EDITABLE if name in hooked_view(forward.model).sites]
    sites = [*(Site(name, layer) for name in names for layer in range(2)), FINAL_RESIDUAL, LOGITS]
    with torch.no_grad():
        _, rerun = forward.editable(taken, [LOGITS], [edit.site for edit in edits])
        found = rerun(torch.tensor(prompts), edits, sites)
    plain = PlainForward(forward.model)
    for branch, prompt in enumerate(prompts):
        at = int(taken.positions[prompt])
        expected = plain(taken.tokens[taken.rows[prompt], : at + 1].tolist(), puts_of(edits, branch), at)
        for site in sites:
            value = expected[{"final_residual": "final"}.get(site.name, site.name), site.layer or 0]
            value = value if site == LOGITS else value[:, at] if site.name == "pattern" else value[at]
            seen = found[site][branch]
            seen = seen[..., : at + 1] if site.name == "pattern" else seen
            apart = float((seen.double() - value).abs().max())
            assert apart <= 1e-5 * max(1.0, float(value.abs().max())), (
                f"{site} of branch {branch} is off by {apart:.1e}"
            )


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize(("model", "name"), CASES)
def test_an_edit_is_what_the_weights_make_of_it(model: str, name: str, layer: int) -> None:
    """Several branches of prompts of other lengths, at read positions and in front of them, one with two entries."""
    forward, taken = hooked(model), micro()
    prompts = [0, 3, 3, 6, 1]
    reads = taken.positions[prompts].tolist()
    edit = random_edit(forward, Site(name, layer), [0, 1, 2, 3, 3], [reads[0], 2, reads[2], 1, reads[3]])
    same_as_plain(forward, taken, prompts, [edit])


@pytest.mark.parametrize(
    ("model", "name"), [case for case in CASES if case[1] in ("q", "k", "v", "z", "pattern", "neurons")]
)
def test_an_edit_of_one_head_or_neuron(model: str, name: str) -> None:
    forward, taken = hooked(model), micro()
    reads = taken.positions[:2].tolist()
    edits = [random_edit(forward, Site(name, 0, head), [0, 1], [3, reads[1]], seed=head) for head in (0, 1)]
    same_as_plain(forward, taken, [0, 1], edits)


@pytest.mark.parametrize("model", MODELS)
def test_edits_of_every_site_in_one_branch(model: str) -> None:
    """Also of one site at one position after another: later ones win over what they are made of."""
    forward, taken = hooked(model), micro()
    sites = [Site(name, layer) for name in EDITABLE for layer in range(2) if has(model, name)]
    edits = [random_edit(forward, site, [1, 1], [i % 4, 3], seed=i) for i, site in enumerate(sites)]
    same_as_plain(forward, taken, [2, 2, 4], edits)


@pytest.mark.parametrize("model", MODELS)
def test_what_was_there_changes_nothing_and_all_of_a_depth_gives_the_other_run(model: str) -> None:
    forward, taken = hooked(model), micro()
    batch = make_batch((40,) * 2, seed=5)
    taken = micro_batches(batch, 100)[0]
    whole = [Site(name, 1, position="all") for name in EDITABLE if has(model, name)]
    with torch.no_grad():
        found, rerun = forward.editable(taken, [LOGITS, *whole], [Site(site.name, 1) for site in whole])
        everywhere = torch.zeros(40).long(), torch.arange(40)
        for site in whole:
            there = found[site].transpose(1, 2) if site.name == "pattern" else found[site]
            own = rerun(torch.tensor([0]), [Edit(Site(site.name, 1), *everywhere, there[0])], [LOGITS])[LOGITS][0]
            torch.testing.assert_close(own, found[LOGITS][0], atol=1e-5, rtol=1e-5)
            other = rerun(torch.tensor([0]), [Edit(Site(site.name, 1), *everywhere, there[1])], [LOGITS])[LOGITS][0]
            assert float((other - found[LOGITS][0]).abs().max()) > 1e-2
            cuts = ("resid_pre", "resid_mid")
            assert torch.allclose(other, found[LOGITS][1], atol=1e-5) == (site.name in cuts)


def test_a_branch_changes_no_other_and_pieces_give_the_numbers_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    forward, taken = hooked("modern"), micro()
    prompts = torch.tensor([0, 1, 2, 3, 4, 5, 6, 6])
    edit = random_edit(forward, Site("z", 0), [2, 6], [4, 3])
    sites = [Site("pattern", 1), LOGITS]
    with torch.no_grad():
        found, rerun = forward.editable(taken, sites, [edit.site])
        seen = rerun(prompts, [edit], sites)
        torch.testing.assert_close(
            seen[LOGITS][[0, 1, 3, 4, 5, 7]], found[LOGITS][[0, 1, 3, 4, 5, 6]], atol=1e-5, rtol=1e-5
        )
        assert bool(((seen[LOGITS] - found[LOGITS][prompts])[[2, 6]].abs().amax(-1) > 1e-3).all())
        ran: list[list[int]] = []
        monkeypatch.setattr(hooked_edits, "batch_limits", lambda *_: BatchLimits(1, 80))
        counted = replace(rerun, run=lambda m, s, e: ran.append(list(m.tokens.shape)) or forward._with_edits(m, s, e))
        pieces = counted(prompts, [edit], sites)
    assert seen[sites[0]].shape == found[sites[0]][prompts].shape
    for site in sites:
        torch.testing.assert_close(pieces[site], seen[site], atol=1e-5, rtol=1e-5)
    assert sum(rows for rows, _ in ran) == len(prompts)
    assert len(ran) > 2
    assert all(rows * width <= 80 for rows, width in ran)
    assert ran == sorted(ran, key=lambda piece: -piece[1])


def state_of(model: Any) -> dict[str, Any]:
    hooks = {name: len(point.fwd_hooks) + len(point.bwd_hooks) for name, point in model.hook_dict.items()}
    modes = {name: part.training for name, part in model.named_modules()}
    inside = {name: (len(p._forward_hooks), len(p._forward_pre_hooks)) for name, p in model.named_modules()}
    grads = [p.grad is None for p in model.parameters()]
    return {"hooks": hooks, "modes": modes, "inside": inside, "grads": grads, "grad": torch.is_grad_enabled()}


def test_the_model_is_left_as_found_also_by_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    model, taken = make_model(), micro()
    forward = hooked_view(model).forward
    forward(taken, [LOGITS])  # bridges put up hooks of their own in their first run
    before, weights = state_of(model), {name: w.clone() for name, w in model.state_dict().items()}
    edit = Edit(Site("z", 1), torch.tensor([0]), torch.tensor([2]), torch.zeros(1, 3, 8))
    _, rerun = forward.editable(taken, [LOGITS], [edit.site])
    rerun(torch.tensor([0]), [edit], [LOGITS])
    forward.gradients(taken, [Site("z", 1, position="all")], torch.ones(7, 24))
    assert state_of(model) == before
    with pytest.raises(
        InputError, match=r"an edit of z of layer 1 has values of shape \[1, 3, 5\], expected \[1, 3, 8\]"
    ):
        rerun(torch.tensor([0]), [replace(edit, values=torch.zeros(1, 3, 5))], [LOGITS])

    def broken(*_: Any) -> Tensor:
        raise RuntimeError("broken on the way")

    monkeypatch.setattr(type(model.blocks[1].mlp), "forward", broken)
    with pytest.raises(ModelError, match="broken on the way"):
        rerun(torch.tensor([0]), [edit], [LOGITS])
    with pytest.raises(ModelError, match="broken on the way"):
        forward.gradients(taken, [Site("z", 1, position="all")], torch.ones(7, 24))
    monkeypatch.undo()
    assert state_of(model) == before
    assert all(torch.equal(w, weights[name]) for name, w in model.state_dict().items())


@pytest.mark.parametrize(
    ("model", "site", "message"),
    [
        (
            "plain",
            Site("resid_pre", 2),
            "the model has no resid_pre of layer 2; it has resid_pre, resid_mid, .* 0 to 1",
        ),
        ("plain", Site("z"), "the model has no z"),
        ("plain", Site("embed"), "embed cannot be edited, expected one of resid_pre, "),
        ("plain", Site("z", 0, 3), "no z of layer 0, head 3"),
        ("modern", Site("k", 0, 2), "no k of layer 0, head 2"),
        ("plain", Site("neurons", 1, 40), "no neurons of layer 1, head 40"),
        ("attention alone", Site("mlp_out", 0), "the model has no mlp_out of layer 0"),
        ("attention alone", Site("resid_mid", 0), "the model has no resid_mid of layer 0"),
        *([("parallel", Site("resid_mid", 0), "the model has no resid_mid of layer 0")] if HOOKED else []),
    ],
)
def test_sites_that_are_not_there_are_named(model: str, site: Site, message: str) -> None:
    forward, taken = hooked(model), micro()
    with pytest.raises(ModelError, match=message):
        forward.editable(taken, [LOGITS], [site])
    _, rerun = forward.editable(taken, [LOGITS], [])
    with pytest.raises(ModelError, match=message):
        rerun(torch.tensor([0]), [Edit(site, torch.tensor([0]), torch.tensor([0]), torch.zeros(1, 24))], [LOGITS])
    with pytest.raises(ModelError, match=message):
        forward.gradients(taken, [replace(site, position="all")], torch.ones(7, 24))


@pytest.mark.parametrize("name", EDITABLE)
def test_a_hook_that_the_model_does_not_go_on_with_is_found_by_the_effect(name: str) -> None:
    """The model itself, but for one kind of edit, of which nothing comes; the others are as they were."""
    forward, taken = hooked("plain"), micro()

    class Deaf(HookedModel):
        def _with_edits(self, micro: MicroBatch, sites: Sequence[Site], edits: Sequence[Edit]) -> Activations:
            return super()._with_edits(micro, sites, [edit for edit in edits if edit.site.name != name])

    deaf = Deaf(forward.model, forward.weights, "deaf")
    with torch.no_grad(), pytest.raises(ModelError, match=f"deaf: {name} of layer 1 cannot be edited"):
        deaf.editable(taken, [LOGITS], [Site(name, 1)])
    spared = next(other for other in ("neurons", "z") if other != name)
    with torch.no_grad():
        deaf.editable(taken, [LOGITS], [Site(spared, 1)])


def test_weights_that_are_no_numbers_are_not_taken_for_a_site_that_cannot_be_edited() -> None:
    model, batch = make_model(), make_batch((5, 7))
    with torch.no_grad():
        next(model.parameters()).fill_(torch.nan)
    forward = hooked_view(model).forward
    with pytest.raises(ModelError, match="has numbers that are not finite, so no edit can be tried"):
        forward.editable(micro_batches(batch, 8)[0], [LOGITS], [Site("resid_pre", 0, position="all")])


def test_a_pattern_pays_nothing_to_later_keys() -> None:
    forward, taken = hooked("plain"), micro()
    edit = random_edit(forward, Site("pattern", 0, 1), [0], [3])
    later = replace(edit, values=edit.values.where(torch.arange(6) <= 3, 5.0))
    _, rerun = forward.editable(taken, [LOGITS], [edit.site])
    causal, seen, none = (rerun(torch.tensor([2]), edits, [LOGITS])[LOGITS] for edits in ([edit], [later], []))
    assert torch.equal(causal, seen)
    assert not torch.allclose(causal, none, atol=1e-3)


def test_entries_that_are_not_there_are_named() -> None:
    forward, taken = hooked("plain"), micro()
    edit = random_edit(forward, Site("attn_out", 0), [0, 1], [0, 1])
    _, rerun = forward.editable(taken, [LOGITS], [edit.site])
    two = torch.tensor([0, 1])
    with pytest.raises(InputError, match="an edit of attn_out of layer 0 is at branch 0 to 2, expected 0 to 1"):
        rerun(two, [replace(edit, branches=torch.tensor([0, 2]))], [LOGITS])
    with pytest.raises(InputError, match="is at position -1 to 1, expected 0 to 39"):
        rerun(two, [replace(edit, positions=torch.tensor([-1, 1]))], [LOGITS])
    with pytest.raises(InputError, match="read positions alone, asked for all positions of z of layer 0"):
        rerun(two, [edit], [Site("z", 0, position="all")])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_goes_on_with_values_in_its_own_dtype(dtype: torch.dtype) -> None:
    forward: Any = hooked_view(make_model(dtype, **MODERN)).forward
    taken = micro()
    with torch.no_grad():
        for name in EDITABLE:
            edit = random_edit(forward, Site(name, 1), [0], [int(taken.positions[0])])
            found, rerun = forward.editable(taken, [LOGITS], [edit.site])
            seen = rerun(torch.tensor([0]), [edit], [LOGITS, FINAL_RESIDUAL])
            assert seen[FINAL_RESIDUAL].dtype == dtype
            assert not torch.equal(seen[LOGITS][0], found[LOGITS][0])
