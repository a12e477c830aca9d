"""`maze-dla ioi`, `compare` and `train ioi` as a user calls them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from maze_dla.adapters.gpt2.sources import BUNDLED
from maze_dla.cli import main
from maze_dla.report import write as writing


@pytest.fixture
def no_real_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    monkeypatch.delenv("MAZE_DLA_GPT2", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "draw_pictures", lambda *args: [])
    monkeypatch.setattr(writing, "draw_close_up", lambda *args: [])
    monkeypatch.setattr(writing, "draw_close_up", lambda *args: [])
    monkeypatch.setattr(writing, "draw_close_up", lambda *args: [])
    monkeypatch.setattr(writing, "draw_close_up", lambda *args: [])


@pytest.mark.usefixtures("no_real_weights")
def test_ioi_without_the_real_weights(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["ioi", "--out", str(tmp_path / "out")]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert re.match(r"model +tiny-ioi \(bundled with maze_dla, not gpt2-small\)$", lines[0])
    assert any(line.startswith("metric: logit difference ") for line in lines)
    assert "This is the bundled tiny model; for gpt2-small's figures give --model" in out
    assert lines[-1].endswith("and 7 pictures beside them")


@pytest.mark.usefixtures("no_real_weights", "no_pictures")
def test_ioi_with_a_folder_and_sampled_prompts(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    options = ["--model", str(BUNDLED), "--n-prompts", "12", "--seed", "3", "--device", "cpu", "--out", str(tmp_path)]
    assert main(["ioi", *options]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^model +bundled$", out, re.MULTILINE)
    assert re.search(r"^prompts +12 \(sampled prompts\)$", out, re.MULTILINE)
    assert "This is the bundled" not in out


@pytest.mark.usefixtures("no_real_weights", "no_pictures")
def test_ioi_with_interventions(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["ioi", "--causal", "--n-prompts", "6", "--out", str(tmp_path)]) == 0
    assert "and 5 pictures beside them" in capsys.readouterr().out
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "6 pairs of prompts differ in one thing (names)" in page
    assert (tmp_path / "patched_heads.png").exists()
    assert main(["ioi", "--n-prompts", "6", "--out", str(tmp_path)]) == 0
    assert not (tmp_path / "patched_heads.png").exists()


BAD = {
    "a name with a typo": (["--model", "gpt2-smal"], "did you mean 'gpt2-small'?"),
    "a model that is not here": (["--model", "gpt2-large"], "gpt2-large is not on this machine"),
    "an empty folder": (["--model", "{empty}"], "a model's folder has config.json, this one holds nothing"),
    "no prompts": (["--n-prompts", "0"], "n_prompts is a whole number of at least 1 and at most 1000000, got 0"),
    "a seed that is none": (["--n-prompts", "3", "--seed", "-1"], "seed is a whole number of at least 0, got -1"),
    "a file that is not there": (["--model", "nothing.pth"], "nothing.pth: no such file or folder"),
}


@pytest.mark.usefixtures("no_real_weights")
@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line(name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    arguments, expected = BAD[name]
    filled = [a.format(empty=tmp_path / "empty") for a in arguments]
    assert main(["ioi", *filled, "--out", str(tmp_path / "out")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("maze-dla: error: ")
    assert expected in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("no_real_weights")
def test_compare_without_results(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["compare", "--n-prompts", "20", "--out", str(tmp_path / "out")]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines()[0].split("  ")[0] == ""
    for row in ("written by attention", "moved by heads from: target", "moved by heads from: indirect object"):
        assert re.search(rf"^{row} +", out, re.MULTILINE)
    assert {f.name for f in (tmp_path / "out").iterdir()} == {"comparison.csv", "comparison.png"}


@pytest.mark.usefixtures("no_real_weights", "no_pictures")
def test_compare_saved_results(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["ioi", "--out", str(tmp_path / "a")]) == 0
    assert main(["ioi", "--n-prompts", "6", "--out", str(tmp_path / "b")]) == 0
    files = [str(tmp_path / name / "result.zanj") for name in "ab"]
    capsys.readouterr()
    assert main(["compare", *files, "--out", str(tmp_path / "c")]) == 0
    head = capsys.readouterr().out.splitlines()[0]
    assert "IOI, the eight standard prompts" in head
    assert "IOI, sampled prompts" in head
    assert main(["compare", files[0], str(tmp_path / "nothing.zanj"), "--out", str(tmp_path / "c")]) == 2
    assert "nothing.zanj: no such file" in capsys.readouterr().err
    assert main(["compare", files[0], "--n-prompts", "5", "--out", str(tmp_path / "c")]) == 2
    assert "are for a comparison without saved results" in capsys.readouterr().err


def test_training_the_ioi_model(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["train", "ioi", "--steps", "2", "--device", "cpu", "--out", str(tmp_path / "run")]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^step 2  loss \d\.\d+", out, re.MULTILINE)
    assert re.search(r"^held-out logit difference: -?\d.* logits, positive on 0\.\d+ \[", out, re.MULTILINE)
    assert (tmp_path / "run" / "model.safetensors").exists()
    for model in ("ioi", "maze"):
        assert main(["train", model, "--device", "meta", "--out", str(tmp_path / "none")]) == 2
        assert "device 'meta' holds shapes and no numbers" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
    assert main(["train", "gpt5", "--out", str(tmp_path / "run")]) == 2
    assert "unknown model 'gpt5', expected one of maze, ioi" in capsys.readouterr().err
