"""A report is a folder: a page that opens anywhere, pictures, and the result with the same numbers."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib import pyplot as plt
from PIL import Image

from maze_dla.adapters.mazes.model import MazeModel
from maze_dla.adapters.mazes.prompts import MazePromptBatch
from maze_dla.analysis import attribute
from maze_dla.engine.metrics import correct_vs_other, logit
from maze_dla.errors import InputError, MazeDlaError
from maze_dla.files import output_folder
from maze_dla.report import write as writing
from maze_dla.report.close_up import look_closely
from maze_dla.report.facts import fact_table
from maze_dla.report.page import render_page
from maze_dla.report.write import Report, write_report
from maze_dla.results.attribution import AttributionResult
from maze_dla.results.loading import load_result
from maze_dla.results.words import depth_name

OF_ALL = {"lens", "layers", "heads", "neurons", "source_kinds"}
OF_ONE = {"token_lens", "maze_all_heads", "maze_strongest_here"}
ALONG_THE_PATH = {"lens_along_path", "layers_along_path"}


class Page(HTMLParser):
    """A page's references, its tags and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.references: list[str] = []
        self.tags: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.references += [str(v) for name, v in attrs if name in ("src", "href", "srcset", "data", "action")]

    def handle_data(self, data: str) -> None:
        self.words += data + " "


def rules_of(report: Report) -> list[str]:
    """By which rules prompts were chosen, in the order of the page."""
    return list(dict.fromkeys(p.stem.split("_")[0] for p in report.pictures if p.stem not in OF_ALL | ALONG_THE_PATH))


def expected_pictures(report: Report) -> set[str]:
    seen = {p.stem for p in report.pictures}
    of_each = {f"{rule}_{name}" for rule in rules_of(report) for name in OF_ONE}
    return OF_ALL | of_each | {name for name in seen if name.endswith("_maze_strongest_on_average")}


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def test_the_files(report: Report) -> None:
    folder = report.page.parent
    assert {p.name for p in folder.iterdir()} == {"report.html", "result.zanj", *(p.name for p in report.pictures)}
    assert {p.stem for p in report.pictures} == expected_pictures(report)
    assert (report.page, report.result_file) == (folder / "report.html", folder / "result.zanj")


def test_pictures_are_images_with_something_on_them(report: Report) -> None:
    for file in report.pictures:
        with Image.open(file) as image:
            image.verify()
        with Image.open(file) as image:
            assert image.format == "PNG"
            assert min(image.size) > 200
            assert len(image.convert("RGB").getcolors(1 << 24)) > 20
    assert plt.get_fignums() == []


def test_the_page_is_one_file(report: Report) -> None:
    text = report.page.read_text(encoding="utf-8")
    page = Page(text)
    assert len(page.references) == len(report.pictures)
    head = "data:image/png;base64,"
    assert all(reference.startswith(head) for reference in page.references)
    embedded = {base64.b64decode(reference.removeprefix(head)) for reference in page.references}
    assert embedded == {file.read_bytes() for file in report.pictures}
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert not re.search(r"@import|url\(|https?://", text)
    assert str(report.page.parent) not in text
    assert Page('<img src="a.png"><script src="b">').references == ["a.png", "b"]  # references are found where they are


def test_the_page_says_what_the_table_says(report: Report) -> None:
    words = Page(report.page.read_text(encoding="utf-8")).words
    for name, value in report.facts:
        assert name in words
        assert value in words
    assert "small <b>model</b> & co" in words  # escaped, so that it comes back as text
    assert str(report.result.info["sha256"]) in words
    assert str(report.result.warning) in words
    assert "does not change when a constant is added" in words


def test_facts(report: Report, batch: MazePromptBatch) -> None:
    result, facts = report.result, dict(report.facts)
    assert facts["task"] == "first_path_choice"
    assert facts["checkpoint"] == "small.zanj"
    assert facts["prompts"] == "6 (generated, seed 4)"
    assert facts["accuracy"].startswith(str(result.accuracy))
    heads = [name.removeprefix("head ") for name in facts if name.startswith("head ")]
    assert heads == [h.name for h in result.top_heads(5)]
    assert len(heads) == 4  # all that the model has
    assert facts["completeness gap"].startswith(f"{float(result.gap.abs().max()):.1e} logits at most")
    assert float(result.gap.abs().max()) > 0
    mean = float(result.metric.double().mean())
    assert facts["metric: correct minus mean of all"].startswith(f"{mean:.3f} [")
    where = facts["half of it is there"]
    assert where.endswith(" (lens at the final norm's recorded scale)")
    assert result.metric_summary().low < 0 < result.metric_summary().high
    assert where.startswith("not to be told: the metric's interval includes zero (")
    sure = replace(
        result, metric=result.metric + 50, constant=result.constant + 50
    )  # which the constant reaches at once
    where = dict(fact_table(sure, result.lens()))["half of it is there"]
    assert where.startswith(f"after {depth_name(result.lens().labels, sure.lens().first_depth_with(0.5))} (")


def test_the_saved_result_has_the_same_numbers(report: Report, maze: MazeModel, batch: MazePromptBatch) -> None:
    loaded = load_result(report.result_file)
    assert isinstance(loaded, AttributionResult)
    fresh = attribute(maze.model, batch, correct_vs_other(batch), neurons="mean")
    for name in ("metric", "layers", "heads", "constant", "gap", "neuron_mean", "correct"):
        assert torch.equal(getattr(loaded, name), getattr(report.result, name)), name
        assert torch.allclose(getattr(loaded, name).double(), getattr(fresh, name).double(), atol=1e-6), name
    assert loaded.info == report.result.info
    assert loaded.prompt_tokens == batch.labels
    other = attribute(maze.model, batch, logit(batch))
    assert not torch.allclose(loaded.metric, other.metric, atol=1e-3)


def test_a_metric_that_a_shift_changes_says_so(maze: MazeModel, batch: MazePromptBatch) -> None:
    page = Page(render_page(attribute(maze.model, batch, correct_vs_other(batch, reduce="sum")), [], []))
    assert "The metric changes when a constant is added to all logits" in page.words


def failing(*args: Any) -> Any:
    folder = args[-1]
    (folder / "lens.png").write_bytes(b"half a picture")
    raise MazeDlaError("no ink")


def test_a_failed_run_leaves_the_report_as_it_was(
    maze: MazeModel, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, before = report.page.parent, contents(report.page.parent)
    other = maze.prompts(n_mazes=3, seed=9)
    monkeypatch.setattr(writing, "draw_pictures", failing)
    with pytest.raises(MazeDlaError, match="no ink"):
        write_report(maze, other, correct_vs_other(other), folder)
    assert contents(folder) == before
    monkeypatch.setattr(writing, "draw_pictures", lambda *args: [])
    monkeypatch.setattr(writing, "draw_close_up", lambda *args: [])
    monkeypatch.setattr(writing, "draw_close_up", lambda *args: [])
    monkeypatch.setattr(writing, "draw_close_up", lambda *args: [])
    monkeypatch.setattr(writing, "draw_close_up", lambda *args: [])
    write_report(maze, other, correct_vs_other(other), folder / "beside")
    assert contents(folder / "beside")["result.zanj"] != before["result.zanj"]


def test_a_folder_that_cannot_be_written(maze: MazeModel, batch: MazePromptBatch, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("not a folder")
    for out in (file, file / "below"):
        with pytest.raises(InputError, match=f"^{re.escape(str(out))}: cannot be written as a folder"):
            write_report(maze, batch, correct_vs_other(batch), out)
    assert file.read_text() == "not a folder"


def test_a_page_that_cannot_be_replaced(
    maze: MazeModel, batch: MazePromptBatch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "report.html").mkdir()
    monkeypatch.setattr(writing, "draw_pictures", lambda *args: [])
    monkeypatch.setattr(writing, "draw_close_up", lambda *args: [])
    monkeypatch.setattr(writing, "draw_close_up", lambda *args: [])
    monkeypatch.setattr(writing, "draw_close_up", lambda *args: [])
    monkeypatch.setattr(writing, "draw_close_up", lambda *args: [])
    with pytest.raises(MazeDlaError, match=r"report\.html"):
        write_report(maze, batch, correct_vs_other(batch), tmp_path)


def test_nothing_is_printed(
    maze: MazeModel,
    batch: MazePromptBatch,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(writing, "draw_pictures", lambda *args: [])
    monkeypatch.setattr(writing, "draw_close_up", lambda *args: [])
    monkeypatch.setattr(writing, "draw_close_up", lambda *args: [])
    monkeypatch.setattr(writing, "draw_close_up", lambda *args: [])
    monkeypatch.setattr(writing, "draw_close_up", lambda *args: [])
    write_report(maze, batch, correct_vs_other(batch), tmp_path)
    assert capfd.readouterr() == ("", "")


def test_a_single_prompt_has_a_report(maze: MazeModel, tmp_path: Path) -> None:
    one = maze.prompts(n_mazes=1, task="path_end")
    written = write_report(maze, one, correct_vs_other(one, "cells"), tmp_path)
    assert len(written.result) == 1
    assert {p.stem for p in written.pictures} == expected_pictures(written)
    assert len(rules_of(written)) == 1


def test_a_folder_that_was_made_for_nothing_is_removed(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), output_folder(tmp_path / "new"):
        raise RuntimeError
    assert not (tmp_path / "new").exists()
    with pytest.raises(RuntimeError), output_folder(tmp_path):
        raise RuntimeError
    assert tmp_path.exists()


def test_every_step_of_the_paths(maze: MazeModel, tmp_path: Path) -> None:
    batch = maze.prompts(task="every_path_step", n_mazes=3)
    report = write_report(maze, batch, correct_vs_other(batch), tmp_path)
    assert {p.stem for p in report.pictures} == expected_pictures(report) | ALONG_THE_PATH
    assert dict(report.facts)["prompts"] == f"{len(batch)} about 3 mazes (generated, seed 0)"
    assert "typical" not in rules_of(report) or report.result.correct.any()  # pyright: ignore


def test_the_close_up_shows_the_prompt_that_was_asked_for(
    maze: MazeModel, batch: MazePromptBatch, tmp_path: Path
) -> None:
    metric = correct_vs_other(batch)
    result = attribute(maze.model, batch, metric)
    chosen = [look.number for look in look_closely(maze.model, batch, metric, result)]
    other = next(i for i in range(len(batch)) if i not in chosen)
    (shown,) = look_closely(maze.model, batch, metric, result, other)
    assert (shown.number, shown.rule) == (other, "chosen")
    assert shown.result.prompt_tokens == (batch.labels[other],)
    assert shown.maze is not None
    assert shown.maze.tokens == batch.labels[other]
    for wrong in (-1, len(batch)):
        with pytest.raises(InputError, match="prompt is at "):
            write_report(maze, batch, metric, tmp_path / "out", prompt=wrong)
    assert not (tmp_path / "out").exists()
