"""gpt2-small's textbook figures, where its real weights are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import maze_dla as dla
from maze_dla.adapters.gpt2.sources import FOLDER_VARIABLE, GPT2_SMALL, _on_this_machine


@pytest.fixture(scope="module")
def reference(test_data: Path) -> Any:
    return json.loads((test_data / "reference" / "ioi_gpt2_small.json").read_text())


@pytest.fixture(scope="module")
def gpt2() -> Any:
    """gpt2-small, its weights folded and centred as they were for the reference: heads depend on it."""
    if _on_this_machine(GPT2_SMALL) is None:
        pytest.skip(f"gpt2-small's real weights are not here: {FOLDER_VARIABLE} names no folder, no hub cache has them")
    model = dla.load_gpt2("gpt2-small")
    if hasattr(model, "enable_compatibility_mode"):
        model.enable_compatibility_mode(disable_warnings=True)
    else:  # a HookedTransformer
        model.process_weights_()
    return model


@pytest.fixture(scope="module")
def result(gpt2: Any) -> dla.AttributionResult:
    batch = dla.ioi_prompts(gpt2)
    return dla.attribute(gpt2, batch, dla.logit_diff(batch))


def close(found: torch.Tensor, expected: Any, atol: float) -> None:
    torch.testing.assert_close(found.double(), torch.tensor(expected).double(), rtol=0, atol=atol)


def test_logit_differences(result: dla.AttributionResult, reference: Any) -> None:
    close(result.metric, reference["logit_diff_per_prompt"], 0.002)
    assert float(result.metric.mean()) == pytest.approx(reference["logit_diff_mean"], abs=0.002)


def test_final_norm_scales(result: dla.AttributionResult, reference: Any) -> None:
    close(result.final_scale, reference["final_norm_scale_last_position"], 0.01)


def test_depths(result: dla.AttributionResult, reference: Any) -> None:
    lens = result.lens()
    assert list(lens.labels) == reference["logit_lens"]["labels"]
    close(lens.values.mean(0), reference["logit_lens"]["values"], 0.005)


def test_layers(result: dla.AttributionResult, reference: Any) -> None:
    assert list(result.layer_labels) == reference["layer_attribution"]["labels"]
    close(result.layers.mean(0), reference["layer_attribution"]["values"], 0.005)


def test_heads(result: dla.AttributionResult, reference: Any) -> None:
    close(result.heads.mean(0), reference["head_attribution_layer_by_head"], 0.005)


def test_weights_as_stored_give_the_same_logit_differences(reference: Any, gpt2: Any) -> None:
    stored = dla.load_gpt2("gpt2-small")
    batch = dla.ioi_prompts(stored)
    close(dla.attribute(stored, batch, dla.logit_diff(batch)).metric, reference["logit_diff_per_prompt"], 0.002)


MAPS = {"resid_pre": "resid_pre", "attn_out": "attn_out", "mlp_out": "mlp_out"}
MAPS |= {"z": "head_z", "v": "head_v", "pattern": "head_pattern"}


@pytest.mark.parametrize("site", MAPS)
def test_patching_maps(gpt2: Any, reference: Any, site: str) -> None:
    """Clean into corrupted, each pair of prompts swapped: 0 where the metric is the corrupted one, 1 the clean one."""
    pairs = dla.ioi_pairs(gpt2, change="names")
    patched = dla.patch(gpt2, pairs, site=site)
    assert float(patched.corrupted.mean()) == pytest.approx(-reference["logit_diff_mean"], abs=0.002)
    (maps,) = (value for value in reference.values() if isinstance(value, dict) and "head_pattern" in value)
    close(patched.recovered.mean, maps[MAPS[site]], 0.01)


def test_zeroing_a_name_mover(gpt2: Any) -> None:
    batch = dla.ioi_prompts(gpt2)
    effects = dla.ablate(gpt2, batch, dla.logit_diff(batch), parts=["L9H9"], value="zero", positions="read")
    assert float(effects.metric.mean()) == pytest.approx(3.55, abs=0.01)
    assert float((effects.metric + effects.total[:, 0]).mean()) == pytest.approx(2.92, abs=0.01)
