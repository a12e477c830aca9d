"""Relations of texts, written out by hand, and on the bundled GPT-2."""

from __future__ import annotations

from typing import Any

import maze_dla as dla


def test_relations_of_a_text_by_hand() -> None:
    labels = [["a", "b", "b", "c", "a", "b"]]
    batch = dla.PromptBatch.from_tokens([[0, 1, 1, 2, 0, 1]], [0], d_vocab=3, labels=labels)
    relations = dla.text_relations(batch)
    pairs: dict[str, list[tuple[int, int]]] = {name: [] for name in relations.names}
    for number, query, key in relations.of_sequence(batch.sequence_labels[0]).tolist():
        pairs[relations.names[number]].append((query, key))
    assert pairs == {
        "first token": [(1, 0), (2, 0), (3, 0), (4, 0), (5, 0)],
        "previous token": [(1, 0), (2, 1), (3, 2), (4, 3), (5, 4)],
        "duplicate token": [(2, 1), (4, 0), (5, 1), (5, 2)],
        "induction": [(4, 1), (5, 3)],  # the second b follows the first: no key but itself
    }


def test_heads_of_a_language_model(bundled: Any) -> None:
    batch = dla.ioi_prompts(bundled, n_prompts=6)
    scores = dla.head_scores(bundled, batch, dla.text_relations(batch), queries="read")
    assert scores.values.shape == (6, 4, bundled.cfg.n_layers, bundled.cfg.n_heads)
    assert scores.info["queries"] == "read"
    frame = scores.to_frame()
    assert frame[frame.relation == "previous token"].prompts.tolist() == [6] * (len(frame) // 4)
