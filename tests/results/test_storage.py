"""Results in files: they come back as they were, or an error says why not."""

from __future__ import annotations

import json
import os
import re
import zipfile
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from zanj import ZANJ

import maze_dla
from maze_dla.errors import MazeDlaError, ResultFileError
from maze_dla.results.attribution import AttributionResult, ContributionResult
from maze_dla.results.lens import LensResult, TokenLensResult
from maze_dla.results.loading import KINDS, Loaded, load_result
from maze_dla.results.storage import save_result
from maze_dla.results.streaming import stream

LAYERS, HEADS, NEURONS, POSITIONS = 2, 3, 200, 7


def random(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(sum(shape)))


def shared(n: int) -> dict[str, Any]:
    return {
        "metric": random(n),
        "correct": torch.arange(n) % 2 == 0,
        "prompt_tokens": tuple(
            (("<PATH_START>", "(0,1)", 'quote " \\ \u03b1') * 3)[: POSITIONS - i % 3] for i in range(n)
        ),
        "targets": tuple(f"({i},0)" for i in range(n)),
        "info": {"model": "tiny", "seed": 3, "prepend_bos": True, "sha256": "ab" * 32, "metric": "logit", "none": None},
    }


def attribution(n: int, full: bool) -> AttributionResult:
    more: dict[str, Any] = {}
    if full:
        neurons = random(n, LAYERS, NEURONS).double()
        variance = neurons.var(0) if n > 1 else torch.full_like(neurons[0], torch.nan)
        more = {"neurons": neurons.float(), "neuron_mean": neurons.mean(0), "neuron_variance": variance}
        own = torch.tensor([len(tokens) for tokens in shared(n)["prompt_tokens"]])[:, None, None, None]
        scores = random(n, LAYERS, HEADS, POSITIONS).masked_fill(torch.arange(POSITIONS) >= own, -torch.inf)
        more |= {"patterns": scores.softmax(-1), "sources": random(n, LAYERS, HEADS, POSITIONS) * scores.softmax(-1)}
    labels = ("embed", "pos_embed", "0_attn_out", "0_mlp_out", "1_attn_out", "1_mlp_out")
    heads, attn_bias, mlp_bias = random(n, LAYERS, HEADS), random(n, LAYERS), random(n, LAYERS)
    heads = more["sources"].sum(-1) if full else heads
    layers = random(n, len(labels))
    layers[:, [2, 4]] = heads.sum(-1) + attn_bias
    if full:
        layers[:, [3, 5]] = more["neurons"].sum(-1) + mlp_bias
    constant = random(n)
    metric = layers.sum(1) + constant
    return AttributionResult(
        **{**shared(n), "metric": metric},
        layers=layers,
        layer_labels=labels,
        heads=heads,
        attn_bias=attn_bias,
        mlp_bias=mlp_bias,
        constant=constant,
        gap=metric.double() - layers.double().sum(1) - constant.double(),
        final_scale=random(n).abs(),
        **more,
    )


def lens(n: int) -> LensResult:
    values = random(n, 3)
    values[:, -1] = random(n)  # the metric
    return LensResult(**shared(n), values=values, labels=("0_pre", "0_mid", "final_post"), scale="own")


def token_lens(n: int, *positions: int) -> TokenLensResult:
    """The array that a vocabulary of ten tokens would be read as, the target being the first of them."""
    log_probs = random(n, *positions, 3, 10).log_softmax(-1)
    final = log_probs[..., -1:, :]
    top = log_probs.topk(2, dim=-1)
    numbers = {
        "top_ids": top.indices,
        "top_probs": top.values.exp(),
        "target_rank": (log_probs > log_probs[..., :1]).sum(-1),
        "entropy": -(log_probs.exp() * log_probs).sum(-1),
        "kl": (final.exp() * (final - log_probs)).sum(-1).clamp_min(0),
    }
    described = shared(n)
    lengths = torch.tensor([len(tokens) for tokens in described["prompt_tokens"]])
    at_end = numbers["target_rank"][:, -1]
    if positions:
        at_end = numbers["target_rank"][torch.arange(n), lengths - 1, -1]
        padding = torch.arange(positions[0]) >= lengths[:, None]
        for values in numbers.values():
            values[padding] = torch.nan if values.is_floating_point() else -1
    described["correct"] = at_end == 0
    names = {v: f"<{v}>" for v in range(10)}
    return TokenLensResult(
        **described, **numbers, labels=("0_pre", "0_mid", "final_post"), scale="final", token_names=names
    )


def contributions(result: AttributionResult) -> ContributionResult:
    """The same without what is not linear."""
    return ContributionResult(**{f.name: getattr(result, f.name) for f in fields(ContributionResult)})


RESULTS: dict[str, Loaded] = {
    "attribution": attribution(5, full=False),
    "attribution with all": attribution(5, full=True),
    "attribution of one prompt": attribution(1, full=True),
    "contributions": contributions(attribution(5, full=False)),
    "lens": lens(4),
    "lens of one prompt": lens(1),
    "lens of many": lens(300),
    "token lens": token_lens(3),
    "token lens at all positions": token_lens(2, POSITIONS),
    "stream": stream(lambda batch: batch, [attribution(5, full=True), attribution(3, full=True)]),  # pyright: ignore
}


def assert_same(seen: Loaded, expected: Loaded) -> None:
    assert type(seen) is type(expected)
    for f in fields(expected):
        a, b = getattr(seen, f.name), getattr(expected, f.name)
        assert type(a) is type(b), f.name
        if isinstance(b, dict) and f.name in ("means", "variances", "errors", "bucket_sums"):
            assert a.keys() == b.keys()
            assert all(np.array_equal(a[name].numpy(), b[name].numpy(), equal_nan=True) for name in b)
        elif isinstance(b, Tensor):
            assert a.dtype == b.dtype, f.name
            assert np.array_equal(a.numpy(), b.numpy(), equal_nan=b.is_floating_point()), f.name
        else:
            assert a == b, f.name


@pytest.mark.parametrize("name", RESULTS)
def test_round_trip(name: str, tmp_path: Path) -> None:
    file = RESULTS[name].save(tmp_path / "new" / "folder" / "result.zanj")
    assert file == tmp_path / "new" / "folder" / "result.zanj"
    assert [p.name for p in file.parent.iterdir()] == ["result.zanj"]
    loaded = load_result(str(file))
    assert_same(loaded, RESULTS[name])
    again = loaded.save(tmp_path / "again.zanj")
    assert_same(load_result(again), RESULTS[name])


def test_other_results_are_told_apart() -> None:
    for other in (lens(5), attribution(5, full=True)):
        with pytest.raises(AssertionError):
            assert_same(other, RESULTS["attribution"])


def test_versions_are_recorded(tmp_path: Path) -> None:
    content = main_of(lens(2).save(tmp_path / "r.zanj"))
    assert set(content["versions"]) >= {"maze_dla", "torch", "transformer-lens", "maze-dataset", "muutils", "zanj"}
    assert content["versions"]["torch"] == torch.__version__
    assert maze_dla.__version__
    assert content["kind"] == "LensResult"
    assert content["format_version"] == 1


def test_the_file_names_no_place_on_the_machine(tmp_path: Path) -> None:
    file = attribution(2, full=True).save(tmp_path / "r.zanj")
    places = [
        str(tmp_path),
        str(Path.cwd()),
        str(Path.home()) + os.sep,
        str(Path(maze_dla.__file__).parent),
    ]
    with zipfile.ZipFile(file) as archive:
        texts = {name: archive.read(name).decode("latin-1") for name in archive.namelist()}
    found = [(name, place) for name, text in texts.items() for place in places if place in text]
    assert found == []


def main_of(file: Path) -> dict[str, Any]:
    with zipfile.ZipFile(file) as archive:
        return json.loads(archive.read("__zanj__.json"))


def rewritten(file: Path, change: Any) -> Path:
    """The file with its main JSON changed."""
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    content = json.loads(members["__zanj__.json"])
    change(content)
    members["__zanj__.json"] = json.dumps(content).encode()
    with zipfile.ZipFile(file, "w") as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    return file


@pytest.mark.parametrize("problem", [OSError(28, "No space left on device"), RuntimeError("no serialisation")])
def test_a_failed_save_leaves_the_old_file(problem: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = lens(2).save(tmp_path / "r.zanj")
    before = file.read_bytes()

    def fail(self: ZANJ, content: Any, path: str) -> None:
        Path(path).write_bytes(b"half")
        raise problem

    monkeypatch.setattr(ZANJ, "save", fail)
    kind = ResultFileError if isinstance(problem, OSError) else RuntimeError
    message = rf"^{re.escape(str(file))}: cannot be written \(No space" if kind is ResultFileError else "no serial"
    with pytest.raises(kind, match=message):
        attribution(3, full=True).save(file)
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]
    assert_same(load_result(file), lens(2))


def test_a_save_replaces_what_was_there(tmp_path: Path) -> None:
    lens(2).save(tmp_path / "r.zanj")
    attribution(3, full=False).save(tmp_path / "r.zanj")
    assert_same(load_result(tmp_path / "r.zanj"), attribution(3, full=False))


@pytest.mark.parametrize("name", ["r", "r.json", "r.zanj.bak", "zanj"])
def test_another_suffix(name: str, tmp_path: Path) -> None:
    with pytest.raises(
        ResultFileError, match=f"^{re.escape(str(tmp_path / name))}: a result's file name ends in .zanj$"
    ):
        lens(2).save(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    for path in (tmp_path / "file" / "r.zanj", tmp_path / "file" / "deeper" / "r.zanj"):
        with pytest.raises(ResultFileError, match=f"^{re.escape(str(path))}: cannot be written"):
            save_result(lens(2), path)
    (tmp_path / "taken.zanj").mkdir()
    with pytest.raises(ResultFileError, match=r"taken\.zanj: cannot be written"):
        lens(2).save(tmp_path / "taken.zanj")


def refused(file: Path, message: str) -> None:
    with pytest.raises(ResultFileError, match=f"^{re.escape(str(file))}: {message}") as error:
        load_result(file)
    assert isinstance(error.value, MazeDlaError)


def test_what_is_no_saved_result(tmp_path: Path) -> None:
    refused(tmp_path / "none.zanj", "no such file")
    refused(tmp_path, r"a folder, expected a \.zanj file")
    ZANJ().save({"kind": "Other", "fields": {}}, str(tmp_path / "other.zanj"))
    refused(tmp_path / "other.zanj", "no saved result, it holds .*kind, fields")
    ZANJ().save({"mazes": 3}, str(tmp_path / "mazes.zanj"))
    refused(tmp_path / "mazes.zanj", "no saved result, it holds .*mazes")
    cut = lens(2).save(tmp_path / "cut.zanj")
    cut.write_bytes(cut.read_bytes()[:-50])
    refused(cut, "not a zip file, or cut off")


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_another_format_version(version: Any, tmp_path: Path) -> None:
    file = rewritten(lens(2).save(tmp_path / "r.zanj"), lambda c: c.update(format_version=version))
    refused(file, f"format version {version}, expected 1")


@pytest.mark.parametrize("name", RESULTS)
def test_a_field_that_is_missing(name: str, tmp_path: Path) -> None:
    result = RESULTS[name]
    lost = [f.name for f in fields(result) if f.default is f.default_factory is MISSING][1::4]
    file = rewritten(result.save(tmp_path / "r.zanj"), lambda c: [c["fields"].pop(f) for f in lost])
    refused(file, f"the {type(result).__name__} lacks {', '.join(lost)}$")


def test_fields_that_came_later_may_be_missing(tmp_path: Path) -> None:
    result = RESULTS["attribution"]
    file = rewritten(
        result.save(tmp_path / "r.zanj"), lambda c: [c["fields"].pop(f) for f in ("kinds", "sources_by_kind")]
    )
    assert_same(load_result(file), result)


def test_a_field_that_nobody_knows_is_left_out(tmp_path: Path) -> None:
    file = rewritten(lens(2).save(tmp_path / "r.zanj"), lambda c: c["fields"].update(later=3))
    assert_same(load_result(file), lens(2))


def test_all_kinds_are_known() -> None:
    others = {"ContrastResult", "GroupedResult"}  # test_contrast_files.py and test_groups.py
    others |= {"RolloutResult"}  # adapters/mazes/test_rollouts.py
    others |= {"PatchResult", "EffectResult", "CircuitResult", "SteerResult"}  # test_causal_files.py
    others |= {"AttentionResult", "HeadScores", "DistanceResult"}  # test_attention_results.py
    others |= {"ActivationResult", "SeparabilityResult", "MlpOutliersResult"}  # in a file of their own each
    assert {type(result).__name__ for result in RESULTS.values()} | others == set(KINDS)


DAMAGE: dict[str, Any] = {
    "kind that is a list": lambda c: c.update(kind=["LensResult"]),
    "text that is no JSON": lambda c: c["fields"].update(labels={"json": "[1"}),
    "info of another form": lambda c: c["fields"].update(info={"json": "[1, 2]"}),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_fields(name: str, tmp_path: Path) -> None:
    refused(rewritten(lens(2).save(tmp_path / "r.zanj"), DAMAGE[name]), "")


@pytest.mark.parametrize(
    "info", [{("a", 1): 2}, {3: "x"}, {"weights": torch.zeros(2)}, {"x": {"y": np.zeros((2, 3))}}, {"x": {2: 3}}]
)
def test_info_that_cannot_be_saved_is_named(info: Any, tmp_path: Path) -> None:
    with pytest.raises(ResultFileError, match=r"r\.zanj: info "):
        replace(lens(2), info=info).save(tmp_path / "r.zanj")
    assert list(tmp_path.iterdir()) == []


def test_a_member_that_is_there_twice(tmp_path: Path) -> None:
    file = lens(2).save(tmp_path / "r.zanj")
    with zipfile.ZipFile(file, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("__zanj__.json", archive.read("__zanj__.json"))
    refused(file, "member __zanj__.json is there twice, expected once")


def test_info_with_numbers_of_numpy(tmp_path: Path) -> None:
    result = lens(2)
    with_numpy = LensResult(
        **{**{f.name: getattr(result, f.name) for f in fields(result)}, "info": {"seed": np.int64(3)}}
    )
    assert load_result(with_numpy.save(tmp_path / "r.zanj")).info == {"seed": 3}
