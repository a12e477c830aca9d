"""The command line, in this process: a table, files and an exit code."""

from __future__ import annotations

import re
import sys
from html import unescape
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from adapters.mazes.small_files import damaged, small_checkpoint

from maze_dla.adapters.mazes.load import BUNDLED, load_maze_model
from maze_dla.adapters.mazes.tasks import TASKS
from maze_dla.analysis import attribute, contrast, patch
from maze_dla.cli import main
from maze_dla.engine.metrics import correct_vs_other
from maze_dla.report import write as writing
from maze_dla.report.scales import Scales
from maze_dla.results.attribution import AttributionResult
from maze_dla.results.base import format_mean
from maze_dla.results.loading import load_result

INTERVAL = r"-?\d+\.\d+ \[-?\d+\.\d+, -?\d+\.\d+\]"
SIGNED = r"[+-]\d+\.\d+ \[[+-]\d+\.\d+, [+-]\d+\.\d+\] logits"


class Said(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_checkpoint().write(tmp_path_factory.mktemp("model") / "small.zanj")


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]):
    def run(*arguments: object) -> Said:
        capsys.readouterr()
        code = main([str(a) for a in arguments])
        return Said(code, *capsys.readouterr())

    return run


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes seconds and is looked at elsewhere."""
    monkeypatch.setattr(writing, "draw_pictures", lambda *args: [])
    monkeypatch.setattr(writing, "draw_close_up", lambda *args: [])
    monkeypatch.setattr(writing, "draw_close_up", lambda *args: [])
    monkeypatch.setattr(writing, "draw_close_up", lambda *args: [])
    monkeypatch.setattr(writing, "draw_close_up", lambda *args: [])


def test_a_report_of_the_bundled_checkpoint(say, tmp_path: Path) -> None:
    said = say("report", "--n-mazes", 30, "--out", tmp_path / "out")
    assert said.code == 0
    assert said.err == ""
    lines = said.out.splitlines()
    expected = [
        r"model +\S+",
        r"checkpoint +\S+\.zanj",
        r"task +first_path_choice",
        r"prompts +(2\d|30) \(generated, seed 0\)",
        rf"accuracy +{INTERVAL}",
        rf"chance +{INTERVAL}, the model \d\.\d+",
        rf'best plain strategy, "[a-z ]+" +{INTERVAL}, the model \d\.\d+',
        rf'plain strategy, "[a-z ]+" +{INTERVAL}, the model',
        rf"metric: correct minus mean of neighbors +{INTERVAL} logits",
        *[rf"head L\d+H\d+ +{SIGNED}"] * 5,
        r"half of it is there +after [a-zA-Z]+( \d)? \(lens at the final norm's recorded scale\)$",
        r"at each depth's own scale +after [a-zA-Z]+( \d)?$",
        r"completeness gap +\d\.\de-\d\d logits at most, beside parts of up to \d+\.\d",
    ]
    for line, pattern in zip(lines, expected, strict=False):
        assert re.match(f"^{pattern}", line), line
    out = tmp_path / "out"
    n_drawn = len(list(out.glob("*.png")))
    assert lines[-1] == f"written: {out / 'report.html'}, {out / 'result.zanj'} and {n_drawn} pictures beside them"
    assert len(lines) - len(expected) - 1 in (0, 1, 2)  # a warning; prompts that were left out
    assert (out / "report.html").stat().st_size > 100_000
    result = load_result(out / "result.zanj")
    assert isinstance(result, AttributionResult)
    assert [line.split()[1] for line in lines if line.startswith("head ")] == [h.name for h in result.top_heads(10)[:5]]
    assert f"{float(result.metric.double().mean()):.3f}" in said.out


@pytest.mark.usefixtures("no_pictures")
def test_all_options(say, checkpoint: Path, tmp_path: Path) -> None:
    options = ("--task", "path_end", "--n-mazes", 3, "--metric", "cells", "--reduce", "sum", "--seed", 5, "--no-bos")
    said = say("report", checkpoint, *options, "--device", "cpu", "--out", tmp_path)
    assert (said.code, said.err) == (0, "")
    assert re.search(r"^metric: correct minus sum of cells ", said.out, re.MULTILINE)
    maze = load_maze_model(checkpoint, prepend_bos=False)
    batch = maze.prompts(task="path_end", n_mazes=3, seed=5)
    expected = attribute(maze.model, batch, correct_vs_other(batch, "cells", "sum"))
    result = load_result(tmp_path / "result.zanj")
    assert torch.allclose(result.metric, expected.metric, atol=1e-5)
    assert result.prompt_tokens == batch.labels


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("padding", ["longest", 71])
def test_padding(padding: object, say, checkpoint: Path, tmp_path: Path) -> None:
    of_all = ("--metric", "all")
    said = say("report", checkpoint, "--n-mazes", 3, "--padding", padding, "--prompt", 2, *of_all, "--out", tmp_path)
    assert (said.code, said.err) == (0, "")
    expected = load_maze_model(checkpoint).prompts(n_mazes=3, padding=padding)  # pyright: ignore[reportArgumentType]
    assert load_result(tmp_path / "result.zanj").prompt_tokens == expected.labels
    for option, message in ((("--padding", "wide"), "padding is None, 'longest' or a number of tokens, got 'wide'"),
                            (("--prompt", "3"), "prompt is at most 2, got 3")):  # fmt: skip
        said = say("report", checkpoint, "--n-mazes", 3, "--metric", "all", *option, "--out", tmp_path)
        assert said.code == 2
        assert message in said.err


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("task", TASKS)
def test_every_task(task: str, say, checkpoint: Path, tmp_path: Path) -> None:
    said = say("report", checkpoint, "--task", task, "--n-mazes", 2, "--metric", "logit", "--out", tmp_path)
    assert (said.code, said.err) == (0, "")
    assert re.search(rf"^task +{task}$", said.out, re.MULTILINE)
    assert re.search(r"^accuracy ", said.out, re.MULTILINE)


@pytest.mark.usefixtures("no_pictures")
def test_neighbors_leaves_prompts_out_and_says_so(say, checkpoint: Path, tmp_path: Path) -> None:
    batch = load_maze_model(checkpoint).prompts(n_mazes=12)
    kept = len(batch.having("neighbors"))
    assert 0 < kept < 12
    said = say("report", checkpoint, "--n-mazes", 12, "--out", tmp_path)  # steps are set against other moves
    assert said.code == 0
    assert f"{12 - kept} prompts have no legal wrong move and were left out." in said.out.splitlines()
    assert re.search(rf"^prompts +{kept} \(", said.out, re.MULTILINE)
    assert len(load_result(tmp_path / "result.zanj")) == kept
    assert "were left out" not in say("report", checkpoint, "--n-mazes", 4, "--metric", "all", "--out", tmp_path).out
    ahead = say("report", checkpoint, "--n-mazes", 12, "--metric", "forward", "--task", "path_end", "--out", tmp_path)
    n_ahead = len(load_maze_model(checkpoint).prompts(n_mazes=12, task="path_end").having("forward"))
    assert f"{12 - n_ahead} prompts have no legal wrong move and were left out." in ahead.out.splitlines()
    assert 0 < n_ahead < 12


def test_reports_of_several_checkpoints_share_scales(say, checkpoint: Path, tmp_path: Path, monkeypatch) -> None:
    """Each in a folder of its name; the range of each picture holds the numbers of both."""
    drawn: list[tuple[str, tuple[float, float]]] = []
    monkeypatch.setattr(writing, "draw_close_up", lambda *args: [])
    applied = Scales.applied

    def noted(self: Scales, picture: str, ax: Any) -> Any:
        applied(self, picture, ax)
        lying = picture in ("neurons", "source_kinds")
        ends = ax.images[0].get_clim() if picture == "heads" else ax.get_xlim() if lying else ax.get_ylim()
        drawn.append((picture, ends))
        return ax

    monkeypatch.setattr(Scales, "applied", noted)
    said = say("report", checkpoint, BUNDLED, "--n-mazes", 6, "--metric", "all", "--out", tmp_path / "out")
    assert (said.code, said.err) == (0, "")
    assert sorted(p.name for p in (tmp_path / "out").iterdir() if p.is_dir()) == sorted([checkpoint.stem, BUNDLED.stem])
    one, two = drawn[:5], drawn[5:]
    assert [name for name, _ in one] == ["lens", "layers", "heads", "neurons", "source_kinds"]
    assert one == two
    drawn.clear()
    for each in (checkpoint, BUNDLED):
        say("report", each, "--n-mazes", 6, "--metric", "all", "--out", tmp_path / "alone")
    assert all(drawn[i][1] != drawn[i + 5][1] for i in range(5))


def test_a_contrast_has_a_section_of_its_own(say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "draw_close_up", lambda *args: [])
    said = say("report", "--n-mazes", 12, "--contrast", "target", "--out", tmp_path)
    assert (said.code, said.err) == (0, "")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    maze = load_maze_model()
    both = contrast(maze, maze.pairs(n_mazes=12), sources="kinds")
    assert "<h2>What depends on the target?</h2>" in page
    assert f"Half their difference, {format_mean(both.dependent.metric_summary())} logits, depends on" in page
    assert both.dependent.top_heads(1)[0].name in page
    names = {f"{half}_{what}.png" for half in ("dependent", "shared") for what in ("layers", "heads", "maze")}
    assert names <= {p.name for p in tmp_path.iterdir()}
    say("report", "--n-mazes", 12, "--out", tmp_path)
    assert not names & {p.name for p in tmp_path.iterdir()}  # pictures of an earlier report go with it
    said = say("report", "--n-mazes", 12, "--contrast", "colour", "--out", tmp_path)
    assert said.code == 2
    assert "change is" in said.err


def test_causal_sections_patch_between_targets(say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "draw_close_up", lambda *args: [])
    said = say("report", "--n-mazes", 12, "--causal", "--out", tmp_path)
    assert (said.code, said.err) == (0, "")
    assert "No patching" not in said.out
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    maze = load_maze_model()
    pairs = maze.pairs(n_mazes=12)
    assert f"{len(pairs)} pairs of prompts differ in one thing (target)" in page
    assert "What depends on the" not in page  # that is --contrast
    assert f"<th>head {patch(maze, pairs, site='z').top(5)[0].name}</th>" in page
    said = say("report", "--n-mazes", 12, "--causal", "--contrast", "origin", "--out", tmp_path)
    assert said.code == 0
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "pairs of prompts differ in one thing (origin) and in the answer" in page
    assert "<h2>What depends on the origin?</h2>" in page


def test_causal_sections_of_tasks_without_pairs(
    say, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ablation alone, and why; a task that has no pairs with another target takes the next change that it has."""
    monkeypatch.setattr(writing, "draw_close_up", lambda *args: [])
    said = say("report", checkpoint, "--n-mazes", 8, "--task", "path_end", "--causal", "--out", tmp_path)
    assert (said.code, said.err) == (0, "")
    why = "no pairs of task 'path_end' with another target: its answer is <PATH_END> in every maze"
    assert f"No patching: {why}." in said.out
    assert f"needs pairs of prompts: {why}." in unescape((tmp_path / "report.html").read_text(encoding="utf-8"))
    names = {p.stem for p in tmp_path.iterdir()}
    assert "direct_and_total_heads" in names
    assert not any(name.startswith("patched") for name in names)
    said = say("report", checkpoint, "--n-mazes", 8, "--task", "origin_after_path_start", "--causal", "--out", tmp_path)
    assert said.code == 0
    assert "differ in one thing (origin)" in (tmp_path / "report.html").read_text(encoding="utf-8")
    said = say("report", checkpoint, "--task", "path_end", "--causal", "--contrast", "target", "--out", tmp_path)
    assert said.code == 2
    assert why in said.err


def test_several_checkpoints_have_causal_sections_each(
    say, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "draw_close_up", lambda *args: [])
    other = small_checkpoint().write(tmp_path / "other.zanj")
    said = say("report", checkpoint, other, "--n-mazes", 8, "--causal", "--out", tmp_path / "both")
    assert (said.code, said.err) == (0, "")
    for name in ("small", "other"):
        assert (tmp_path / "both" / name / "patched_maze.png").is_file()
        assert (tmp_path / "both" / name / "direct_and_total_MLPs.png").is_file()


def bad_files(folder: Path) -> dict[str, tuple[list[object], str]]:
    """Arguments that are refused, and what the line says."""
    good = small_checkpoint().write(folder / "good.zanj")
    (folder / "empty.zanj").touch()
    (folder / "text.zanj").write_text("hello")
    (folder / "file").write_text("a file")
    (folder / "cut.zanj").write_bytes(good.read_bytes()[:-100])
    lacking = small_checkpoint()
    del lacking.state["ln_final.w"]
    lacking.write(folder / "lacking.zanj")
    damaged(model_cfg__act_fn="no\nact").write(folder / "act.zanj")
    small = ["--n-mazes", 2]
    return {
        "no file": ([folder / "none.zanj"], r"none\.zanj: no such file"),
        "folder": ([folder], "a folder, expected a .zanj file"),
        "empty": ([folder / "empty.zanj"], r"empty\.zanj: the file is empty"),
        "no zip": ([folder / "text.zanj"], r"text\.zanj: not a zip file"),
        "cut off": ([folder / "cut.zanj"], r"cut\.zanj: not a zip file, or cut off"),
        "tensor missing": ([folder / "lacking.zanj"], r"lacking\.zanj: state_dict lacks ln_final\.w"),
        "line break in a name": ([folder / "act.zanj"], r"act\.zanj: unknown activation 'no\\nact'"),
        "task": ([good, "--task", "walk"], "unknown task 'walk', expected one of path_start, "),
        "metric": ([good, *small, "--metric", "best"], "unknown metric 'best', expected one of all, cells, neighbors"),
        "reduce": ([good, *small, "--reduce", "max"], "reduce is 'mean' or 'sum', got 'max'"),
        "no mazes": ([good, "--n-mazes", 0], "n_mazes is at least 1, got 0"),
        "mazes in words": ([good, "--n-mazes", "two"], "argument --n-mazes: invalid int value: 'two'"),
        "seed in words": ([good, "--seed", "x"], "argument --seed: invalid int value: 'x'"),
        "negative seed": ([good, *small, "--seed", -1], "[Ss]eed"),
        "data set": ([good, "--dataset", folder / "none.zanj"], r"none\.zanj: no such file"),
        "no data set": ([good, "--dataset", good], r"good\.zanj: no saved data set of mazes"),
        "out": ([good, *small, "--out", folder / "file"], "file: cannot be written as a folder"),
        "out below": ([good, *small, "--out", folder / "file" / "below"], "below: cannot be written as a folder"),
        "no neighbors": (
            [good, *small, "--task", "path_start", "--metric", "neighbors"],
            "none of the 2 prompts has a token in 'neighbors'",
        ),
        "option": ([good, "--colour", "red"], "unrecognized arguments: --colour red"),
        "one name twice": ([good, good], "two checkpoints have the name 'good': give them different names"),
    }


def test_bad_input_is_one_line(say, tmp_path: Path) -> None:
    for name, (arguments, message) in bad_files(tmp_path).items():
        out = [] if "--out" in arguments else ["--out", tmp_path / "out"]
        said = say("report", *arguments, *out)
        assert said.code == 2, name
        assert said.out == "", name
        assert re.match(rf"^maze-dla[^\n]*{message}[^\n]*\n\Z", said.err), (name, said.err)
        assert "Traceback" not in said.err
    assert not list(tmp_path.glob("out/*"))


@pytest.mark.parametrize("arguments", [[], ["draw"], ["--nothing"], ["report", "--n-mazes"]])
def test_bad_commands_are_one_line(arguments: list[str], say) -> None:
    said = say(*arguments)
    assert (said.code, said.out) == (2, "")
    assert re.match(r"^maze-dla[^\n]*: error: [^\n]+\(see maze-dla[^\n]* --help\)\n\Z", said.err)


@pytest.mark.parametrize("device", ["nonsense", "cuda:99"])
def test_a_device_that_is_none(device: str, say, checkpoint: Path, tmp_path: Path) -> None:
    said = say("report", checkpoint, "--device", device, "--out", tmp_path)
    assert said.code == 2


def test_help(say) -> None:
    for arguments, word in ((["--help"], "report"), (["report", "--help"], "--n-mazes")):
        said = say(*arguments)
        assert (said.code, said.err) == (0, "")
        assert word in said.out


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


@pytest.mark.usefixtures("no_pictures")
def test_a_failed_run_leaves_the_report_as_it_was(say, checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert say("report", checkpoint, "--n-mazes", 2, "--out", out).code == 0
    before = contents(out)
    for bad in (["--task", "walk"], ["--n-mazes", 0], ["--metric", "best"], ["--dataset", tmp_path / "none"]):
        assert say("report", checkpoint, *bad, "--out", out).code == 2
        assert contents(out) == before
    assert say("report", checkpoint, "--n-mazes", 2, "--seed", 1, "--out", out).code == 0
    assert contents(out)["report.html"] != before["report.html"]


def test_an_interruption_is_one_line(say, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(writing, "draw_pictures", interrupt)
    said = say("report", checkpoint, "--n-mazes", 2, "--out", tmp_path)
    assert said == (130, "", "maze-dla: interrupted, nothing was replaced\n")
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_stops_reading_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(chosen: object) -> int:
        raise BrokenPipeError

    monkeypatch.setattr("maze_dla.cli.report._write_reports", stopped)
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    assert main(["report", "--out", str(tmp_path)]) == 0


def test_an_option_of_another_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--n-mazes", "3"]) == 2
    expected = "maze-dla compare: error: unrecognized arguments: --n-mazes (see maze-dla compare --help)\n"
    assert capsys.readouterr().err == expected
