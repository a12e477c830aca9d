"""The sections on what the answer hangs on say what patch, ablate and find_circuit give."""

from __future__ import annotations

from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from matplotlib import pyplot as plt

import maze_dla as dla
from maze_dla.adapters.mazes.model import MazeModel
from maze_dla.adapters.mazes.prompts import MazePromptBatch
from maze_dla.engine.metrics import LinearMetric, correct_vs_other
from maze_dla.errors import InputError
from maze_dla.report import causal as writing
from maze_dla.report import write
from maze_dla.report.causal import CIRCUIT, EFFECTS, PATCHING, WRONG, NoPairs, causal_sections
from maze_dla.report.page import Section
from maze_dla.report.pictures import PICTURES, Picture
from maze_dla.report.write import write_report
from maze_dla.results.base import format_mean
from tests.engine.small_models import make_batch, make_model, random_metric

N = 24
OF_PAIRS = ["patched_positions", "patched_kinds", "patched_heads", "patched_maze"]
OF_EFFECTS = ["direct_and_total_heads", "direct_and_total_MLPs"]


def stems(section: Section) -> list[str]:
    return [picture.file.stem for picture in section.pictures]


@pytest.fixture(scope="module")
def bundled() -> tuple[MazeModel, MazePromptBatch, LinearMetric, dla.PromptPairs]:
    maze = dla.load_maze_model()
    batch = maze.prompts(n_mazes=N).having("neighbors")
    return maze, batch, correct_vs_other(batch, "neighbors"), maze.pairs(n_mazes=N)


@pytest.fixture(scope="module")
def sections(bundled: Any, tmp_path_factory: pytest.TempPathFactory) -> list[Section]:
    return causal_sections(*bundled, tmp_path_factory.mktemp("causal"))


@pytest.fixture(scope="module")
def stream(bundled: Any) -> dla.PatchResult:
    return dla.patch(bundled[0], bundled[3])


def test_the_sections_and_their_pictures(sections: list[Section]) -> None:
    assert [section.title for section in sections] == [PATCHING, EFFECTS, WRONG, CIRCUIT]
    assert [stems(section) for section in sections] == [OF_PAIRS, OF_EFFECTS, [], []]
    for section in sections:
        assert all(picture.file.stat().st_size > 5000 for picture in section.pictures)
        assert {picture.file.name for picture in section.pictures} <= set(PICTURES)
    assert plt.get_fignums() == []


def test_patching_says_what_patch_gives(bundled: Any, sections: list[Section], stream: dla.PatchResult) -> None:
    maze, _, _, pairs = bundled
    heads = dla.patch(maze, pairs, site="z")
    words, rows = sections[0].words, dict(sections[0].rows)
    n = pairs.info["left_out"]
    assert 0 < n == N - len(pairs)
    assert f"{len(pairs)} pairs of prompts differ in one thing (target)" in words
    assert f"{n} of {N} prompts have no such pair and are left out ({next(iter(pairs.info['why']))})" in words
    assert f"{format_mean(stream.summarized(stream.clean))} logits on the clean prompts" in words
    assert f"{format_mean(stream.summarized(stream.corrupted))} on the corrupted ones" in words
    at = stream.values.shape[-1] - 4
    assert rows["residual stream before layer 0"] == (
        f"3 before the read position (target) {stream.recovered.shown(0, at)}; "
        f"the read position {stream.recovered.shown(0, -1)}"
    )
    named = [name for name in rows if name.startswith("head ")]
    assert named == [f"head {part.name}" for part in heads.top(5)]
    strongest = heads.top(5)[0]
    assert rows[named[0]].startswith(f"{strongest.mean:+.3f} [{strongest.low:+.3f}, {strongest.high:+.3f}] logits")


def test_ablation_says_what_ablate_gives(bundled: Any, sections: list[Section]) -> None:
    maze, batch, metric, _ = bundled
    heads, mlps = (dla.ablate(maze, batch, metric, parts=parts) for parts in ("heads", "mlps"))
    every = sorted([*heads.top(10), *mlps.top(10)], key=lambda part: -abs(part.mean))[:10]
    assert [name for name, _ in sections[1].rows] == [part.name for part in every]
    for (_, value), part in zip(sections[1].rows, every, strict=True):
        assert value.startswith(f"{part.mean:+.3f} [{part.low:+.3f}, {part.high:+.3f}] logits")
        assert ("includes zero" in value) == part.may_be_zero
    wrong = {one.name: one for one in (*heads.disagreements(), *mlps.disagreements())}
    assert {name for name, _ in sections[2].rows} == set(wrong) != set()
    for name, value in sections[2].rows:
        assert value.startswith(f"direct {float(wrong[name].direct.mean):+.3f} [")
        assert [words in value for words in writing.IN_WORDS.values()] == [
            kind in wrong[name].in_words for kind in writing.IN_WORDS
        ]
    sizes = [abs(float(wrong[name].indirect.mean)) for name, _ in sections[2].rows]
    assert sizes == sorted(sizes, reverse=True)
    assert sections[2].words.startswith(f"{len(wrong)} of 30 heads and MLPs")
    assert "one in twenty excludes zero by chance, here about 1.5 of 30" in sections[2].words


def test_the_circuit_is_scored_on_the_other_mazes(bundled: Any, sections: list[Section]) -> None:
    maze, batch, metric, _ = bundled
    found, rows = dla.find_circuit(maze, batch, metric), dict(sections[3].rows)
    assert rows["parts, in the order found"] == ", ".join(found.parts)
    assert rows["share on prompts that chose them"] == f"{found.info['share_where_chosen']:.2f}"
    known = bool(found.share.known.all())
    assert rows["share on the other prompts"].startswith(found.share.shown(0) if known else "unknown: ")
    assert rows["these parts alone"] == f"{format_mean(found.summarized(found.kept))} logits"
    assert f"({found.info['chosen_on']} prompts)" in sections[3].words
    assert f"that of the other {len(found)} prompts" in sections[3].words
    unknown = writing._circuit_rows(replace(found, ablated=found.metric))
    assert dict(unknown)["share on the other prompts"].startswith("unknown: ")


def test_a_typical_pair_is_near_the_median(sections: list[Section], stream: dla.PatchResult) -> None:
    apart = (stream.clean - stream.corrupted).tolist()
    number = int(sections[0].pictures[-1].caption.split()[1].rstrip(","))
    assert apart[number] == sorted(apart)[(len(apart) - 1) // 2]


def test_without_pairs_the_page_says_why(bundled: Any, tmp_path: Path) -> None:
    maze, batch, metric, _ = bundled
    few, no_pairs = range(6), NoPairs("its answer never changes.")
    without = causal_sections(maze, batch.select(few), metric.select(few), no_pairs, tmp_path)
    assert "no patching on this page, since that needs pairs of prompts: its answer never changes. " in without[0].words
    assert (without[0].pictures, without[0].rows) == ((), ())
    assert [stems(section) for section in without[1:]] == [OF_EFFECTS, [], []]


def test_one_maze_has_no_intervals_and_no_circuit(bundled: Any, tmp_path: Path) -> None:
    maze, batch, metric, pairs = bundled
    of_one = causal_sections(maze, batch.select([0]), metric.select([0]), pairs.select([0]), tmp_path)
    assert of_one[3].words.startswith("No circuit was looked for: all prompts fall into one half")
    assert "cannot be told apart on average" in of_one[0].words
    assert all("nan" not in value for section in of_one for _, value in section.rows)
    assert of_one[2].rows == []


def test_selected_pairs_are_said_to_be_selected(bundled: Any) -> None:
    maze, _, _, pairs = bundled
    few = pairs.select([0, 3, 1])
    words = writing._pairs_in_words(dla.patch(maze, few), few)
    assert words.startswith("3 pairs of prompts differ in one thing (target)")
    assert f"{pairs.info['left_out']} of {N} prompts have no such pair" in words
    assert f"These pairs are a selection of {len(pairs)}." in words
    assert "selection" not in writing._pairs_in_words(dla.patch(maze, few), replace(few, info=pairs.info))


def test_a_model_without_mlps(tmp_path: Path) -> None:
    model = make_model(attn_only=True)
    batch = make_batch((6,) * 12)
    sections = causal_sections(model, batch, random_metric(batch), NoPairs("none"), tmp_path)
    assert stems(sections[1]) == ["direct_and_total_heads"]
    assert all("mlp" not in name for name, _ in sections[1].rows)


def test_pairs_of_texts(tmp_path: Path) -> None:
    model = dla.load_gpt2("bundled")
    pairs = dla.ioi_pairs(model, n_prompts=12)
    batch = pairs.clean
    sections = causal_sections(model, batch, dla.logit_diff(batch), pairs, tmp_path)
    assert stems(sections[0]) == OF_PAIRS[:3]
    assert "maze" not in " ".join(section.words for section in sections[:3]).replace("mazes or prompts", "")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the pictures that every report has."""
    monkeypatch.setattr(write, "draw_pictures", lambda *args: [])
    monkeypatch.setattr(write, "draw_close_up", lambda *args: [])


@pytest.mark.usefixtures("quick")
def test_the_page_has_them_and_a_later_report_removes_them(maze: MazeModel, tmp_path: Path) -> None:
    batch, pairs = maze.prompts(n_mazes=10, seed=4), maze.pairs(n_mazes=10, seed=4)
    metric = correct_vs_other(batch)
    report = write_report(maze, batch, metric, tmp_path, causal=pairs)
    assert {*OF_PAIRS, *OF_EFFECTS} <= {picture.stem for picture in report.pictures}
    assert not {"dependent_heads"} & {picture.stem for picture in report.pictures}
    page = unescape(report.page.read_text(encoding="utf-8"))
    for title in (PATCHING, EFFECTS, WRONG, CIRCUIT):
        assert f"<h2>{title}</h2>" in page
    for part in dla.patch(maze, pairs, site="z").top(5)[:2]:
        assert f"<tr><th>head {part.name}</th><td>{part.mean:+.3f} [" in page
    assert "<p>Patching runs the corrupted prompt" in page  # a paragraph of its own
    plain = write_report(maze, batch, metric, tmp_path)
    assert not {*OF_PAIRS, *OF_EFFECTS} & {file.stem for file in tmp_path.iterdir()}
    assert PATCHING not in plain.page.read_text(encoding="utf-8")


@pytest.mark.usefixtures("quick")
def test_true_takes_the_pairs_of_the_contrast_or_says_that_there_are_none(maze: MazeModel, tmp_path: Path) -> None:
    batch, pairs = maze.prompts(n_mazes=10, seed=4), maze.pairs(n_mazes=10, seed=4)
    both = write_report(maze, batch, correct_vs_other(batch), tmp_path / "both", pairs=pairs, causal=True)
    assert {"dependent_heads", "patched_heads"} <= {picture.stem for picture in both.pictures}
    alone = write_report(maze, batch, correct_vs_other(batch), tmp_path / "alone", causal=True)
    assert "needs pairs of prompts: no pairs of prompts were given." in alone.page.read_text(encoding="utf-8")
    assert "patched_heads" not in {picture.stem for picture in alone.pictures}


@pytest.mark.usefixtures("quick")
def test_beside_other_reports_the_sections_say_that_their_scales_are_their_own(
    maze: MazeModel, batch: MazePromptBatch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metric, drawn = correct_vs_other(batch), []

    def two(*args: Any) -> list[Section]:
        (args[-1] / "patched_heads.png").write_bytes(b"")
        drawn.append(Picture(args[-1] / "patched_heads.png", "heads", "how"))
        return [Section(PATCHING, "Two paragraphs.", drawn[-1:]), Section(WRONG, "No pictures.", ())]

    monkeypatch.setattr(write, "causal_sections", two)
    monkeypatch.setattr(write, "draw_pictures", lambda *args: [])
    result = dla.attribute(maze, batch, metric)
    for beside, times in ((), 0), ((result,), 1):
        report = write_report(maze, batch, metric, tmp_path, causal=True, beside=beside)
        page = unescape(report.page.read_text(encoding="utf-8"))
        assert page.count("in this section are this report's own") == times
        assert page.index(PATCHING) < page.find("are this report's own") < page.index(WRONG) or not times


def test_something_else_is_refused(maze: MazeModel, batch: MazePromptBatch, tmp_path: Path) -> None:
    wrong: Any = "target"
    with pytest.raises(InputError, match=r"causal is True, False or PromptPairs, such as of maze.pairs\(\), got"):
        write_report(maze, batch, correct_vs_other(batch), tmp_path / "new", causal=wrong)
    assert not (tmp_path / "new").exists()
