"""The benchmark of interventions: both ways find the same, and what it prints is what was measured."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch

from maze_dla.bench import interventions
from maze_dla.bench.interventions import PairShape, interventions_as_text, random_pairs, run_interventions
from maze_dla.cli import main
from maze_dla.errors import InputError, MazeDlaError

from .tiny import TINY

PAIRS = {
    "maze": PairShape(n=3, tokens=20, changed=17, third=True),
    "gpt2": PairShape(n=2, tokens=12, changed=8, third=False),
}


def run(**options: Any) -> Any:
    return run_interventions(rounds=1, known=TINY, pairs=PAIRS, **options)


def test_rows_of_both_shapes() -> None:
    before = torch.get_num_threads()
    report = run(n_threads=1)
    assert torch.get_num_threads() == before
    assert {name: len(rows) for name, rows in report.rows.items()} == {"maze": 6, "gpt2": 5}
    streams, heads, ablation = report.rows["maze"][0], report.rows["maze"][4], report.rows["maze"][5]
    assert (streams.n_sites, heads.n_sites, ablation.n_sites) == (2 * 20, 2 * 3, 2 * (3 + 1))
    assert all(row.theirs > 0 and row.ours > 0 for rows in report.rows.values() for row in rows)
    text = interventions_as_text(report)
    for row in report.rows["gpt2"]:
        assert re.search(rf"{re.escape(row.title)}; against .* {row.n_sites} +{row.theirs:.2f} ", text)
    assert "How to read it: " in text


def test_pairs_differ_where_they_say() -> None:
    one = random_pairs(TINY["maze"], PAIRS["maze"]).changed()
    assert torch.nonzero(one).tolist() == [[0, 17], [1, 17], [2, 17]]
    third = random_pairs(TINY["maze"], PAIRS["maze"], from_third=True).changed()
    assert third[:, 6:].all()
    assert not third[:, :6].any()


@pytest.mark.parametrize("name", ["patched_one_by_one", "ablated_one_by_one"])
def test_other_numbers_are_not_timed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs: Callable[..., Any] = getattr(interventions, name)
    monkeypatch.setattr(interventions, name, lambda *given: theirs(*given) + 0.01)
    with pytest.raises(MazeDlaError, match="so their times mean nothing"):
        run()


def test_an_unknown_shape_is_refused() -> None:
    with pytest.raises(InputError, match="unknown shape 'mase'"):
        run(shapes=["mase"])


def test_the_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interventions, "run_interventions", lambda shapes, **options: run(shapes=shapes))
    assert main(["bench", "--causal", "--shape", "gpt2"]) == 0
    said, err = capsys.readouterr()
    assert err == ""
    assert "faster by" in said
    assert "maze shape" not in said
    assert main(["bench", "--causal", "--prompts", "4"]) == 2
    assert "--prompts does not go with --causal" in capsys.readouterr().err
