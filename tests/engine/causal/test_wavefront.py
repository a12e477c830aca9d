"""Branches of the wavefront are what hooks give, one forward pass for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from maze_dla.analysis import as_residual_model
from maze_dla.engine.causal import branches as branching
from maze_dla.engine.causal import keys, wavefront
from maze_dla.engine.edits import EDITABLE, STREAM, Edit
from maze_dla.engine.model import MicroBatch
from maze_dla.engine.sites import FINAL_RESIDUAL, FINAL_SCALE, LOGITS, Activations, Site
from maze_dla.errors import InputError
from tests.engine.small_models import make_batch, micro_batches, shared_model
from tests.engine.test_two_engines import prefixes

from .one_at_a_time import Found, Put, run, scale_of

Branch = tuple[int, list[Put]]  # the prompt, and what is put
MODELS: dict[str, dict[str, Any]] = {
    "LN": {"n_layers": 3},
    "RMS": {"normalization_type": "RMS"},
    "attention only, no norm": {"attn_only": True, "normalization_type": None},
    "one layer": {"n_layers": 1},
}
BATCHES = {"prompts apart": lambda: make_batch((5, 17, 9, 12)), "prefixes": prefixes}
CASES = [("LN", "prompts apart"), ("LN", "prefixes"), ("attention only, no norm", "prefixes")]
RECORDED = ("z", "attn_out", "resid_mid", "neurons", "mlp_out")


def model_of(name: str) -> Any:
    return shared_model(torch.float64, **MODELS[name])


def has(model: Any, name: str) -> bool:
    return name in as_residual_model(model).sites


def micro_of(batch: str) -> MicroBatch:
    return micro_batches(BATCHES[batch](), 100)[0]


def value_of(model: Any, name: str, head: int | None, width: int, generator: torch.Generator) -> Tensor:
    """Random numbers for one place."""
    cfg = model.cfg
    whole = {"neurons": [cfg.d_mlp], "pattern": [cfg.n_heads, width], **{key: [cfg.d_model] for key in STREAM}}
    shape = whole.get(name, [cfg.n_heads, cfg.d_head])
    draw = torch.rand if name == "pattern" else torch.randn
    return draw(shape if head is None else shape[1:], generator=generator, dtype=torch.float64)


def edits_of(branches: Sequence[Branch]) -> list[Edit]:
    """Entries of one site are one edit, as long as their values have one shape."""
    together: dict[Any, list[tuple[int, Put]]] = {}
    for number, (_, puts) in enumerate(branches):
        for put in puts:
            together.setdefault((Site(put.name, put.layer, put.head), put.value.shape), []).append((number, put))
    return [
        Edit(
            site,
            torch.tensor([number for number, _ in held]),
            torch.tensor([put.position for _, put in held]),
            torch.stack([put.value for _, put in held]),
        )
        for (site, _), held in together.items()
    ]


def sites_of(model: Any) -> list[Site]:
    names = [name for name in RECORDED if has(model, name)]
    return [LOGITS, FINAL_RESIDUAL, FINAL_SCALE, *(Site(n, i) for n in names for i in range(model.cfg.n_layers))]


def run_branches(
    model: Any, micro: MicroBatch, branches: Sequence[Branch], edited: Sequence[Site] | None = None
) -> Activations:
    sites, edits = sites_of(model), edits_of(branches)
    edited = [Site(e.site.name, e.site.layer, position="all") for e in edits] if edited is None else edited
    with torch.no_grad():
        _, rerun = wavefront.editable(as_residual_model(model).forward.decoder, micro, sites, edited)  # pyright: ignore
        return rerun(torch.tensor([p for p, _ in branches]), edits, sites)


def by_hooks(model: Any, micro: MicroBatch, branch: Branch) -> Found:
    number, puts = branch
    return run(model, micro.tokens[micro.rows[number], : int(micro.positions[number]) + 1], puts, RECORDED)


def assert_same(model: Any, micro: MicroBatch, branches: Sequence[Branch], found: Activations) -> None:
    rounding = 1e-5 if model.cfg.normalization_type == "RMS" else 1e-9  # a bridge's RMS norm computes in float32
    for number, branch in enumerate(branches):
        expected = by_hooks(model, micro, branch)
        expected["final_scale", 0] = scale_of(model, expected)
        for site in found:
            value = expected[{"final_residual": "final"}.get(site.name, site.name), site.layer or 0]
            value = value if site in (LOGITS, FINAL_SCALE) else value[-1]
            apart = float((found[site][number] - value).abs().max())
            assert apart < rounding * max(1.0, float(value.abs().max())), (
                f"{site} of branch {number} is off by {apart:.1e}"
            )


@pytest.mark.parametrize(
    ("kind", "batch", "name"), [(*case, name) for case in CASES for name in EDITABLE if has(model_of(case[0]), name)]
)
def test_every_site_is_what_one_hook_at_a_time_gives(kind: str, batch: str, name: str) -> None:
    """In every layer, at the first or a middle and the last position; all heads or neurons together, or one."""
    model, micro, generator = model_of(kind), micro_of(batch), torch.Generator().manual_seed(0)
    branches: list[Branch] = []
    for layer in range(model.cfg.n_layers):
        for number, last in list(enumerate(micro.positions.tolist()))[layer::2]:
            for position in sorted({number % 2 * (last // 2), last}):
                head = None if name in STREAM or (number + position) % 2 else number % model.cfg.n_heads
                value = value_of(model, name, head, position + 1, generator)
                branches.append((number, [Put(name, layer, position, value, head)]))
    found = run_branches(model, micro, branches)
    assert_same(model, micro, branches, found)
    plain = run_branches(model, micro, [(number, []) for number, _ in branches])
    moved = (found[LOGITS] - plain[LOGITS]).abs().amax(1)
    assert (moved > 1e-6).sum() >= len(branches) // 4  # an edit that nothing sees would agree as well


def random_branches(model: Any, micro: MicroBatch, seed: int) -> list[Branch]:
    """Some with many edits, in several layers and at several positions; one with none."""
    generator = torch.Generator().manual_seed(seed)
    names = [name for name in EDITABLE if has(model, name)]

    def draw(n: int) -> int:
        return int(torch.randint(n, (), generator=generator))

    branches: list[Branch] = [(0, [])]
    for _ in range(11):
        number = draw(len(micro.positions))
        puts: dict[Any, Put] = {}
        for _ in range(1 + draw(5)):
            name, layer = names[draw(len(names))], draw(model.cfg.n_layers)
            position = draw(int(micro.positions[number]) + 1)
            head = None if name in STREAM or draw(2) else draw(model.cfg.n_heads)
            value = value_of(model, name, head, position + 1, generator)
            puts.setdefault((name, layer, position), Put(name, layer, position, value, head))
        branches.append((number, list(puts.values())))
    return branches


@pytest.mark.parametrize(("kind", "batch"), [*CASES, ("RMS", "prefixes"), ("one layer", "prefixes")])
@pytest.mark.parametrize("seed", range(2))
def test_several_edits_in_one_branch(kind: str, batch: str, seed: int) -> None:
    model, micro = model_of(kind), micro_of(batch)
    branches = random_branches(model, micro, seed)
    assert_same(model, micro, branches, run_branches(model, micro, branches))


@pytest.mark.parametrize("tokens", [1, 20])
@pytest.mark.parametrize("batch", BATCHES)
def test_pieces_give_the_numbers_of_the_whole(batch: str, tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model, micro = model_of("LN"), micro_of(batch)
    branches = random_branches(model, micro, 7)
    whole = run_branches(model, micro, branches)
    pieces: list[int] = []
    wave = wavefront._Wave.run

    def counted(self: Any) -> Activations:
        pieces.append(len(self.branches))
        return wave(self)

    monkeypatch.setattr(wavefront._Wave, "run", counted)
    monkeypatch.setattr(wavefront, "MOST_TOKENS", tokens)
    found = run_branches(model, micro, branches)
    assert sum(pieces) == len(branches)
    assert len(pieces) == len(branches) if tokens == 1 else 1 < len(pieces) < len(branches)
    for site, values in whole.items():
        torch.testing.assert_close(found[site], values, rtol=1e-10, atol=1e-10)
    pieces.clear()
    monkeypatch.setattr(wavefront, "MOST_TOKENS", 2048)
    monkeypatch.setattr(wavefront, "MOST_PAIRS", 500)
    torch.testing.assert_close(run_branches(model, micro, branches)[LOGITS], whole[LOGITS], rtol=1e-10, atol=1e-10)
    assert len(pieces) > 1


@pytest.mark.parametrize("batch", BATCHES)
def test_long_branches_are_the_same(batch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of about one length are made equally long, and attend by themselves: where all count as long, too."""
    model, micro = model_of("LN"), micro_of(batch)
    several = [random_branches(model, micro, 7), in_one_stream(model, micro)]
    whole = [run_branches(model, micro, branches) for branches in several]
    alone: list[int] = []
    attend_each = keys.CopiedKeys.attend

    def counted(copied: Any, *given: Any) -> Any:
        alone.append(len(copied.branches))
        return attend_each(copied, *given)

    monkeypatch.setattr(keys.CopiedKeys, "attend", counted)
    monkeypatch.setattr(branching, "LONG", 2)
    for close in (0.5, 1.0):
        monkeypatch.setattr(branching, "CLOSE", close)
        for branches, expected in zip(several, whole, strict=True):
            alone.clear()
            found = run_branches(model, micro, branches)
            assert alone or branches is several[0] or close < 1
            for site, values in expected.items():
                torch.testing.assert_close(found[site], values, rtol=1e-10, atol=1e-10)


def in_one_stream(model: Any, micro: MicroBatch) -> list[Branch]:
    """An edit of the stream at every position of every prompt."""
    generator = torch.Generator().manual_seed(3)
    return [
        (number, [Put("resid_pre", 0, position, value_of(model, "resid_pre", None, position + 1, generator), None)])
        for number, last in enumerate(micro.positions.tolist())
        for position in range(last + 1)
    ]


@pytest.mark.parametrize("batch", BATCHES)
def test_a_branch_changes_no_other(batch: str) -> None:
    """Each alone has the numbers that it has among all, in any order."""
    model, micro = model_of("LN"), micro_of(batch)
    branches = random_branches(model, micro, 11)
    together = run_branches(model, micro, branches)
    back = run_branches(model, micro, branches[::-1])
    for number, branch in enumerate(branches):
        alone = run_branches(model, micro, [branch])
        for site, values in together.items():
            torch.testing.assert_close(alone[site][0], values[number], rtol=1e-10, atol=1e-10)
            torch.testing.assert_close(back[site][-1 - number], values[number], rtol=1e-10, atol=1e-10)


def test_a_branch_without_edits_is_the_plain_run() -> None:
    model, micro = model_of("LN"), micro_of("prefixes")
    branches: list[Branch] = [(number, []) for number in range(len(micro.positions))]
    assert_same(model, micro, branches, run_branches(model, micro, branches))


@pytest.mark.parametrize("name", EDITABLE)
def test_edits_of_read_positions_need_the_plain_run_there_alone(name: str) -> None:
    """What is said to be edited at "read" keeps less of the plain run, and gives the same numbers."""
    model, micro, generator = model_of("LN"), micro_of("prefixes"), torch.Generator().manual_seed(3)
    branches: list[Branch] = []
    for number, last in enumerate(micro.positions.tolist()):
        for layer in range(3):
            head = None if name in STREAM else 1
            branches.append((number, [Put(name, layer, last, value_of(model, name, head, last + 1, generator), head)]))
    edited = [Site(name, layer) for layer in range(3)]
    assert_same(model, micro, branches, run_branches(model, micro, branches, edited))


@pytest.mark.parametrize("name", EDITABLE)
def test_a_layer_without_the_edit_keeps_its_own(name: str) -> None:
    """An edit behind the last position of the shorter prompts of a sequence does not reach them."""
    model, micro, generator = model_of("LN"), micro_of("prefixes"), torch.Generator().manual_seed(4)
    longest = int(micro.positions.argmax())
    edit = Put(name, 0, int(micro.positions[longest]), value_of(model, name, None, 24, generator))
    others = [i for i in range(len(micro.positions)) if i != longest]
    found = run_branches(model, micro, [(longest, [edit]), *((i, []) for i in others)])
    plain = run_branches(model, micro, [(i, []) for i in (longest, *others)])
    torch.testing.assert_close(found[LOGITS][1:], plain[LOGITS][1:], rtol=1e-12, atol=1e-12)
    assert not torch.allclose(found[LOGITS][0], plain[LOGITS][0], atol=1e-4)


@pytest.mark.parametrize(
    "site", [Site("q", 0), Site("resid_pre", 1), Site("z", 0, 1), Site("z", 0, position="all")], ids=str
)
def test_what_branches_do_not_record_is_refused(site: Site) -> None:
    """The plain run's activation would be taken for the branch's."""
    model, micro = model_of("LN"), micro_of("prompts apart")
    edit = Edit(Site("resid_pre", 0), torch.tensor([0]), torch.tensor([4]), torch.ones(1, 24, dtype=torch.float64))
    asked = [site] if site.name != "q" else [Site("q", 0, position="all")]
    with torch.no_grad():
        _, rerun = wavefront.editable(as_residual_model(model).forward.decoder, micro, [LOGITS, *asked], [edit.site])  # pyright: ignore
        with pytest.raises(InputError, match="branches record"):
            rerun(torch.tensor([0]), [edit], asked)
