"""Heads made by hand: each has the score that it was made for, and no more than its baselines elsewhere."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import maze_dla as dla
from maze_dla.engine.prompts import PromptBatch
from maze_dla.errors import InputError
from maze_dla.results.checking import check_result
from tests.engine.causal import planted
from tests.engine.causal.planted import N_PLACES, N_TOKENS, PLACE, TOKEN, block, look

TEXTS = [[0, 5, 1, 2, 5, 7, 1, 2], [0, 4, 6, 3, 5, 2, 6, 1], [7, 1, 4, 0, 2, 3, 4, 2], [1, 3, 4, 6, 7, 5, 3, 6]]
BACK = 3


def back(n: int) -> Tensor:
    """Each position with the one so many before it."""
    rows = torch.zeros(N_PLACES, N_PLACES, dtype=torch.float64)
    rows[range(n, N_PLACES), range(N_PLACES - n)] = 1.0
    return rows


@pytest.fixture(scope="module")
def model() -> Any:
    """L0H0 looks one token back, L1H0 is an induction head, L0H1 looks at equal tokens, L1H1 three back."""
    found = planted.induction()
    look(found, 0, 1, block(TOKEN), block(TOKEN))
    look(found, 1, 1, block(PLACE, back(BACK)), block(PLACE))
    return found


@pytest.fixture(scope="module")
def batch() -> PromptBatch:
    return PromptBatch.from_tokens(TEXTS, [0] * len(TEXTS), d_vocab=N_TOKENS)


@pytest.fixture(scope="module", params=["auto", "hooked"])
def scores(request: pytest.FixtureRequest, model: Any, batch: PromptBatch) -> dla.HeadScores:
    return dla.head_scores(model, batch, dla.text_relations(batch), forward=request.param)


def of(values: Tensor, scores: dla.HeadScores, relation: str, head: str) -> float:
    """The mean over prompts of a head's number for a relation."""
    return float(values[:, scores.relations.index(relation), int(head[1]), int(head[3])].double().nanmean())


def by_hand(relation: str, attention: Any) -> float:
    """Mean over prompts of the mean over queries of the attention on their keys, with loops."""
    means = []
    for tokens in TEXTS:
        found = []
        for q in range(1, len(tokens)):
            earlier = [k for k in range(q) if tokens[k] == tokens[q]]
            keys = {"previous token": [q - 1], "duplicate token": earlier, "first token": [0]}
            after_last = [max(earlier) + 1] if earlier and max(earlier) + 1 < q else []
            if here := {**keys, "induction": after_last}[relation]:
                found.append(sum(attention(tokens, q, k) for k in here))
        means.append(sum(found) / len(found))
    return sum(means) / len(means)


@pytest.mark.parametrize(("relation", "head"), [("previous token", "L0H0"), ("induction", "L1H0")])
def test_a_head_has_all_of_its_attention_where_it_was_made_to_look(
    scores: dla.HeadScores, relation: str, head: str
) -> None:
    assert of(scores.values, scores, relation, head) == pytest.approx(1, abs=1e-6)
    for other in {"L0H0", "L0H1", "L1H0", "L1H1"} - {head}:
        assert of(scores.values, scores, relation, other) < 0.7
    assert scores.top(relation, 1)[0].name == head


def test_a_duplicate_token_head_sees_itself_too(scores: dla.HeadScores) -> None:
    def equal(tokens: list[int], q: int, k: int) -> float:
        return 1 / sum(tokens[j] == tokens[q] for j in range(q + 1))

    found = of(scores.values, scores, "duplicate token", "L0H1")
    assert found == pytest.approx(by_hand("duplicate token", equal), abs=1e-6)
    assert found == pytest.approx(0.5, abs=1e-6)  # every token comes twice at most
    assert scores.top("duplicate token", 1)[0].name == "L0H1"


def test_uniform_attention_scores_its_share_of_keys(model: Any, batch: PromptBatch) -> None:
    plain = planted.blank()
    scores = dla.head_scores(plain, batch, dla.text_relations(batch), random=3)
    for relation in scores.relations:
        expected = by_hand(relation, lambda tokens, q, k: 1 / (q + 1))
        r = scores.relations.index(relation)
        assert float(scores.uniform[:, r].double().mean()) == pytest.approx(expected, abs=1e-6)
        assert of(scores.values, scores, relation, "L1H1") == pytest.approx(expected, abs=1e-6)
        assert of(scores.random, scores, relation, "L1H1") == pytest.approx(expected, abs=1e-6)
    assert not scores.is_above.any()
    assert float(scores.above.abs().amax()) > 0.01  # single prompts are not at their baseline


def test_a_head_that_looks_so_many_back_is_at_the_baseline_of_other_texts(scores: dla.HeadScores) -> None:
    for relation in ("duplicate token", "induction"):
        own, other = (of(values, scores, relation, "L1H1") for values in (scores.values, scores.random))
        assert own == pytest.approx(other, abs=1e-6)
        assert own > 0.2  # far above uniform attention
    assert scores.same_in_all.tolist() == [True, True, False, False]
    assert scores.against[0] == "uniform attention"
    assert scores.against[2] == "another text's keys"


def test_scores_are_those_of_the_patterns(model: Any, batch: PromptBatch, scores: dla.HeadScores) -> None:
    patterns = dla.attention(model, batch).patterns

    for h, head in enumerate(("L0H0", "L0H1", "L1H0", "L1H1")):
        for relation in scores.relations:

            def paid(tokens: list[int], q: int, k: int, h: int = h) -> float:
                return float(patterns[TEXTS.index(tokens), h, q, k])

            assert of(scores.values, scores, relation, head) == pytest.approx(by_hand(relation, paid), abs=1e-6)


def test_queries_can_be_those_that_are_read(model: Any, batch: PromptBatch) -> None:
    patterns = dla.attention(model, batch).at_read()
    scores = dla.head_scores(model, batch, dla.text_relations(batch), queries="read")
    assert scores.n_queries.tolist() == [[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1]]
    first, previous = scores.values[:, 0].flatten(1), scores.values[:, 1].flatten(1)
    torch.testing.assert_close(first, patterns[..., 0], atol=1e-6, rtol=0, check_dtype=False)
    torch.testing.assert_close(previous, patterns[..., 6], atol=1e-6, rtol=0, check_dtype=False)
    assert scores.values[1, 2].isnan().all()
    check_result(scores)
    with pytest.raises(InputError, match="queries is one of 'all', 'read', or a list of kinds of token, got 'path'"):
        dla.head_scores(model, batch, dla.text_relations(batch), queries="path")


def test_relations_of_your_own(model: Any, batch: PromptBatch) -> None:
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[range(BACK, 8), range(8 - BACK)] = True
    own = dla.Relations.of(batch, {"three back": lambda tokens: mask, "second": lambda tokens: [(5, 1), (6, 1)]})
    scores = dla.head_scores(model, batch, dla.text_relations(batch) + own)
    assert scores.relations == (*dla.text_relations(batch).names, "three back", "second")
    assert of(scores.values, scores, "three back", "L1H1") == pytest.approx(1, abs=1e-6)
    alone = dla.head_scores(model, batch, (dla.text_relations(batch) + own).only("second", "three back"))
    assert torch.equal(alone.values, scores.values[:, [5, 4]])
    assert alone.n_queries.tolist() == [[2, 5]] * 4


def test_a_query_counts_that_may_look_elsewhere_too(model: Any, batch: PromptBatch) -> None:
    everything = torch.ones(8, 8, dtype=torch.bool).tril()
    all_but_one = everything.clone()
    all_but_one[4, 2] = False
    relations = dla.Relations.of(batch, {"all keys": lambda t: everything, "all but one": lambda t: all_but_one})
    scores = dla.head_scores(model, batch, relations)
    assert scores.n_queries.tolist() == [[0, 1]] * 4
    assert scores.values[:, 0].isnan().all()
    assert not scores.is_above[0].any()
    assert scores.to_frame().prompts.tolist() == [0] * 4 + [4] * 4


def test_one_text_alone_has_no_other_one(model: Any, batch: PromptBatch) -> None:
    one = batch.select([0])
    scores = dla.head_scores(model, one, dla.text_relations(batch))
    assert scores.random.isnan().all()
    assert scores.against == ("uniform attention",) * 4
    assert not scores.is_above.any()
    assert of(scores.values, scores, "previous token", "L0H0") == pytest.approx(1, abs=1e-6)
    assert "0 of 4 heads" in repr(scores)


def test_pieces_and_order_change_nothing(model: Any, batch: PromptBatch, scores: dla.HeadScores) -> None:
    order = [2, 0, 3, 1]
    moved = dla.head_scores(model, batch.select(order), dla.text_relations(batch), sequences_at_once=1)
    for name in ("values", "random"):
        whole, part = getattr(scores, name)[order], getattr(moved, name)
        torch.testing.assert_close(part, whole, atol=1e-6, rtol=0, equal_nan=True, check_dtype=False)


@pytest.mark.parametrize(
    ("relation", "message"),
    [
        (lambda t: 3, "relation 'x' returns a mask .query, key., or a list of pairs .query, key., got int64 of shape"),
        (lambda t: [(1, 2)], "relation 'x': query 1 has key 2, which stands after it"),
        (lambda t: [(8, 2)], "relation 'x': positions 2 to 8 of 8 tokens"),
        (lambda t: torch.ones(3, 3, dtype=torch.bool), "got bool of shape"),
    ],
)
def test_relations_that_are_none_are_refused(batch: PromptBatch, relation: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        dla.Relations.of(batch, {"x": relation})


def test_relations_of_other_prompts_are_refused(model: Any, batch: PromptBatch) -> None:
    other = PromptBatch.from_tokens([t[::-1] for t in TEXTS], [0] * 4, d_vocab=N_TOKENS)
    with pytest.raises(InputError, match="the relations were made for other prompts: none of 4 sequences is 8 tokens"):
        dla.head_scores(model, other, dla.text_relations(batch))
    with pytest.raises(InputError, match="no relation 'third', there are first token, previous token"):
        dla.text_relations(batch).only("third")
    with pytest.raises(InputError, match="two relations go by the name 'duplicate token'"):
        dla.text_relations(batch) + dla.text_relations(batch)
