"""Tables of contributions: at every level a sum over the rows of a prompt is its metric."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import maze_dla as dla
from maze_dla.errors import InputError
from maze_dla.results.frames import contribution_frame
from tests.engine.small_models import make_batch, random_metric, shared_model

COLUMNS = ["prompt", "level", "component", "layer", "head", "neuron", "position", "source", "contribution"]
LAYERS, HEADS, NEURONS, N = 2, 3, 40, 3
LENGTHS = (5, 9, 3)


@pytest.fixture(scope="module")
def result() -> dla.AttributionResult:
    batch = make_batch(LENGTHS)
    return dla.attribute(shared_model(), batch, random_metric(batch), neurons=True, sources=True)


def by_kind() -> dla.AttributionResult:
    batch = make_batch(LENGTHS, kinds=("a", "b"), sequence_kinds=torch.arange(27).reshape(3, 9) % 2)
    return dla.attribute(shared_model(), batch, random_metric(batch), sources="kinds")


@pytest.mark.parametrize("level", ["layer", "head", "neuron", "source"])
def test_rows_sum_to_the_metric_at_every_level(result: dla.AttributionResult, level: Any) -> None:
    table = result.to_frame(level)
    assert list(table.columns) == COLUMNS
    assert [str(table[name].dtype) for name in ("layer", "head", "neuron", "position")] == ["Int64"] * 4
    assert np.allclose(table.groupby("prompt")["contribution"].sum(), result.metric.numpy(), atol=1e-4)
    of_blocks = table[table["level"] != "constant"].groupby(["prompt", "layer"])["contribution"].sum().unstack()
    written = result.of_kind("attn_out") + result.of_kind("mlp_out")
    assert np.allclose(of_blocks.to_numpy(dtype=float), written.numpy(), atol=1e-4)
    assert not np.allclose(table.iloc[1:].groupby("prompt")["contribution"].sum(), result.metric.numpy(), atol=1e-4)


def test_layers_are_the_default(result: dla.AttributionResult) -> None:
    table = result.to_frame()
    assert table.equals(result.to_frame("layer"))
    assert len(table) == N * (1 + len(result.layer_labels))
    wide = table.pivot_table(index="prompt", columns="component", values="contribution")
    assert np.array_equal(wide[list(result.layer_labels)].to_numpy(), result.layers.numpy())
    assert np.array_equal(wide["constant"].to_numpy(), result.constant.numpy())
    layer = table.groupby("component", sort=False)["layer"].first()
    seen = {name: None if pd.isna(i) else int(i) for name, i in layer.items()}
    blocks = {f"{i}_{half}": i for i in range(LAYERS) for half in ("attn_out", "mlp_out")}
    assert seen == {"constant": None, "embed": None, "pos_embed": None, **blocks}


def test_heads_stand_in_place_of_attention(result: dla.AttributionResult) -> None:
    table = result.to_frame("head")
    assert set(table["level"]) == {"constant", "layer", "head", "bias"}
    assert not table["component"].str.endswith("attn_out").any()
    heads = table[table["level"] == "head"]
    assert len(heads) == N * LAYERS * HEADS
    for row in heads.itertuples():
        assert row.contribution == float(result.heads[row.prompt, row.layer, row.head])
        assert row.component == f"L{row.layer}H{row.head}"
    bias = table[table["level"] == "bias"]
    assert np.array_equal(bias["contribution"].to_numpy().reshape(N, LAYERS), result.attn_bias.numpy())


def test_neurons_stand_in_place_of_mlps(result: dla.AttributionResult) -> None:
    table = result.to_frame("neuron")
    neurons = table[table["level"] == "neuron"]
    assert len(neurons) == N * LAYERS * NEURONS
    assert result.neurons is not None
    assert np.array_equal(neurons["contribution"].to_numpy(), result.neurons.flatten().numpy())
    assert neurons["component"].iloc[NEURONS + 1] == "L1N1"
    bias = table[table["level"] == "bias"]
    assert bias["component"].tolist() == ["0_mlp_bias", "1_mlp_bias"] * N


def test_sources_name_their_tokens(result: dla.AttributionResult) -> None:
    table = result.to_frame("source")
    sources = table[table["level"] == "source"]
    assert len(sources) == LAYERS * HEADS * sum(LENGTHS)  # none after a prompt's end
    assert result.sources is not None
    for row in sources.iloc[::7].itertuples():
        assert row.contribution == float(result.sources[row.prompt, row.layer, row.head, row.position])
        assert row.source == result.prompt_tokens[row.prompt][row.position]
    kinds = by_kind().to_frame("source")
    kinds = kinds[kinds["level"] == "source"]
    assert kinds["source"].tolist() == ["a", "b"] * (N * LAYERS * HEADS)
    heads = kinds.groupby(["prompt", "layer", "head"])["contribution"].sum().to_numpy(dtype=float)
    assert np.allclose(heads, by_kind().heads.flatten().numpy(), atol=1e-5)


def test_levels_that_are_not_there() -> None:
    batch = make_batch(LENGTHS)
    plain = dla.attribute(shared_model(), batch, random_metric(batch), neurons="mean")
    with pytest.raises(InputError, match=r"^this result has no sources: ask with attribute\(..., sources=True\)"):
        plain.to_frame("source")
    with pytest.raises(InputError, match=r"^this result has no neurons: ask with"):
        plain.to_frame("neuron")
    with pytest.raises(InputError, match=r"^level is one of 'layer', 'head', 'neuron', 'source', got 'all'$"):
        contribution_frame(plain, "all")
