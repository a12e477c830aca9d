"""What the model would say: probabilities of its own logits."""

from __future__ import annotations

import pytest
import torch

import maze_dla as dla
from maze_dla.errors import InputError

from .small_models import D_VOCAB, make_batch, shared_model


def test_probabilities_are_those_of_the_model() -> None:
    batch = make_batch().with_column("size", range(7)).with_column("rank", [9] * 7)
    table = dla.predict(shared_model(), batch, k=4)
    assert list(table.columns) == ["prompt", "rank", "token", "probability", "is_answer", "text", "size"]
    assert table["prompt"].tolist() == [i for i in range(7) for _ in range(4)]
    assert table["rank"].tolist() == [0, 1, 2, 3] * 7
    assert table["size"].tolist() == table["prompt"].tolist()
    for i, rows in table.groupby("prompt"):
        logits = shared_model()(batch.tokens[[i], : int(batch.lengths[i])])[0, -1]
        top = logits.softmax(-1).topk(4)
        assert rows["token"].tolist() == [str(t) for t in top.indices.tolist()]
        torch.testing.assert_close(torch.tensor(rows["probability"].tolist()), top.values, atol=1e-5, rtol=1e-4)
        assert rows["is_answer"].tolist() == [t == int(batch.targets[i]) for t in top.indices.tolist()]


def test_all_tokens_sum_to_one_and_each_answer_is_there() -> None:
    batch = make_batch()
    table = dla.predict(shared_model(), batch, k=D_VOCAB)
    assert table.groupby("prompt")["probability"].sum().tolist() == pytest.approx([1] * 7, abs=1e-5)
    assert table.groupby("prompt")["is_answer"].sum().tolist() == [1] * 7
    ranks = dla.token_lens(shared_model(), batch, scale="final").target_rank[:, -1]
    assert table[table["is_answer"]]["rank"].tolist() == ranks.tolist()


def test_a_maze_model_predicts_by_itself() -> None:
    maze = dla.load_maze_model()
    batch = maze.prompts(n_mazes=5)
    table, result = maze.predict(batch, k=2), dla.attribute(maze, batch, dla.logit(batch))
    best = table[table["rank"] == 0].reset_index(drop=True)
    assert tuple(best["token"]) == result.predicted
    assert best["is_answer"].tolist() == result.table["correct"].tolist()
    assert best["distance"].tolist() == result.table["distance"].tolist()
    assert table.equals(dla.predict(maze, batch, k=2))


def test_more_tokens_than_there_are() -> None:
    for k, message in ((24, "k is between 1 and the vocabulary's 23 tokens, got 24"), (0, "k is at least 1, got 0")):
        with pytest.raises(InputError, match=message):
            dla.predict(shared_model(), make_batch(), k=k)
