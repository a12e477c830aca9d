"""Probes find a direction that was written by hand from there on, and nothing where there is nothing."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from torch import Tensor

import maze_dla as dla
from maze_dla.analysis.probes import LinearProbe, principal_components
from maze_dla.engine.prompts import PromptBatch
from maze_dla.errors import InputError, MissingPackageError, ModelError, PromptError
from maze_dla.results.probing import balanced_accuracy, folds_of
from tests.engine.causal.planted import FOUND, N_TOKENS, TOKEN, anywhere, blank, block, look, move, place, to
from tests.engine.small_models import make_batch, shared_model

WRITES = 2  # the layer that copies the token of position 1 to all later ones


def planted() -> Any:
    model = blank(n_layers=4)
    look(model, WRITES, 0, anywhere(), place(1))
    move(model, WRITES, 0, block(TOKEN), to(FOUND))
    return model


def prompts(n: int = 40) -> PromptBatch:
    """Token 2 or 3 at position 1, others at random, and always the same token where it is read."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(N_TOKENS, (n, 6), generator=generator)
    rows[:, 1] = 2 + torch.arange(n) % 2
    rows[:, -1] = 7
    return PromptBatch.from_tokens(rows.tolist(), [0] * n, d_vocab=N_TOKENS, columns={"at 1": rows[:, 1]})


@pytest.fixture(scope="module")
def found() -> dla.SeparabilityResult:
    pytest.importorskip("sklearn")
    return dla.separability(planted(), (prompts(), "at 1"), random_models=1, folds=3)


def test_a_direction_is_read_from_the_layer_on_that_writes_it(found: dla.SeparabilityResult) -> None:
    assert found.depths == ("0_pre", "0_post", "1_post", "2_post", "3_post")
    assert found.accuracy.mean.tolist() == [0.5, 0.5, 0.5, 1.0, 1.0]
    assert found.chance == 0.5
    assert found.above_chance == found.above_controls == ("2_post", "3_post")
    assert found.p_values.tolist()[3:] == [1 / 21] * 2
    assert (found.shuffled < 1).all()
    assert found.finding.startswith("linearly separable beyond every control after layer 2 and 1 later ones of 5 dep")
    assert found.info["question"] == "at 1"
    assert found.counts == {"2": 20, "3": 20}


def test_its_principal_component_is_that_direction(found: dla.SeparabilityResult) -> None:
    first = found.coordinates[:, 3, 0]
    assert float(found.explained[3, 0]) == pytest.approx(1)
    assert (first[found.class_of == 0] * first[0] > 0).all()
    assert (first[found.class_of == 1] * first[0] < 0).all()
    assert found.explained[0].tolist() == [0, 0]  # prompts do not differ before


def test_by_depth_and_by_prompt(found: dla.SeparabilityResult) -> None:
    table = found.by_depth()
    assert table.index.tolist() == list(found.depths)
    assert table["accuracy"].tolist() == found.accuracy.mean.tolist()
    assert table["beyond_embeddings_low"].tolist()[3] == 0.5
    assert len(found.to_frame()) == 40 * 5
    assert found.to_frame().query("depth == '2_post'")["correct"].all()
    assert found.table["class"].tolist() == [str(2 + i % 2) for i in range(40)]


def test_a_probe_of_other_sites() -> None:
    pytest.importorskip("sklearn")
    result = dla.separability(planted(), (prompts(20), "at 1"), site="z", shuffles=0, random_models=0)
    assert result.depths == ("0_z", "1_z", "2_z", "3_z")
    assert result.accuracy.mean.tolist() == [0.5, 0.5, 1.0, 0.5]
    assert result.p_values.isnan().all()
    assert result.controls == ("embeddings", "length")
    early = dla.separability(planted(), (prompts(20), "at 1"), positions=0, shuffles=0, random_models=0)
    assert early.accuracy.mean[3] <= 0.75  # position 1 has not been read there


def random_features(seed: int, n: int = 60, width: int = 8) -> Tensor:
    return torch.randn(n, 1, width, generator=torch.Generator().manual_seed(seed))


def test_a_leak_would_be_seen_and_there_is_none() -> None:
    """Prompts of a maze are nearly alike, and classes of mazes drawn at random."""
    pytest.importorskip("sklearn")
    groups = torch.arange(40).repeat_interleave(4)
    x = random_features(0, 40, 60)[groups] + 0.01 * random_features(1, 160, 60)
    y = torch.randint(2, (40,), generator=torch.Generator().manual_seed(2))[groups]
    probe = LinearProbe(10.0)
    leaking = probe.held_out(x, y, torch.arange(160) % 4)[:, 0] == y
    apart = probe.held_out(x, y, folds_of(y, groups, [str(g) for g in range(40)], 4))[:, 0] == y
    assert float(leaking.double().mean()) > 0.97
    summary = balanced_accuracy(apart.double(), y, groups)
    assert summary.low < 0.5 < summary.high


def test_labels_at_random_are_at_chance() -> None:
    """Through the whole function: the interval holds chance, and the sentence finds nothing."""
    pytest.importorskip("sklearn")
    batch, held = make_batch((5, 6, 7, 8) * 12), 0
    for seed in range(3):
        y = torch.randint(2, (48,), generator=torch.Generator().manual_seed(seed)).tolist()
        result = dla.separability(
            shared_model(), (batch, y), site="resid_pre", folds=3, random_models=0, seed=seed, shuffles=10
        )
        held += int(((result.accuracy.low <= 0.5) & (result.accuracy.high >= 0.5)).sum())
        assert "separable" not in repr(result)
        assert "few for a p-value" in result.finding
        assert result.inflation >= 1
    assert held >= 5  # of 6


def test_a_control_that_is_as_good_is_named() -> None:
    """The class stands in the token that is read."""
    pytest.importorskip("sklearn")
    batch = prompts()
    rows = [[*row[:-1], 2 + i % 2] for i, row in enumerate(batch.tokens.tolist())]
    classes = {name: told(rows, k) for k, name in enumerate(("a", "b"))}
    result = dla.separability(planted(), classes, random_models=0, shuffles=0, folds=3)
    assert result.accuracy.mean.tolist() == [1.0] * 5
    assert len(result.above_chance) == 5
    assert result.above_controls == ()
    assert "at 5 of 5 depths better than chance, but at none beyond every control (not beyond: emb" in result.finding
    assert "separable" not in repr(result)


def told(rows: list[list[int]], k: int) -> PromptBatch:
    return PromptBatch.from_tokens(rows[k::2], [0] * len(rows[k::2]), d_vocab=N_TOKENS)


def test_the_same_again_and_in_another_order(found: dla.SeparabilityResult) -> None:
    order = torch.randperm(40, generator=torch.Generator().manual_seed(5))
    options: dict[str, Any] = {"random_models": 0, "shuffles": 0, "folds": 3}
    again = dla.separability(planted(), (prompts().select(order), "at 1"), **options)
    assert torch.equal(again.probe_classes, found.probe_classes[order])
    assert torch.equal(again.folds, found.folds[order])
    hooked = dla.separability(planted(), (prompts(), "at 1"), **options, forward="hooked")
    assert torch.equal(hooked.probe_classes, found.probe_classes)


def test_classes_within_a_maze_are_told_apart() -> None:
    """Each group has a prompt of each class, so that permuted labels are told no better than chance."""
    pytest.importorskip("sklearn")
    result = dla.separability(planted(), (prompts(), "at 1"), groups=[i // 2 for i in range(40)], random_models=1)
    assert result.above_controls == ("2_post", "3_post")
    assert float(result.shuffled[:, 3].mean()) < 0.7
    assert "prompts: 40 about 20 probe groups\n" in repr(result)


def test_activations_that_are_not_finite_are_refused() -> None:
    pytest.importorskip("sklearn")
    model = planted()
    with torch.no_grad():
        model.blocks[1].attn.W_O[0, 0, 0] = torch.nan
    with pytest.raises(ModelError, match="prompt 0: 2_pre has numbers that are not finite, so that no probe can read"):
        dla.separability(model, (prompts(20), "at 1"), shuffles=0)
    early = {"site": "resid_pre", "shuffles": 0, "random_models": 0}
    with pytest.raises(ModelError, match="prompt 0: 2_pre has numbers"):
        dla.separability(model, (prompts(20), "at 1"), **early)


def test_groups_of_the_callers_own() -> None:
    pytest.importorskip("sklearn")
    options: dict[str, Any] = {"shuffles": 0, "random_models": 0, "folds": 4}
    result = dla.separability(planted(), (prompts(), "at 1"), groups=[i // 4 for i in range(40)], **options)
    assert int(result.clusters.max()) == 9
    for g in range(10):
        assert len(result.folds[4 * g : 4 * g + 4].unique()) == 1
    batch = prompts(20)
    twice = batch + batch
    with pytest.raises(InputError, match=r"groups keep prompts about one text together, but '.*' is in several"):
        dla.separability(planted(), (twice, "at 1"), groups=list(range(40)), **options)
    together = dla.separability(planted(), (twice, "at 1"), **options)
    assert torch.equal(together.folds[:20], together.folds[20:])


def test_texts(bundled: Any) -> None:
    pytest.importorskip("sklearn")
    texts = {"a": ["When Mary", "When John", "Then Tom"], "b": ["the store", "a garden", "the school"]}
    result = dla.separability(bundled, texts, folds=3, shuffles=0, random_models=1)
    assert result.classes == ("a", "b")
    assert result.prompt_tokens[0][-1] == " Mary"
    assert dla.separability(bundled, list(texts.values()), folds=3, shuffles=0, random_models=0).classes == ("0", "1")
    with pytest.raises(PromptError, match="b, text 1 is empty"):
        dla.separability(bundled, {"a": ["x"], "b": ["y", ""]})
    with pytest.raises(InputError, match="has no tokenizer"):
        dla.separability(planted(), texts)


REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "no classes": (3, {}, "classes are PromptClasses .* got int"),
    "texts and numbers": ({"a": ["x"], "b": 3}, {}, "classes are PromptClasses .* got int, list"),
    "labels": ((prompts(20), [1, 2]), {}, "has 2 values, expected one for each of 20 prompts"),
    "a column": ((prompts(20), "at 2"), {}, "no column 'at 2', the batch has text, at 1"),
    "one class": ((prompts(20), [1] * 20), {}, "there are 2 to 20 classes, got 1"),
    "one batch": ({"a": prompts(20)}, {}, "there are at least two classes, got 1"),
    "several positions": ((prompts(20), "at 1"), {"positions": [0, 1]}, "positions is 'read', a whole number, or an"),
    "all positions": ((prompts(20), "at 1"), {"positions": "all"}, "positions is 'read', a whole number, or an array"),
    "a penalty": ((prompts(20), "at 1"), {"strength": 0}, "strength is a number above 0, got 0"),
    "one fold": ((prompts(20), "at 1"), {"folds": 1}, "folds is at least 2, got 1"),
    "too many folds": ((prompts(20), "at 1"), {"folds": 11}, "a class has prompts in 10 groups"),
    "groups": ((prompts(20), "at 1"), {"groups": "at 2"}, "groups: no column 'at 2'"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused(what: str) -> None:
    pytest.importorskip("sklearn")
    classes, options, message = REFUSED[what]
    with pytest.raises(InputError, match=message):
        dla.separability(planted(), classes, **options)


def test_without_scikit_learn_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*(name for name in sys.modules if name.split(".")[0] == "sklearn"), "sklearn"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingPackageError, match=r"separability needs scikit-learn, .* pip install 'maze_dla\[probes"):
        dla.separability(planted(), (prompts(20), "at 1"))


def test_principal_components_are_those_of_the_covariance() -> None:
    x = random_features(3, 50, 5) * torch.tensor([1.0, 2, 3, 4, 5])
    coordinates, explained = principal_components(x)
    variances = torch.linalg.eigvalsh(torch.cov(x[:, 0].double().T)).flip(0)
    torch.testing.assert_close(explained[0], variances[:2] / variances.sum())
    torch.testing.assert_close(coordinates[:, 0].var(0), variances[:2])
    assert torch.equal(principal_components(x)[0], coordinates)


def test_the_probe_is_scikit_learns() -> None:
    """Standardised in the fold, classes balanced: as its own pipeline does it, at each depth."""
    pytest.importorskip("sklearn")
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x = torch.cat([random_features(4, 90), 3 * random_features(5, 90)], 1)
    y = (x[:, 0, 0] + x[:, 1, 0] > 1).long()
    folds, whole = torch.arange(90) % 3, x.double().numpy()
    found = LinearProbe(0.1).held_out(x, y, folds)
    for depth in range(2):
        for k in range(3):
            train, held = (folds != k).numpy(), (folds == k).numpy()
            own = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", max_iter=2000))
            own.fit(whole[train, depth], y.numpy()[train])
            assert found[folds == k, depth].tolist() == own.predict(whole[held, depth]).tolist()
