"""Vectors added to the stream, against hooks that add them; what vectors there are; random directions beside them."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

import maze_dla as dla
from maze_dla.engine.metrics import LinearMetric
from maze_dla.engine.prompts import PromptBatch
from maze_dla.errors import InputError, ModelError
from tests.engine.pairs_of_tokens import random_pairs
from tests.engine.small_models import make_batch, shared_model

from .one_at_a_time import Put, coefficients_of, counted, prompt, run, writes

STRENGTHS = (0.0, 0.5, -2.0)


@pytest.fixture(scope="module")
def model() -> Any:
    return shared_model(torch.float64)


@pytest.fixture(scope="module")
def batch() -> PromptBatch:
    return random_pairs((9, 5, 7)).clean


@pytest.fixture(scope="module")
def metric(batch: PromptBatch) -> LinearMetric:
    return dla.correct_vs_other(batch)


@pytest.fixture(scope="module")
def vector() -> Tensor:
    return torch.randn(24, generator=torch.Generator().manual_seed(8), dtype=torch.float64)


@pytest.mark.parametrize("forward", ["auto", "hooked"])
@pytest.mark.parametrize("positions", ["read", "all", 2])
@pytest.mark.parametrize("site", ["resid_pre", "resid_mid"])
def test_steering_is_a_hook_that_adds(
    model: Any, batch: PromptBatch, metric: LinearMetric, vector: Tensor, site: Any, positions: Any, forward: Any
) -> None:
    coefficients = coefficients_of(metric)
    for layer in (0, 1):
        options: Any = {"layer": layer, "site": site, "strengths": STRENGTHS, "positions": positions, "controls": 1}
        found = dla.steer(model, batch, metric, vector, **options, forward=forward)
        assert found.correct_after is not None
        for i in range(len(batch)):
            last = int(batch.lengths[i]) - 1
            held = run(model, prompt(batch, i), names=("resid_pre", "attn_out", "resid_mid"))[site, layer]
            at = {"read": [last], "all": range(last + 1), 2: [last - 2]}[positions]
            for k, strength in enumerate(STRENGTHS):
                puts = [Put(site, layer, p, held[p] + strength * vector) for p in at]
                logits = run(model, prompt(batch, i), puts, names=())["logits", 0]
                torch.testing.assert_close(found.values[i, k], logits @ coefficients[i])
                assert found.answers[i][k] == str(int(logits.argmax()))
                assert bool(found.correct_after[i, k]) == (int(logits.argmax()) == int(batch.targets[i]))
        torch.testing.assert_close(found.values[:, 0], found.metric)
        torch.testing.assert_close(found.control[..., 0], found.metric[:, None])
        moved = (found.values[:, 2] - found.metric).abs().max()
        unread = (layer, site, positions) == (1, "resid_mid", 2)  # behind the last attention nothing looks back
        assert moved < 1e-12 if unread else moved > 1e-3


def test_controls_have_the_vectors_length(model: Any, batch: PromptBatch, metric: LinearMetric, vector: Tensor) -> None:
    view, counting = counted(model)
    found = dla.steer(view, batch, metric, 3 * vector, layer=1, strengths=[1.0], controls=4, seed=6)
    (plain,) = counting.plain
    held = next(
        values
        for site, values in plain.items()
        if site.name == "resid_pre" and site.layer == 1 and site.position == "read"
    )
    added = torch.stack([edit.values - held for edit in counting.edits])
    assert added.shape == (5, 3, 24)
    torch.testing.assert_close(added[0], (3 * vector).expand(3, -1))
    torch.testing.assert_close(added.norm(dim=-1), (3 * vector.norm()).expand(5, 3))
    cosines = torch.nn.functional.cosine_similarity(added[:, None, 0], added[None, :, 0], dim=-1)
    assert (cosines - torch.eye(5)).abs().max() < 0.9
    again = dla.steer(model, batch, metric, 3 * vector, layer=1, strengths=[1.0], controls=4, seed=6)
    other = dla.steer(model, batch, metric, 3 * vector, layer=1, strengths=[1.0], controls=4, seed=7)
    assert torch.equal(again.control, found.control)
    assert not torch.allclose(other.control, found.control)
    assert torch.equal(other.values, found.values)
    assert found.info["vector_norm"] == pytest.approx(3 * float(vector.norm()))
    assert dla.steer(model, batch, metric, vector, layer=1, controls=0).control.shape == (3, 0, 4)


@pytest.mark.parametrize("forward", ["auto", "hooked"])
@pytest.mark.parametrize("site", ["resid_pre", "resid_mid"])
def test_difference_of_means(model: Any, batch: PromptBatch, site: Any, forward: Any) -> None:
    other = make_batch((6, 8), seed=4)
    means = []
    for prompts in (batch, other):
        runs = [
            run(model, prompt(prompts, i), names=("resid_pre", "attn_out", "resid_mid")) for i in range(len(prompts))
        ]
        means.append(torch.stack([found[site, 1][-1] for found in runs]).mean(0))
    found = dla.difference_of_means(model, batch, other, layer=1, site=site, forward=forward)
    torch.testing.assert_close(found, means[0] - means[1])
    torch.testing.assert_close(dla.difference_of_means(model, batch, batch, layer=1), torch.zeros(24).double())


@pytest.mark.parametrize("site", ["z", "pattern", "neurons", "logits"])
def test_a_difference_of_means_is_a_vector_of_the_stream(model: Any, batch: PromptBatch, site: str) -> None:
    with pytest.raises(InputError, match="site is one of resid_pre, resid_mid, attn_out, mlp_out, got"):
        dla.difference_of_means(model, batch, batch, layer=0, site=site)


def test_weights_that_are_no_numbers_have_no_vectors(model: Any, batch: PromptBatch, metric: LinearMetric) -> None:
    broken = copy.deepcopy(model)
    broken.blocks[0].mlp.W_out.data[3] = torch.nan
    assert dla.difference_of_means(broken, batch, batch.select([1]), layer=0).isfinite().all()
    for of in (
        lambda: dla.difference_of_means(broken, batch, batch.select([1]), layer=1),
        lambda: dla.component_mean(broken, batch.select([1, 0]), "0_mlp_out"),
        lambda: dla.ablate(broken, batch, metric, parts=["0_mlp_out"]),
    ):
        with pytest.raises(ModelError, match=r"prompt 0: \w+ of layer \d has numbers that are not finite.*weights"):
            of()
    broken.unembed.W_U.data[:] = torch.nan
    with pytest.raises(ModelError, match="direction is not finite"):
        dla.unembedding_direction(broken, batch, metric)


def test_component_mean(model: Any, batch: PromptBatch) -> None:
    runs = [run(model, prompt(batch, i)) for i in range(len(batch))]
    for name in ("attn_out", "mlp_out"):
        expected = torch.stack([found[name, 0][-1] for found in runs]).mean(0)
        torch.testing.assert_close(dla.component_mean(model, batch, f"0_{name}"), expected)
    head = torch.stack([found["z", 1][-1, 2] for found in runs]).mean(0) @ model.W_O[1, 2].detach()
    for given in ("L1H2", (1, 2)):
        torch.testing.assert_close(dla.component_mean(model, batch, given), head)
    with pytest.raises(InputError, match="part is a head, an attention layer or an MLP"):
        dla.component_mean(model, batch, "L0N3")


def test_unembedding_direction(model: Any, batch: PromptBatch, metric: LinearMetric) -> None:
    """What a vector writes to the mean metric is its share of that direction."""
    found = dla.unembedding_direction(model, batch, metric)
    assert float(found.norm()) == pytest.approx(1.0)
    vectors = torch.cat([found[None], torch.randn(4, 24, dtype=torch.float64)])
    written = torch.stack([writes(model, vectors, c) for c in coefficients_of(metric)]).mean(0)
    torch.testing.assert_close(written / written[0], vectors @ found)
    assert written[0] > 0
    zero = dla.linear_metric(batch.select([0, 0]), torch.tensor([[1.0, -1.0, *[0.0] * 21], [-1.0, 1.0, *[0.0] * 21]]))
    with pytest.raises(InputError, match="cancel each other"):
        dla.unembedding_direction(model, batch.select([0, 0]), zero)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vector": torch.ones(23)}, r"vector has shape \(23,\), the model's stream has 24 numbers"),
        ({"vector": torch.zeros(24)}, "length zero"),
        ({"vector": torch.full((24,), torch.nan)}, "not finite"),
        ({"layer": 2}, "layer is below the 2 layers of the model, got 2"),
        ({"layer": -1}, "layer"),
        ({"site": "z"}, "site is one of resid_pre, resid_mid, got 'z'"),
        ({"strengths": []}, "strengths are one or more finite numbers"),
        ({"strengths": [torch.inf]}, "strengths are one or more finite numbers"),
        ({"positions": "last"}, "positions is 'read', 'all', or how many"),
        ({"positions": -1}, "positions"),
        ({"positions": 5}, r"where prompt 1 of 5 tokens has none \(1 of 3 prompts"),
        ({"controls": -1}, "controls"),
    ],
)
def test_what_cannot_be_steered(
    model: Any, batch: PromptBatch, metric: LinearMetric, vector: Tensor, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        dla.steer(model, batch, metric, **{"vector": vector, "layer": 0, **options})


def test_a_stream_that_a_model_lacks(batch: PromptBatch, metric: LinearMetric, vector: Tensor) -> None:
    model = shared_model(attn_only=True)
    with pytest.raises(InputError, match="site is one of resid_pre, got 'resid_mid'"):
        dla.steer(model, batch, metric, vector, layer=0, site="resid_mid")
    with pytest.raises(ModelError, match="resid_mid"):
        dla.difference_of_means(model, batch, batch, layer=0, site="resid_mid")
