"""Results built by hand: their order, their tables and what they say of themselves."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from maze_dla.results.attribution import AttributionResult
from maze_dla.results.lens import LensResult, TokenLensResult

N, LAYERS, HEADS = 4, 2, 3
LABELS = ("embed", "pos_embed", "0_attn_out", "0_mlp_out", "1_attn_out", "1_mlp_out")


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def shared(metric: Tensor, **more: Any) -> dict[str, Any]:
    return {
        "metric": metric,
        "correct": torch.tensor([True, True, True, False]),
        "prompt_tokens": (("a", "b"),) * N,
        "targets": ("c",) * N,
        "info": {"model": "tiny", "task": "origin", "metric": "logit of the target"},
        **more,
    }


def attribution(**changes: Any) -> AttributionResult:
    """A result whose numbers do add up."""
    heads, attn_bias, mlps = random(N, LAYERS, HEADS), random(N, LAYERS, seed=1), random(N, LAYERS, seed=2)
    written = torch.stack([heads.sum(-1) + attn_bias, mlps], -1).flatten(1)
    layers, constant = torch.cat([random(N, 2, seed=3), written], 1), random(N, seed=4)
    fields = shared(
        layers.sum(1) + constant,
        layers=layers,
        layer_labels=LABELS,
        heads=heads,
        attn_bias=attn_bias,
        mlp_bias=random(N, LAYERS, seed=5),
        constant=constant,
        gap=torch.tensor([0.0, -3e-7, 1e-8, 0.0]),
        final_scale=torch.ones(N),
    )
    return AttributionResult(**{**fields, **changes})


def lens(metric: Tensor, values: Tensor, labels: tuple[str, ...], **changes: Any) -> LensResult:
    return LensResult(**{**shared(metric), "values": values, "labels": labels, "scale": "own", **changes})


def token_lens(*positions: int) -> TokenLensResult:
    shape = (N, *positions, 2)
    ids = torch.arange(N * 4 * int(np.prod(positions or 1))).reshape(*shape, 2) % 5
    numbers = {name: random(*shape, seed=i).abs() for i, name in enumerate(("entropy", "kl"))}
    return TokenLensResult(
        **shared(random(N)),
        top_ids=ids,
        top_probs=random(*shape, 2).abs(),
        target_rank=torch.zeros(shape, dtype=torch.long),
        **numbers,
        labels=("0_pre", "final_post"),
        scale="own",
        token_names={v: f"<{v}>" for v in range(5)},
    )


def test_top_heads_are_the_strongest_in_either_direction() -> None:
    heads = torch.zeros(N, LAYERS, HEADS)
    heads[:, 0, 2], heads[:, 1, 0], heads[:, 1, 1] = -3.0, 2.0, torch.tensor([8.0, -8.0, 8.0, -8.0])
    heads[:, 0, 1] = torch.tensor([0.5, 1.5, 1.0, 1.0])
    top = attribution(heads=heads).top_heads(3)
    assert [(part.name, part.layer, part.mean) for part in top] == [
        ("L0H2", 0, -3.0),
        ("L1H0", 1, 2.0),
        ("L0H1", 0, 1.0),
    ]
    assert (top[0].low, top[0].high) == (-3, -3)
    reach = 3.182446305 * np.std([0.5, 1.5, 1, 1], ddof=1) / 2
    assert (top[2].low, top[2].high) == pytest.approx((1 - reach, 1 + reach))
    assert len(attribution().top_heads(2)) == 2
    assert len(attribution().top_heads(100)) == LAYERS * HEADS


def test_accuracy_is_a_number_where_one_is_wanted() -> None:
    assert float(attribution().accuracy) == 0.75


def test_the_lens_of_an_attribution_is_its_running_sum() -> None:
    result = attribution()
    running = result.lens()
    assert running.labels == ("0_pre", "0_mid", "1_pre", "1_mid", "final_post")
    for depth in range(5):
        expected = result.constant + result.layers[:, : depth + 2].sum(1)
        assert torch.allclose(running.values[:, depth], expected)
    assert torch.allclose(running.values[:, -1], result.metric)
    assert running.scale == "final"


def test_layer_summary() -> None:
    result = attribution()
    assert np.allclose(result.layer_summary().mean.numpy(), result.layers.numpy().mean(0))
    assert result.layer_summary().n == result.metric_summary().n == len(result) == N


def test_the_first_depth_with_a_share_of_the_metric() -> None:
    values = torch.tensor([[-1.0, 0.4, 3.0, 1.9, 4.0]]).expand(N, -1) * torch.tensor([[0.5], [1.5], [1.0], [1.0]])
    result = lens(values[:, -1], values, ("0_pre", "0_mid", "1_pre", "1_mid", "final_post"))
    assert result.first_depth_with() == "1_pre"
    assert result.first_depth_with(0.1) == "0_mid"
    assert result.first_depth_with(0.9) == "final_post"
    assert lens(-values[:, -1], -values, result.labels).first_depth_with() is None
    table = result.to_frame()
    assert list(table.columns) == ["prompt", "depth", "value"]
    assert table["value"].tolist() == values.flatten().tolist()
    assert table["depth"].tolist() == list(result.labels) * N
    assert np.allclose(result.summary().mean.numpy(), values.numpy().mean(0))


def test_tables_of_the_token_lens() -> None:
    result, everywhere = token_lens(), token_lens(3)
    assert list(result.to_frame().columns) == [
        "prompt",
        "depth",
        "top_token",
        "top_prob",
        "target_rank",
        "entropy",
        "kl",
    ]
    for row in result.to_frame().itertuples():
        depth = result.labels.index(row.depth)
        assert row.top_token == f"<{int(result.top_ids[row.prompt, depth, 0])}>"
        assert row.kl == float(result.kl[row.prompt, depth])
        assert row.entropy == float(result.entropy[row.prompt, depth])
    table = everywhere.to_frame()
    assert len(table) == N * 3 * 2
    probs = random(N, 2, seed=7).abs()
    assert replace(result, target_prob=probs).to_frame()["target_prob"].tolist() == probs.flatten().tolist()
    for row in table.itertuples():
        assert row.kl == float(everywhere.kl[row.prompt, row.position, everywhere.labels.index(row.depth)])


def test_padding_is_left_out_of_the_table() -> None:
    everywhere = token_lens(3)
    everywhere.top_ids[1, 2:] = -1
    table = everywhere.to_frame()
    assert len(table) == (N * 3 - 1) * 2
    assert not ((table["prompt"] == 1) & (table["position"] == 2)).any()


def test_a_result_says_what_it_is() -> None:
    text = repr(attribution())
    lines = text.split("\n")
    assert lines[0] == "AttributionResult"
    assert "  model: tiny" in lines
    assert "  task: origin" in lines
    assert "  prompts: 4" in lines
    assert "  accuracy: 0.750 [0.301, 0.954]" in lines
    assert "  completeness gap: 3.0e-07 logits at most" in lines
    mean, metric = float(attribution().metric.mean()), [line for line in lines if "logit of the target" in line]
    assert metric[0].startswith(f"  logit of the target: {mean:.3f} [")
    assert metric[0].endswith("] logits")
    assert attribution().top_heads(1)[0].name in text
    assert "tensor(" not in text
    assert len(text) < 600


def test_lenses_say_what_they_are() -> None:
    values = torch.tensor([[1.0, 4.0]]).expand(N, -1)
    text = repr(lens(values[:, -1], values, ("0_pre", "final_post")))
    assert "  scale: own" in text
    assert "  half of the metric: after layer 0" in text
    assert "never: the final metric is not positive" in repr(lens(-values[:, -1], -values, ("0_pre", "final_post")))
    assert "  depths: 2" in repr(token_lens())
    assert token_lens(3).all_positions
    assert not token_lens().all_positions


@pytest.mark.parametrize(("n_correct", "warned"), [(0, True), (1, False), (4, False)])
def test_a_model_that_is_never_right_is_named_as_such(n_correct: int, warned: bool) -> None:
    """Where no chance is known; `test_skill` has the rest."""
    result = attribution(correct=torch.arange(N) < n_correct)
    sentence = f"The model answers none of these {N} prompts rightly: its parts explain no skill."
    assert "  chance: not known" in repr(result).split("\n")
    assert result.warning == (sentence if warned else None)
    assert (sentence in repr(result)) == warned
    assert (sentence in result._repr_html_()) == warned
    assert result.accuracy.successes == n_correct
    assert result.accuracy.n == N


def test_html_escapes_names() -> None:
    html = attribution(info={"model": "<b>&", "task": "<script>", "metric": "a<b"})._repr_html_()
    assert "&lt;b&gt;&amp;" in html
    assert "&lt;script&gt;" in html
    assert "a&lt;b" in html
    assert "<script>" not in html
    assert html.startswith("<b>AttributionResult</b><table>")
    assert "accuracy" in html


def test_unknown_facts_are_question_marks() -> None:
    assert "  model: ?\n  task: ?" in repr(attribution(info={}))


def test_results_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        attribution().metric = torch.zeros(N)  # pyright: ignore[reportAttributeAccessIssue]
