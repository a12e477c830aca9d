"""Models whose circuit is known: every method says what is true of it, figure by figure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import maze_dla as dla
from maze_dla.engine.metrics import LinearMetric, logit_diff
from maze_dla.engine.pairs import PromptPairs
from maze_dla.engine.prompts import PromptBatch

from . import planted
from .planted import N_TOKENS, SHORTCUT

CLOSE: dict[str, float] = {"rtol": 0.0, "atol": 1e-9}
Heads = dict[str, float]


@pytest.fixture(params=["auto", "hooked"])
def forward(request: pytest.FixtureRequest) -> Any:
    return request.param


def batch_of(tokens: list[list[int]], targets: list[int], foils: list[int]) -> PromptBatch:
    return PromptBatch.from_tokens(tokens, targets, d_vocab=N_TOKENS, incorrect=foils)


def pairs_of(clean: list[list[int]], corrupted: list[list[int]], answers: list[tuple[int, int]]) -> PromptPairs:
    right, wrong = ([one[i] for one in answers] for i in (0, 1))
    return PromptPairs(batch_of(clean, right, wrong), batch_of(corrupted, wrong, right))


def heads(**values: Any) -> Tensor:
    """[layer, head], or of prompts [prompt, layer, head]; heads that are not named have 0."""
    given = {name: torch.as_tensor(value, dtype=torch.float64) for name, value in values.items()}
    shape = next(iter(given.values())).shape
    found = torch.zeros(*shape, 2, 2, dtype=torch.float64)
    for name, value in given.items():
        found[..., int(name[1]), int(name[3])] = value
    return found


def same(found: Tensor, expected: Any) -> None:
    torch.testing.assert_close(found, torch.as_tensor(expected, dtype=torch.float64).expand_as(found), **CLOSE)


def free(metric: LinearMetric) -> LinearMetric:
    """The same metric for either prompt of a pair."""
    return replace(metric, made_for=None, compared_with=None)


# --- a head that notes the token before feeds an induction head


CLEAN = [[0, 5, 1, 2, 6, 7, 1], [0, 4, 6, 3, 5, 2, 6], [0, 1, 4, 5, 2, 3, 4], [0, 7, 3, 4, 6, 5, 3]]
OTHER = [3, 1, 6, 2]
ANSWERS = [(tokens[3], other) for tokens, other in zip(CLEAN, OTHER, strict=True)]


def with_another(position: int, tokens: list[int]) -> list[list[int]]:
    return [[*row[:position], token, *row[position + 1 :]] for row, token in zip(CLEAN, tokens, strict=True)]


@pytest.fixture(scope="module")
def induction() -> Any:
    return planted.induction()


REPEATED = pairs_of(CLEAN, with_another(3, OTHER), ANSWERS)
"""The token that is to be repeated is another one."""
MATCHED = pairs_of(CLEAN, with_another(2, [4, 7, 7, 1]), ANSWERS)
"""The token before it is another one: there is nothing to be matched, and attention is spread over all."""


def spread(batch: PromptBatch) -> Tensor:
    """The metric where all 7 positions are looked at alike."""
    counts = torch.stack([(batch.tokens == t[:, None]).sum(1) for t in (MATCHED.clean.targets, OTHER_IDS)])
    return 3.0 * (counts[0] - counts[1]).double() / 7


OTHER_IDS = torch.tensor(OTHER)


def test_induction_is_attributed_to_the_head_that_writes(induction: Any, forward: Any) -> None:
    metric = free(logit_diff(REPEATED))
    found = dla.attribute(induction, REPEATED.clean, metric, sources=True, forward=forward)
    same(found.metric, 3.0)
    same(found.heads, heads(L1H0=[3.0] * 4))
    same(found.sources[:, 1, 0], 3.0 * torch.eye(7)[3])
    assert [int(p.argmax()) for p in found.patterns[:, 1, 0]] == [3] * 4
    contrast = dla.contrast(induction, REPEATED, forward=forward)
    same(contrast.dependent.heads, heads(L1H0=[3.0] * 4))
    same(contrast.shared.heads, 0.0)


def test_induction_is_patched_where_the_information_is(induction: Any, forward: Any) -> None:
    """The repeated token is at its place until L1H0 takes it; the match is made by what L0H0 noted there."""
    for direction, moved in (("denoise", 6.0), ("noise", -6.0)):
        options: Any = {"direction": direction, "forward": forward}
        stream = dla.patch(induction, REPEATED, **options)
        same(stream.change, moved * torch.eye(7)[3])
        same(dla.patch(induction, REPEATED, site="attn_out", **options).change[:, 1], moved * torch.eye(7)[6])
        same(dla.patch(induction, REPEATED, site="attn_out", **options).change[:, 0], 0.0)
        for site in ("z", "v"):
            same(dla.patch(induction, REPEATED, site=site, **options).change, heads(L1H0=moved))
        for site in ("q", "k", "pattern"):
            same(dla.patch(induction, REPEATED, site=site, **options).change, 0.0)
    shown = dla.patch(induction, REPEATED, site="z", forward=forward).recovered
    same(shown.mean, heads(L1H0=1.0))


def test_what_the_first_head_feeds_is_the_match(induction: Any, forward: Any) -> None:
    lost = spread(MATCHED.corrupted)
    back = 3.0 - lost
    for direction, moved in (("denoise", back), ("noise", -back)):
        options: Any = {"direction": direction, "forward": forward}
        stream = dla.patch(induction, MATCHED, **options)
        same(stream.metric, lost if direction == "denoise" else 3.0)
        same(stream.change[:, 0], moved[:, None] * torch.eye(7)[2])  # the token before, until L0H0 has noted it
        same(stream.change[:, 1], moved[:, None] * torch.eye(7)[3])  # a place further
        same(dla.patch(induction, MATCHED, site="z", **options).change, heads(L0H0=moved, L1H0=moved))
        for site in ("k", "pattern"):
            same(dla.patch(induction, MATCHED, site=site, **options).change, heads(L1H0=moved))
        for site in ("q",):
            same(dla.patch(induction, MATCHED, site=site, **options).change, 0.0)
        same(dla.patch(induction, MATCHED, site="v", **options).change[:, 0, 0], moved)


def test_ablating_induction(induction: Any, forward: Any) -> None:
    """Attribution sees nothing of L0H0, all of whose effect is indirect, through L1H0 and from earlier positions."""
    metric = free(logit_diff(REPEATED))
    options: Any = {"value": "zero", "forward": forward}
    found = dla.ablate(induction, REPEATED.clean, metric, positions="all", **options)
    lost = spread(REPEATED.clean) - 3.0
    same(found.total, heads(L0H0=lost, L1H0=[-3.0] * 4))
    same(found.direct, heads(L1H0=[-3.0] * 4))
    same(found.indirect, heads(L0H0=lost, L1H0=[0.0] * 4))
    same(found.later_heads[:, 0, 0], heads(L1H0=lost))
    same(found.norm, 0.0)
    assert [(d.name, d.kinds) for d in found.disagreements()] == [("L0H0", ("mostly indirect",))]
    at_read = dla.ablate(induction, REPEATED.clean, metric, **options)
    same(at_read.total, heads(L1H0=[-3.0] * 4))
    kept = dla.keep_only(induction, REPEATED.clean, metric, ["L1H0"], **options)
    same(kept.kept, 3.0)
    same(kept.ablated, 0.0)
    alone = dla.keep_only(induction, REPEATED.clean, metric, ["L1H0"], positions="all", **options)
    same(alone.kept, spread(REPEATED.clean))
    both = dla.keep_only(induction, REPEATED.clean, metric, ["L1H0", "L0H0"], positions="all", **options)
    same(both.kept, 3.0)


def test_induction_attends_to_one_source(induction: Any, forward: Any) -> None:
    metric = free(logit_diff(REPEATED))
    options: Any = {"parts": "source_positions", "heads": ["L1H0"], "forward": forward}
    found = dla.ablate(induction, REPEATED.clean, metric, value="zero", **options)
    same(found.total[:, 0], -3.0 * torch.eye(7)[3])
    same(found.indirect, 0.0)


# --- a head, and a later one that erases it exactly


@pytest.fixture(scope="module")
def eraser() -> Any:
    return planted.eraser()


ERASED = pairs_of(
    [[0, 1, 5, 6], [0, 2, 6, 3], [0, 3, 7, 1], [0, 4, 5, 2]],
    [[0, 2, 5, 6], [0, 3, 6, 3], [0, 5, 7, 1], [0, 6, 5, 2]],
    [(1, 2), (2, 3), (3, 5), (4, 6)],
)
"""What is erased is another one."""
CARRIED = pairs_of(
    [[0, 1, 5, 6], [0, 2, 6, 3], [0, 3, 7, 1]], [[0, 1, 4, 6], [0, 2, 5, 3], [0, 3, 6, 1]], [(5, 4), (6, 5), (7, 6)]
)
"""What is not erased is another one."""


def test_the_eraser_shows_as_cancellation(eraser: Any, forward: Any) -> None:
    found = dla.attribute(eraser, ERASED.clean, free(logit_diff(ERASED)), forward=forward)
    same(found.metric, 0.0)
    same(found.heads, heads(L0H0=[2.0] * 4, L1H0=[-2.0] * 4))
    contrast = dla.contrast(eraser, ERASED, forward=forward)
    same(contrast.dependent.heads, heads(L0H0=[2.0] * 4, L1H0=[-2.0] * 4))
    same(contrast.shared.heads, 0.0)
    same(contrast.dependent.metric, 0.0)
    same(dla.attribute(eraser, CARRIED.clean, free(logit_diff(CARRIED)), forward=forward).heads, heads(L1H1=[1.0] * 3))


def test_patching_sees_that_what_is_erased_is_not_used(eraser: Any, forward: Any) -> None:
    for direction in ("denoise", "noise"):
        options: Any = {"direction": direction, "forward": forward}
        same(dla.patch(eraser, ERASED, **options).change, 0.0)
        sign = 1.0 if direction == "denoise" else -1.0
        same(dla.patch(eraser, ERASED, site="z", **options).change, heads(L0H0=0.0, L1H0=-4.0 * sign))
        carried = dla.patch(eraser, CARRIED, site="z", **options)
        same(carried.change, heads(L0H1=2.0 * sign, L1H1=2.0 * sign))
    shown = dla.patch(eraser, ERASED, site="z", forward=forward).recovered
    assert not shown.known.any()  # both runs have the metric 0: there is no share of nothing


def test_ablating_what_is_erased(eraser: Any, forward: Any) -> None:
    metric = free(logit_diff(ERASED))
    found = dla.ablate(eraser, ERASED.clean, metric, value="zero", forward=forward)
    same(found.direct, heads(L0H0=[-2.0] * 4, L1H0=[2.0] * 4))
    same(found.total, heads(L1H0=[2.0] * 4))
    same(found.indirect, heads(L0H0=[2.0] * 4))
    same(found.later_heads[:, 0, 0], heads(L1H0=[2.0] * 4))
    assert [d.name for d in found.disagreements("repair")] == ["L0H0"]
    kept = dla.keep_only(eraser, ERASED.clean, metric, ["L0H0"], value="zero", forward=forward)
    same(kept.kept, 2.0)
    same(kept.ablated, 0.0)


# --- two redundant heads, of which the second speaks only when the first is silenced


@pytest.fixture(scope="module")
def backup() -> Any:
    return planted.backup()


COPIED = pairs_of(
    [[0, 1, 5, 6], [0, 2, 6, 3], [0, 3, 7, 1], [0, 4, 5, 2]],
    [[0, 2, 5, 6], [0, 3, 6, 3], [0, 5, 7, 1], [0, 6, 5, 2]],
    [(1, 2), (2, 3), (3, 5), (4, 6)],
)


def test_attribution_contrast_and_patching_see_the_first_alone(backup: Any, forward: Any) -> None:
    found = dla.attribute(backup, COPIED.clean, free(logit_diff(COPIED)), forward=forward)
    same(found.heads, heads(L0H0=[2.0] * 4))
    same(dla.contrast(backup, COPIED, forward=forward).dependent.heads, heads(L0H0=[2.0] * 4))
    for direction, moved in (("denoise", 4.0), ("noise", -4.0)):
        options: Any = {"direction": direction, "forward": forward}
        same(dla.patch(backup, COPIED, site="z", **options).change, heads(L0H0=moved))
        same(dla.patch(backup, COPIED, **options).change[:, 0], moved * torch.eye(4)[1])
        same(dla.patch(backup, COPIED, **options).change[:, 1], moved * torch.eye(4)[3])


def test_the_backup_shows_as_repair(backup: Any, forward: Any) -> None:
    """Zero silences the first head, and the second says four fifths of it; its own ablation changes nothing."""
    metric = free(logit_diff(COPIED))
    found = dla.ablate(backup, COPIED.clean, metric, value="zero", forward=forward)
    same(found.direct, heads(L0H0=[-2.0] * 4))
    same(found.indirect, heads(L0H0=[1.6] * 4))
    same(found.total, heads(L0H0=[-0.4] * 4))
    same(found.later_heads[:, 0, 0], heads(L1H0=[1.6] * 4))
    assert [(d.name, d.kinds) for d in found.disagreements()] == [("L0H0", ("repair",))]
    assert [d.name for d in found.disagreements("repair")] == ["L0H0"]
    for parts, expected in ((["L0H0"], 2.0), (["L1H0"], 1.6), (["L0H0", "L1H0"], 2.0), ([], 0.0)):
        kept = dla.keep_only(backup, COPIED.clean, metric, parts, value="zero", forward=forward)
        same(kept.kept, expected)
        same(kept.ablated, 0.0)


@pytest.mark.parametrize("value", ["mean", "resample"])
def test_a_value_that_still_says_that_it_spoke_is_not_repaired(backup: Any, value: Any, forward: Any) -> None:
    """What another prompt's head wrote has the sign in it that the second head waits for."""
    found = dla.ablate(backup, COPIED.clean, free(logit_diff(COPIED)), value=value, forward=forward)
    same(found.indirect, 0.0)
    assert (found.total[:, 0, 0] < -1.0).all()
    assert not found.disagreements()


def test_a_weak_backup_is_not_called_a_repair(forward: Any) -> None:
    found = dla.ablate(planted.backup(gain=0.4), COPIED.clean, free(logit_diff(COPIED)), value="zero", forward=forward)
    same(found.indirect, heads(L0H0=[0.8] * 4))
    assert not found.disagreements("repair")


def test_a_circuit_needs_the_first_head_alone(backup: Any, forward: Any) -> None:
    tokens = [[0, a, b, c] for a in range(1, 5) for b in (5, 6, 7) for c in (1, 2, 3)]
    batch = batch_of(tokens, [row[1] for row in tokens], [row[1] % 4 + 1 for row in tokens])
    found = dla.find_circuit(backup, batch, logit_diff(batch), value="zero", forward=forward)
    assert found.parts == ("L0H0",)
    same(found.share.mean, 1.0)
    half = dla.find_circuit(backup, batch, logit_diff(batch), value="zero", share=0.5, forward=forward)
    assert half.parts == ("L0H0",)


# --- a shortcut by position


@pytest.fixture(scope="module")
def shortcut() -> Any:
    return planted.shortcut()


def test_the_shortcut_is_shared(shortcut: Any, forward: Any) -> None:
    """Attribution calls it as it calls any head; contrast and patching say that it depends on nothing."""
    metric = free(logit_diff(COPIED))
    bias = SHORTCUT[COPIED.clean.targets] - SHORTCUT[COPIED.corrupted.targets]
    assert bias.abs().min() > 0.1
    found = dla.attribute(shortcut, COPIED.clean, metric, forward=forward)
    same(found.heads[:, 0], torch.stack([bias, torch.full_like(bias, 2.0)], 1))
    contrast = dla.contrast(shortcut, COPIED, forward=forward)
    same(contrast.dependent.heads[:, 0], torch.tensor([0.0, 2.0]))
    assert not contrast.dependent.heads[:, 0, 0].any()  # not only small: exactly 0
    same(contrast.shared.heads[:, 0, 0], bias)
    same(contrast.shared.heads[:, 0, 1], 0.0)
    for direction, moved in (("denoise", 4.0), ("noise", -4.0)):
        for site in ("z", "v"):
            patched = dla.patch(shortcut, COPIED, site=site, direction=direction, forward=forward)  # pyright: ignore
            same(patched.change[:, 0], torch.tensor([0.0, moved]))
            assert not patched.change[:, 0, 0].any()


def test_ablating_the_shortcut(shortcut: Any, forward: Any) -> None:
    """Zero takes it away, direct and total alike; a mean or another prompt's is the same, so nothing changes."""
    metric = free(logit_diff(COPIED))
    bias = SHORTCUT[COPIED.clean.targets] - SHORTCUT[COPIED.corrupted.targets]
    zero = dla.ablate(shortcut, COPIED.clean, metric, value="zero", forward=forward)
    same(zero.total[:, 0, 0], -bias)
    same(zero.direct[:, 0, 0], -bias)
    same(zero.total[:, 0, 1], -2.0)
    for value in ("mean", "resample"):
        found = dla.ablate(shortcut, COPIED.clean, metric, value=value, forward=forward)  # pyright: ignore
        same(found.total[:, 0, 0], 0.0)
        assert (found.total[:, 0, 1] < -1.0).all()
        assert not found.disagreements()
