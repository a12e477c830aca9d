"""The report on prompts that are no mazes, and two results side by side."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib import pyplot as plt

import maze_dla as dla
from maze_dla.errors import InputError
from maze_dla.report.compare import read_results, write_comparison
from maze_dla.report.write import Report, write_report

PICTURES = {"lens", "layers", "heads", "neurons", "source_kinds", "typical_token_lens", "typical_token_sources"}


@pytest.fixture(scope="module")
def gpt2() -> Any:
    return dla.load_gpt2("bundled")


@pytest.fixture(scope="module")
def ioi_report(gpt2: Any, tmp_path_factory: pytest.TempPathFactory) -> Report:
    batch = dla.ioi_prompts(gpt2)
    return write_report(gpt2, batch, dla.logit_diff(batch), tmp_path_factory.mktemp("ioi") / "out")


def test_its_files(ioi_report: Report) -> None:
    assert {p.stem for p in ioi_report.pictures} == PICTURES
    assert all(p.stat().st_size > 5000 for p in ioi_report.pictures)


def test_it_says_which_model_it_is(ioi_report: Report) -> None:
    facts = dict(ioi_report.facts)
    assert "not gpt2-small" in facts["model"]
    assert facts["prompts"] == "8 (the eight standard prompts)"
    assert facts["correct likelier than incorrect"].startswith("1.000")
    page = ioi_report.page.read_text(encoding="utf-8")
    assert "Who writes the next token?" in page
    assert "not gpt2-small" in page
    assert "maze" not in page.replace("maze_dla", "").replace("maze-dataset", "")


def test_its_result_has_kinds_and_no_prompt_wide_sources(ioi_report: Report) -> None:
    result = dla.load_result(ioi_report.result_file)
    assert isinstance(result, dla.AttributionResult)
    assert result.kinds == ("subject", "indirect object", "other")
    assert torch.equal(result.sources_by_kind, ioi_report.result.sources_by_kind)  # pyright: ignore
    assert result.sources is None
    assert len(str(result.info["sha256"])) == 64


def test_plain_prompts_have_a_report_too(gpt2: Any, tmp_path: Path) -> None:
    batch = dla.PromptBatch.from_tokens([[0, 5, 6], [0, 7, 8, 9]], [3, 4], d_vocab=gpt2.cfg.d_vocab)
    report = write_report(gpt2, batch, dla.logit(batch), tmp_path)
    right = int(report.result.correct.sum())  # pyright: ignore[reportOptionalMemberAccess]
    seen = {0: ["wrong"], 1: ["typical", "wrong"], 2: ["typical"]}[right]
    looks = {f"{rule}_{name}" for rule in seen for name in ("token_lens", "token_sources")}
    assert {p.stem for p in report.pictures} == {"lens", "layers", "heads", "neurons", *looks}
    assert not plt.get_fignums()


def test_side_by_side(ioi_report: Report, report: Report, tmp_path: Path) -> None:
    results = read_results([report.result_file, ioi_report.result_file])
    compared, files = write_comparison(results, tmp_path / "new")
    assert [f.name for f in files] == ["comparison.csv", "comparison.png"]
    with files[0].open(encoding="utf-8") as table:
        rows = list(csv.DictReader(table))
    assert len(rows) == 2 * len(compared.measures)
    for row, value in zip(rows, compared.values.flatten().tolist(), strict=True):
        assert row["value"] == "" if value != value else float(row["value"]) == pytest.approx(value)
    assert {r["model"] for r in rows} == set(compared.names)
    assert not plt.get_fignums()


def test_results_of_another_kind_are_refused(gpt2: Any, tmp_path: Path) -> None:
    batch = dla.ioi_prompts(gpt2)
    file = dla.logit_lens(gpt2, batch, dla.logit_diff(batch)).save(tmp_path / "lens.zanj")
    with pytest.raises(InputError, match=r"lens\.zanj: holds a LensResult, expected an AttributionResult$"):
        read_results([file])
