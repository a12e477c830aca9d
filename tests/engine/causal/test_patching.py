"""Activation patching against one hooked forward pass for each site, and the identities that it obeys."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import maze_dla as dla
from maze_dla.engine.causal import cells, patching
from maze_dla.engine.edits import EDITABLE, OF_HEADS, STREAM
from maze_dla.engine.metrics import correct_vs_other, logit_diff
from maze_dla.engine.pairs import PromptPairs
from maze_dla.errors import InputError, ModelError
from maze_dla.results.patching import PatchResult
from tests.engine.pairs_of_tokens import random_pairs
from tests.engine.small_models import MODERN, make_batch, random_metric, shared_model
from tests.engine.test_two_engines import prefixes

from .one_at_a_time import Put, coefficients_of, counted, prompt, run

DIRECTIONS = ("denoise", "noise")
NEURONS = ["L0N3", (1, 7), (1, 0)]


def model_of(**settings: Any) -> Any:
    return shared_model(torch.float64, **settings)


@pytest.fixture(scope="module")
def model() -> Any:
    return model_of()


@pytest.fixture(scope="module")
def pairs() -> PromptPairs:
    return random_pairs((5, 12, 9), changed=4)


def given(site: str) -> dict[str, Any]:
    return {"site": site, "neurons": NEURONS} if site == "neurons" else {"site": site}


def patched_by_hooks(model: Any, pairs: PromptPairs, found: PatchResult, together: str) -> Tensor:
    """`found.values`, one forward pass for each number; NaN beyond a prompt."""
    coefficients = coefficients_of(logit_diff(pairs))
    into, source = pairs.corrupted, pairs.clean
    if found.direction == "noise":
        into, source = source, into
    values = torch.full(found.values.shape, torch.nan, dtype=torch.float64)
    for i in range(len(pairs)):
        last = int(pairs.clean.lengths[i]) - 1
        names = ["resid_pre", "attn_out", found.site]
        held = run(model, prompt(source, i), names=names)
        for index in torch.ones(values.shape[1:]).nonzero().tolist():
            layer, head = index[0], index[1] if "head" in found.axes else None
            if found.neurons:
                layer, head = (int(part) for part in found.neurons[index[0]].removeprefix("L").split("N"))
            positions = {"each": index[-1:], "all": range(last + 1), "read": [last]}[together]
            if positions[-1] > last:
                continue
            of_site = held[found.site, layer]
            at = [of_site[p] if head is None else of_site[p, head] for p in positions]
            puts = [Put(found.site, layer, p, value, head) for p, value in zip(positions, at, strict=True)]
            edited = run(model, prompt(into, i), puts, names=())
            values[(i, *index)] = edited["logits", 0] @ coefficients[i]
    return values


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("site", EDITABLE)
def test_each_position_is_one_hooked_pass(model: Any, site: str, direction: Any) -> None:
    pairs = random_pairs((5, 7), changed=3)
    found = dla.patch(model, pairs, direction=direction, positions="each", **given(site))
    axes = ("neuron", "position") if site == "neurons" else ("layer", *(["head"] * (site in OF_HEADS)), "position")
    assert found.axes == axes
    torch.testing.assert_close(found.values, patched_by_hooks(model, pairs, found, "each"), equal_nan=True)
    before = torch.arange(7) < (pairs.clean.lengths - 3)[:, None]
    before = before.view(2, *[1] * (found.values.ndim - 2), 7).expand_as(found.values)
    assert not found.change[before].any()
    assert found.change[~before & ~found.values.isnan()].abs().max() > 1e-3
    beyond = torch.arange(7) >= pairs.clean.lengths[:, None]
    assert torch.equal(found.values.isnan(), beyond.view(2, *[1] * (found.values.ndim - 2), 7).expand_as(found.values))


@pytest.mark.parametrize("together", ["all", "read"])
@pytest.mark.parametrize("site", EDITABLE)
def test_positions_together_are_one_hooked_pass(model: Any, pairs: PromptPairs, site: str, together: Any) -> None:
    for direction in DIRECTIONS:
        found = dla.patch(model, pairs, direction=direction, positions=together, **given(site))
        assert "position" not in found.axes
        torch.testing.assert_close(found.values, patched_by_hooks(model, pairs, found, together))
    assert found.change.abs().max() > 1e-3


def test_the_runs_are_those_of_attribute(model: Any, pairs: PromptPairs) -> None:
    metric = replace(logit_diff(pairs), made_for=None, compared_with=None)
    clean, corrupted = (dla.attribute(model, batch, metric).metric for batch in (pairs.clean, pairs.corrupted))
    for direction, own in (("denoise", corrupted), ("noise", clean)):
        found = dla.patch(model, pairs, direction=direction)  # pyright: ignore[reportArgumentType]
        torch.testing.assert_close(found.clean, clean)
        torch.testing.assert_close(found.corrupted, corrupted)
        assert torch.equal(found.metric, found.corrupted if direction == "denoise" else found.clean)
        torch.testing.assert_close(found.metric, own)
        assert found.info["run"] == ("corrupted" if direction == "denoise" else "clean")


@pytest.mark.parametrize("forward", ["auto", "hooked"])
@pytest.mark.parametrize("site", EDITABLE)
def test_clean_into_clean_changes_nothing_and_runs_nothing(model: Any, site: str, forward: Any) -> None:
    clean = random_pairs((5, 12, 9)).clean
    for positions in ("each", "all", "read"):
        view, counting = counted(model, forward)
        same = PromptPairs(clean, clean)
        found = dla.patch(view, same, correct_vs_other(clean), positions=positions, **given(site))  # pyright: ignore
        assert counting.branches == 0
        assert len(counting.plain) == 1
        assert not found.change.nan_to_num().any()
        assert torch.equal(found.clean, found.corrupted)


def test_what_runs_is_what_differs(model: Any, pairs: PromptPairs) -> None:
    """From the first token that differs on, in every layer: 4 positions of each prompt; one of them in layer 0."""
    view, counting = counted(model)
    dla.patch(view, pairs, site="resid_pre")
    assert counting.branches == 3 * (1 + 4)
    view, counting = counted(model)
    dla.patch(view, pairs, site="z")
    assert counting.branches == 3 * 2 * 3


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("forward", ["auto", "hooked"])
def test_everything_at_a_depth_is_the_other_run(model: Any, direction: Any, forward: Any) -> None:
    pairs = random_pairs()
    for site in ("resid_pre", "resid_mid"):
        found = dla.patch(model, pairs, site=site, direction=direction, positions="all", forward=forward)
        other = found.clean if direction == "denoise" else found.corrupted
        torch.testing.assert_close(found.values, other[:, None].expand_as(found.values))
        assert (found.clean - found.corrupted).abs().min() > 1e-3
    part = dla.patch(model, pairs, site="attn_out", direction=direction, positions="all", forward=forward)
    assert not torch.allclose(part.values, other[:, None].expand_as(part.values), atol=1e-2)


def test_directions_are_not_the_same(model: Any, pairs: PromptPairs) -> None:
    there, back = (dla.patch(model, pairs, site="z", direction=direction) for direction in DIRECTIONS)
    assert not torch.allclose(there.change, -back.change, atol=1e-2)
    swapped = dla.patch(model, pairs.swapped(), replace(logit_diff(pairs), made_for=None, compared_with=None), site="z")
    torch.testing.assert_close(back.values, swapped.values)


SETTINGS: dict[str, dict[str, Any]] = {
    "LN": {},
    "RMS": {"normalization_type": "RMS"},
    "attention only": {"attn_only": True, "normalization_type": None},
}


@pytest.mark.parametrize(("kind", "direction"), [("LN", "denoise"), ("RMS", "noise"), ("attention only", "denoise")])
def test_own_pass_and_hooks_agree(kind: str, direction: Any) -> None:
    model, pairs = shared_model(**SETTINGS[kind]), random_pairs((9, 5, 9), changed=3)
    for site in EDITABLE:
        if kind == "attention only" and site in ("resid_mid", "mlp_out", "neurons"):
            continue
        for positions in ("each", "all", "read"):
            options: Any = {"direction": direction, "positions": positions, **given(site)}
            own, hooked = (dla.patch(model, pairs, **options, forward=engine) for engine in ("auto", "hooked"))
            torch.testing.assert_close(own.values, hooked.values, rtol=1e-5, atol=1e-5, equal_nan=True)
            for name in ("clean", "corrupted", "metric"):
                torch.testing.assert_close(getattr(own, name), getattr(hooked, name), rtol=1e-5, atol=1e-5)
            assert own.predicted == hooked.predicted


def test_a_model_that_its_own_hooks_run(pairs: PromptPairs) -> None:
    """Rotary, gated and grouped: keys and values are those of two heads, which four share."""
    model = shared_model(torch.float64, **MODERN)
    for site in ("resid_pre", "attn_out", "q", "v", "pattern", "z"):
        found = dla.patch(model, pairs, site=site, positions="all")
        if site == "v":
            assert found.values.shape == (3, 2, 2)
            continue
        expected = patched_by_hooks(model, pairs, found, "all")
        torch.testing.assert_close(found.values, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("positions", ["each", "all"])
def test_neither_pieces_nor_neighbours_change_a_number(
    model: Any, positions: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = random_pairs()
    order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(1))
    for site in ("resid_pre", "pattern"):
        whole = dla.patch(model, pairs, site=site, positions=positions)
        alone = dla.patch(model, pairs, site=site, positions=positions, sequences_at_once=2)
        torch.testing.assert_close(alone.values, whole.values, equal_nan=True, rtol=1e-9, atol=1e-9)
        mixed = dla.patch(model, pairs.select(order), site=site, positions=positions)
        torch.testing.assert_close(mixed.values, whole.values[order], equal_nan=True, rtol=1e-9, atol=1e-9)
        monkeypatch.setattr(patching, "MOST_NUMBERS", 30)
        pieces = dla.patch(model, pairs, site=site, positions=positions)
        torch.testing.assert_close(pieces.values, whole.values, equal_nan=True, rtol=1e-9, atol=1e-9)
        monkeypatch.undo()


def test_prompts_that_share_sequences_are_patched_by_themselves(model: Any) -> None:
    """Several read positions of one sequence: each has the numbers that it has alone."""
    clean = prefixes()
    tokens = clean.sequences.clone()
    tokens[:, 3] = (tokens[:, 3] + 1) % clean.d_vocab
    corrupted = replace(clean, sequences=tokens, targets=(clean.targets + 1) % clean.d_vocab, answers=None)
    pairs = PromptPairs(clean, corrupted)
    for site in ("resid_pre", "z"):
        found = dla.patch(model, pairs, site=site)
        for i in range(len(pairs)):
            alone = dla.patch(model, pairs.select([i]), site=site)
            values = found.values[i] if site == "z" else found.values[i][:, : alone.values.shape[-1]]
            torch.testing.assert_close(alone.values[0], values)
    assert not found.change[clean.lengths <= 3].any()  # in front of the change both prompts are one
    assert found.change[clean.lengths > 3].any()


def test_pairs_without_answers_need_a_metric_or_incorrect_tokens(model: Any) -> None:
    pairs = random_pairs((5, 9))
    with_foils = replace(pairs.clean, incorrect=(pairs.clean.targets + 1) % pairs.clean.d_vocab, foils=None)
    third = PromptPairs(
        with_foils, replace(pairs.corrupted, targets=pairs.clean.targets, answers=None), unanswered="a third name"
    )
    by_default = dla.patch(model, third)
    given_one = dla.patch(model, third, logit_diff(third.clean))
    assert torch.equal(by_default.values.nan_to_num(), given_one.values.nan_to_num())
    other = dla.patch(model, third, random_metric(third.clean))
    assert not torch.allclose(other.metric, by_default.metric)
    with pytest.raises(InputError, match="names no incorrect tokens"):
        dla.patch(model, PromptPairs(pairs.clean, pairs.corrupted, unanswered="a third name"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"site": "resid_post"}, "site is one of resid_pre, .* got 'resid_post'"),
        ({"direction": "both"}, "direction is 'denoise' or 'noise', got 'both'"),
        ({"estimate": "linear"}, "estimate is 'exact' or 'gradient', got 'linear'"),
        ({"positions": "last"}, "positions is 'each', 'all' or 'read', got 'last'"),
        ({"site": "neurons"}, r"needs neurons=\[\(layer, number\), ...\]"),
        ({"site": "neurons", "neurons": []}, r"needs neurons=\[\(layer, number\), ...\]"),
        ({"site": "neurons", "neurons": [(0, 3), "L0N3"]}, "neurons has L0N3 twice, expected once"),
        ({"site": "neurons", "neurons": [(0, 40)]}, "40"),
        ({"site": "neurons", "neurons": [(2, 0)]}, "2"),
        ({"site": "z", "neurons": [(0, 3)]}, "neurons are given for the site 'neurons', the site is 'z'"),
        ({"seed": -1, "estimate": "gradient"}, "seed"),
        ({"sequences_at_once": 0}, "sequences_at_once"),
    ],
)
def test_what_cannot_be_patched(model: Any, pairs: PromptPairs, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        dla.patch(model, pairs, **options)


def test_metrics_and_pairs_that_do_not_fit(model: Any, pairs: PromptPairs) -> None:
    others = random_pairs((5, 12, 9), seed=1)
    with pytest.raises(InputError):
        dla.patch(model, pairs, logit_diff(others))
    with pytest.raises(InputError):
        dla.patch(model, pairs, logit_diff(random_pairs((5, 12))))
    wrong: Any = pairs.clean
    with pytest.raises(InputError, match="PromptPairs"):
        dla.patch(model, wrong)
    with pytest.raises(InputError, match="LinearMetric"):
        dla.patch(model, pairs, wrong)


@pytest.mark.parametrize("forward", ["auto", "hooked"])
@pytest.mark.parametrize("site", ["resid_mid", "mlp_out", "neurons"])
def test_a_site_that_a_model_lacks_is_named(pairs: PromptPairs, site: str, forward: Any) -> None:
    model = shared_model(attn_only=True)
    with pytest.raises(ModelError, match=f"the model has no {site}, it has resid_pre, attn_out, q, k, v, pattern, z"):
        dla.patch(model, pairs, forward=forward, **given(site))


def test_entries_come_in_chunks_that_lose_none() -> None:
    differing = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(0)) < 0.5
    for together in ("each", "all"):
        for most in (1, 3, 7, 1000):
            seen: list[Any] = []
            for entries, branches in cells.entries_in_chunks(differing, together, most):
                seen += entries.tolist()
                assert branches.tolist() == sorted(branches.tolist())
                of_branch = {}
                for entry, branch in zip(entries.tolist(), branches.tolist(), strict=True):
                    of_branch.setdefault(branch, []).append(entry)
                assert sorted(of_branch) == list(range(len(of_branch)))
                for held in of_branch.values():
                    assert len({tuple(entry[:2]) for entry in held}) == 1
                    if together == "all":  # a unit's positions are never torn apart
                        assert len(held) == int(differing[tuple(held[0][:2])].sum())
                    else:
                        assert len(held) == 1
            assert sorted(seen) == differing.nonzero().tolist()


def test_stream_sites_are_by_position_and_others_together(model: Any, pairs: PromptPairs) -> None:
    for site in EDITABLE:
        found = dla.patch(model, pairs, **given(site))
        assert found.by_position == (site in STREAM)
        assert found.lengths.tolist() == [5, 12, 9]
    assert found.neurons == ("L0N3", "L1N7", "L1N0")


def test_kinds_of_tokens_come_along(model: Any, pairs: PromptPairs) -> None:
    found = dla.patch(model, pairs)
    assert found.token_kinds is not None
    assert found.token_kinds[0].tolist() == [0, 1, 0, 1, 0, *[-1] * 7]
    assert dla.patch(model, PromptPairs(make_batch((5,)), make_batch((5,), seed=9))).token_kinds is None
