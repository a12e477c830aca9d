"""Patching: shares recovered with their intervals, alignment of positions, kinds of token, ranking, groups, tables."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from scipy.stats import norm, t

from maze_dla.errors import InputError
from maze_dla.results import recovered
from maze_dla.results.columns import groups_of
from maze_dla.results.patching import PatchResult
from tests.results.causal_results import KINDS, make_patch, noise

HEADS = ("layer", "head")


def test_patching_nothing_recovers_nothing_and_patching_all_recovers_all() -> None:
    result = make_patch(HEADS)
    values = result.values.clone()
    values[:, 0, 0], values[:, 0, 1] = result.corrupted, result.clean
    share = replace(result, values=values).recovered
    assert [float(v[0, 0]) for v in (share.mean, share.low, share.high)] == [0, 0, 0]
    assert [float(v[0, 1]) for v in (share.mean, share.low, share.high)] == pytest.approx([1, 1, 1])
    assert 0.1 < float(share.mean[1, 0]) < 0.9


def test_a_share_is_a_ratio_of_means_and_no_mean_of_ratios() -> None:
    result = make_patch(HEADS)
    of_means = (result.values.double().mean(0) - result.corrupted.double().mean()) / (
        result.clean.double().mean() - result.corrupted.double().mean()
    )
    torch.testing.assert_close(result.recovered.mean, of_means)
    ratios = (result.change / (result.clean - result.corrupted)[:, None, None]).double().mean(0)
    assert not torch.allclose(result.recovered.mean, ratios, atol=1e-4)


def test_noise_changes_the_clean_run() -> None:
    result = make_patch(HEADS, direction="noise")
    torch.testing.assert_close(result.change, result.values - result.clean[:, None, None])
    assert not torch.allclose(result.change, make_patch(HEADS).change)


def test_the_interval_is_that_of_resampled_mazes() -> None:
    """Against a loop over the same draws, and wider than one of prompts that count as independent."""
    result = make_patch(HEADS)
    shared = noise(12, seed=9)[result.clusters, None, None]
    result = replace(result, values=result.values + 2 * shared)
    g = torch.Generator().manual_seed(0)
    n = int(result.clusters.max()) + 1
    values, clean, corrupted = (v.double() for v in (result.values[:, 2, 3], result.clean, result.corrupted))
    found = []
    for drawn in torch.randint(n, (recovered.N_RESAMPLES, n), generator=g):
        rows = torch.cat([torch.nonzero(result.clusters == c).flatten() for c in drawn.tolist()])
        found.append(float((values - corrupted)[rows].mean() / (clean - corrupted)[rows].mean()))
    level = float(norm.cdf(-((12 / 11) ** 0.5) * t.ppf(0.975, 11)))  # of 12 mazes, in place of 0.025
    ends = torch.tensor(found, dtype=torch.float64).quantile(torch.tensor([level, 1 - level], dtype=torch.float64))
    share = result.recovered
    assert [float(share.low[2, 3]), float(share.high[2, 3])] == pytest.approx(ends.tolist(), abs=1e-9)
    alone = replace(result, columns={}).recovered
    assert (share.high - share.low).mean() > 1.2 * (alone.high - alone.low).mean()


@pytest.mark.parametrize("n", [6, 40])
def test_the_interval_holds_the_truth(n: int) -> None:
    """On draws of `n` mazes of two prompts: a share of 0.4, with noise that a maze's prompts have in common."""
    held, n_draws = 0, 200
    clusters = torch.arange(n).repeat_interleave(2)
    for seed in range(n_draws):
        size = 3 + noise(n, seed=seed)[clusters]
        values = 0.4 * size + noise(n, seed=1000 + seed)[clusters] + 0.2 * noise(2 * n, seed=2000 + seed)
        share = recovered.recovered_share(
            values[:, None], size, torch.zeros(2 * n), torch.ones(2 * n, 1).bool(), clusters, ("layer",), ("0",)
        )
        held += bool(share.low[0] <= 0.4 <= share.high[0])
    assert 0.9 <= held / n_draws <= 0.98


@pytest.mark.parametrize(("n_mazes", "words"), [(4, "0.40 (no interval)"), (5, "0.40 [")])
def test_few_mazes_have_a_share_and_no_interval(n_mazes: int, words: str) -> None:
    """Resamples of four mazes hold the truth far less often than 95 times in 100."""
    size = 3 + noise(n_mazes, seed=1)
    values, rows = 0.4 * size + 0.01 * noise(n_mazes, seed=2), torch.arange(n_mazes)
    present = torch.ones(n_mazes, 1).bool()
    share = recovered.recovered_share(values[:, None], size, 0 * size, present, rows, ("layer",), ("0",))
    assert share.shown(0).startswith(words)
    assert bool(share.low.isnan()) == (n_mazes < 5)


def test_blocks_of_sites_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = make_patch().recovered
    monkeypatch.setattr(recovered, "SITES_AT_ONCE", 4)
    for name in ("mean", "low", "high"):
        torch.testing.assert_close(getattr(make_patch().recovered, name), getattr(whole, name))


@pytest.mark.parametrize(("apart", "n_mazes"), [(0.0, 12), (4.0, 1)])
def test_no_share_of_runs_that_cannot_be_told_apart(apart: float, n_mazes: int) -> None:
    """Their difference may be zero; of one maze no interval is known."""
    share = make_patch(apart=apart, n_mazes=n_mazes).recovered
    assert share.mean.isnan().all()
    assert share.low.isnan().all()
    assert share.shown(0, 0) == "-"
    assert set(share.table.to_numpy().flatten()) == {"-"}
    assert make_patch().recovered.known.all()


def test_positions_are_aligned_at_the_read_position() -> None:
    result = make_patch(lengths=(3, 5) * 4)
    aligned = result.aligned()
    assert result.offsets == (-4, -3, -2, -1, 0)
    assert aligned[0, :, :2].isnan().all()
    assert aligned[0, :, 2:].equal(result.values[0, :, :3])
    assert aligned[1].equal(result.values[1])


def test_each_offset_is_over_the_prompts_that_reach_so_far() -> None:
    result = make_patch(lengths=(3, 5) * 8)
    share, long = result.recovered, result.select(list(range(1, 16, 2)))
    assert share.n.tolist() == [8, 8, 16, 16, 16]
    torch.testing.assert_close(share.mean[:, :2], long.recovered.mean[:, :2])
    torch.testing.assert_close(result.change_summary.mean[:, 0], long.change_summary.mean[:, 0])
    torch.testing.assert_close(result.change_summary.low[:, 0], long.change_summary.low[:, 0])
    assert not torch.allclose(share.mean[:, 2:], long.recovered.mean[:, 2:])
    assert "8 to 16 prompts a column" in repr(share)


def test_an_offset_whose_own_prompts_cannot_be_told_apart_has_no_share() -> None:
    result = make_patch(lengths=(3, 5) * 8)
    clean = result.clean.clone()
    clean[1::2] = result.corrupted[1::2] + 0.1 * noise(8)
    share = replace(result, clean=clean).recovered
    assert share.known.any(0).tolist() == [False, False, True, True, True]


def test_a_kind_of_token_has_the_mean_over_its_tokens() -> None:
    result = make_patch()
    found = result.by_kind()
    mask = (torch.arange(result.lengths[0]) % 3) == 1
    expected = result.change[0, :, : result.lengths[0]][:, mask].double().mean(-1)
    torch.testing.assert_close(found.change[0, :, 1], expected)
    torch.testing.assert_close(found.summary.mean, found.change.mean(0))
    apart = (result.clean.double() - result.corrupted.double()).mean()
    torch.testing.assert_close(found.recovered.mean, found.summary.mean / apart, atol=1e-6, rtol=1e-6)
    assert found.recovered.columns == found.kinds == KINDS
    assert "not assumed" in str(type(found).__doc__)


def test_a_kind_that_some_prompts_lack_is_over_the_others() -> None:
    result = make_patch()
    kinds = result.token_kinds.clone()
    kinds[:6][kinds[:6] == 2] = 1
    found = replace(result, token_kinds=kinds, kinds=(*KINDS, "never")).by_kind()
    assert found.recovered.n.tolist() == [24, 24, 18, 0]
    assert found.change[:6, :, 2].isnan().all()
    torch.testing.assert_close(found.summary.mean[:, 2], found.change[6:, :, 2].mean(0))
    assert found.recovered.known.any(0).tolist() == [True, True, True, False]


def test_kinds_say_that_each_token_is_patched_alone() -> None:
    found = make_patch().by_kind()
    first, *table = repr(found).split("\n")
    assert first == "KindChanges: the mean over a prompt's tokens of a kind, each patched alone"
    of_strongest = "of these the token that changes most in each prompt"
    assert "\n".join(table) == f"{found.recovered!r}\n{of_strongest}\n{found.strongest_recovered!r}"


def test_the_strongest_token_of_a_kind_has_all_that_it_does() -> None:
    """One of three tokens brings everything back: the mean is a third, the strongest one."""
    base = make_patch(lengths=(4,) * 24)
    change = torch.zeros(24, 3, 4)
    change[..., 1] = (base.clean - base.corrupted)[:, None]
    change[:, 2, 3] = -0.5
    kinds = torch.tensor([[0, 1, 1, 1]]).expand(24, -1)
    result = replace(base, values=base.metric.view(-1, 1, 1) + change, token_kinds=kinds, kinds=("a", "b", "none"))
    found = result.by_kind()
    assert found.recovered.mean[0, :2].tolist() == pytest.approx([0, 1 / 3], abs=1e-6)
    assert found.strongest_recovered.mean[0, :2].tolist() == pytest.approx([0, 1], abs=1e-6)
    opposed = change[:, 2].gather(1, change[:, 2].abs().argmax(1, keepdim=True))[:, 0]
    torch.testing.assert_close(found.strongest[:, 2, 1], opposed.double(), atol=1e-6, rtol=0)
    assert found.strongest[..., 2].isnan().all()
    torch.testing.assert_close(found.strongest_summary.mean[:, 1], found.strongest[..., 1].mean(0))


def test_kinds_need_positions_and_kinds() -> None:
    with pytest.raises(InputError, match="kinds of token are of positions, this result has the axes layer, head"):
        make_patch(HEADS).by_kind()
    with pytest.raises(InputError, match="kinds of tokens of these prompts are not known"):
        make_patch(token_kinds=None).by_kind()


def test_the_strongest_heads_are_held_out() -> None:
    first = make_patch(HEADS).top(2)
    assert [part.name for part in first] == ["L2H3", "L2H2"]
    assert first[0].chosen is not None
    assert first[0].at == (2, 3)
    assert first[0].in_sample == pytest.approx(float(make_patch(HEADS).change.double().mean(0)[2, 3]))
    assert "chose it" not in repr(first[0])
    few = make_patch(HEADS, n_mazes=4).top(1)[0]
    assert few.chosen is None
    assert repr(few).endswith("of the prompts that chose it")


def test_positions_are_ranked_by_offset_and_say_so() -> None:
    result = make_patch()
    found = result.top(3)
    assert found[0].name == "layer 2 at offset 0"
    assert found[0].mean == pytest.approx(float(result.change_summary.mean[2, -1]))
    assert result.top(0) == []
    idle = replace(result, values=result.corrupted[:, None, None] + 0 * result.values)
    assert "includes zero" in repr(idle.top(1)[0])
    with pytest.raises(InputError, match="k is at least 0, got -1"):
        result.top(-1)


def test_names_of_sites() -> None:
    assert make_patch(HEADS).site_names[5] == "L1H1"
    assert make_patch(("layer", "head", "position")).site_names[-8] == "L2H2 at offset 0"
    assert make_patch(("neuron",)).site_names[1] == "L2N7"
    assert [part.name for part in make_patch(("neuron",)).top(1)] == ["L2N28"]


@pytest.mark.parametrize("axes", [("layer", "position"), HEADS, ("layer", "head", "position"), ("neuron",)])
def test_the_table_has_a_row_for_each_prompt_and_site(axes: tuple[str, ...]) -> None:
    result = make_patch(axes)
    table = result.to_frame()
    assert len(table) == int((~result.values.isnan()).sum())
    assert table["value"].tolist() == result.values[~result.values.isnan()].tolist()
    plain = result.metric[torch.tensor(table["prompt"].tolist())].tolist()
    assert (table["value"] - table["change"]).tolist() == pytest.approx(plain, abs=1e-5)
    if "position" in axes:
        last = table[table["offset"] == 0]
        assert set(last["token"]) == {"t4", "t5", "t6"}
        assert table["offset"].max() == 0
    if axes == ("neuron",):
        assert table["neuron"].unique().tolist() == list(result.neurons)


def test_a_selection_holds_what_its_prompts_hold() -> None:
    result = make_patch()
    part = result.select([0, 4])  # of five tokens each
    assert part.values.shape == (2, 3, 5)
    assert part.values[1].equal(result.values[4, :, :5])
    assert part.token_kinds is not None
    assert part.token_kinds.shape == (2, 5)
    assert part.lengths.tolist() == [5, 5]
    assert make_patch(HEADS).select([0, 4]).values.shape == (2, 3, 4)


def test_groups_have_their_own_shares() -> None:
    result = make_patch(HEADS, lengths=(5,) * 60, n_mazes=30)
    grouped = result.group_by("distance")
    one: PatchResult = grouped.results[1]
    assert one.recovered.mean.equal(result.select(result.table["distance"] == 1).recovered.mean)
    torch.testing.assert_close(grouped.summary("change").mean[1], one.change.double().mean(0))


def test_the_lines_say_what_was_patched() -> None:
    text = repr(make_patch(estimated=True, agreement=0.93, sampled=40))
    assert "resid_pre by layer and position, clean activations put into the corrupted run" in text
    assert "correlation 0.93 with exact values at 40 sites" in text
    assert "24 about 12 mazes" in text
    assert "corrupted activations put into the clean run" in repr(make_patch(direction="noise"))
    assert "compared with no exact value" in repr(make_patch(estimated=True))
    heads = make_patch(HEADS, site="z")
    at_reads = replace(heads, info={**heads.info, "positions": "read"})
    assert "z by layer and head at the read position, clean" in repr(at_reads)


def test_clusters_of_a_column_are_numbered_anew() -> None:
    """A column whose prompts are of few mazes has the interval of these alone."""
    result = make_patch(lengths=(3,) * 12 + (5,) * 12, n_mazes=24)
    summary = result.change_summary
    own = result.change[12:, :, 0].double()
    error = own.std(0) / 12**0.5
    torch.testing.assert_close(summary.standard_error[:, 0], error)
    assert groups_of(result.clusters[12:]).tolist() == list(range(12))


def test_groups_of_patched_positions_are_aligned_at_the_read_position() -> None:
    result = make_patch()
    lengths = result.lengths.tolist()
    grouped = result.group_by([str(n) for n in lengths])
    found = grouped.summary("change")
    width = result.values.shape[-1]
    assert found.mean.shape == (len(set(lengths)), 3, width)
    for i, (label, part) in enumerate(zip(grouped.labels, grouped.results, strict=True)):
        own = part.change_summary
        for name in ("mean", "standard_error", "low", "high"):
            seen = getattr(found, name)[i]
            assert seen[:, : width - int(label)].isnan().all()
            torch.testing.assert_close(seen[:, width - int(label) :], getattr(own, name), equal_nan=True)
    assert found.mean[..., -1].isfinite().all()
    assert grouped.metric_summary().mean.shape == (len(set(lengths)),)
    with pytest.raises(InputError, match=r"unknown number 'values', this result has .*change$"):
        grouped.summary("values")
    of_heads = make_patch(HEADS).group_by([str(n) for n in lengths])
    assert of_heads.summary("change").mean.shape == (len(set(lengths)), 3, 4)
