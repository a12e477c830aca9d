"""Prompts as they stand in a baseline's file, and prompts made of them again without the mazes' library."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from maze_dla.baselines.questions import Question
from maze_dla.engine.ids import NONE
from maze_dla.engine.model import ResidualModel
from maze_dla.engine.prompts import PromptBatch
from maze_dla.errors import InputError, PromptError

DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"  # of the kinds of tokens
LARGEST_ID = 2**31
Stored = dict[str, Any]


def stored_prompts(batch: PromptBatch, question: Question) -> Stored:
    """Everything of a batch that its numbers hang on: tokens and ids, where they are read, right and wrong answers.

    A row is a prompt: the first `length` tokens of its sequence, the ids of its `answers` and `foils`, those that the
    metric sets against the answers (`others`; once for all where all prompts have the same), and what it is `about`.
    """
    shared, of_each = _others(batch.token_sets.get(str(question.metric)))
    rows = [
        {
            "about": _about(batch, i),
            "answers": _present(batch.answers[i]),
            "foils": [] if batch.foils is None else _present(batch.foils[i]),
            "length": int(batch.lengths[i]),
            "sequence": int(batch.sequence_of[i]),
            **({} if of_each is None else {"others": _present(of_each[i])}),
        }
        for i in range(len(batch))
    ]
    content = {
        "kinds": list(batch.kinds),
        "others": shared,
        "rows": rows,
        "seed": question.seed,
        "sequences": [_sequence(batch, s) for s in range(len(batch.sequences))],
        "unit": batch.unit,
    }
    return {**content, "sha256": prompts_hash(content)}


def prompts_hash(stored: Mapping[str, Any]) -> str:
    """SHA-256 of stored prompts, in hexadecimal."""
    content = {name: value for name, value in stored.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def restored_prompts(stored: Mapping[str, Any], question: Question, model: ResidualModel) -> PromptBatch:
    """The batch that was stored, as plain prompts for a model.

    Raises:
        InputError, PromptError: ids that the model does not have.
    """
    sequences, rows, shape = stored["sequences"], stored["rows"], model.weights.shape
    ids = [[int(token) for token in sequence["ids"].split()] for sequence in sequences]
    _check_ids(stored, ids, shape.d_vocab_in or shape.d_vocab, shape.d_vocab)
    kinds = [[DIGITS.index(digit) for digit in sequence["kinds"]] for sequence in sequences]
    sequence_of = [row["sequence"] for row in rows]
    sets = {} if question.metric is None else _token_sets(stored, question.metric, shape.d_vocab)
    answers = _padded([row["answers"] for row in rows])
    foils = _padded([row["foils"] for row in rows]) if all(row["foils"] for row in rows) else None
    return PromptBatch(
        sequences=_padded(ids, 0),
        sequence_lengths=torch.tensor([len(row) for row in ids]),
        sequence_of=torch.tensor(sequence_of),
        read_positions=torch.tensor([row["length"] - 1 for row in rows]),
        targets=answers[:, 0],
        answers=answers,
        incorrect=None if foils is None else foils[:, 0],
        foils=foils,
        d_vocab=shape.d_vocab,
        d_vocab_in=shape.d_vocab_in,
        sequence_labels=tuple(tuple(_tokens(sequence)) for sequence in sequences),
        vocabulary=model.vocabulary,
        token_sets=sets,
        info={"task": question.task, "seed": question.seed, "prepend_bos": question.prepend_bos},
        kinds=tuple(stored["kinds"]),
        sequence_kinds=_padded(kinds, 0) if stored["kinds"] else None,
        columns={stored["unit"]: tuple(row["about"] for row in rows)},
        unit=stored["unit"],
    )


def differences(now: Mapping[str, Any], before: Mapping[str, Any]) -> str | None:
    """How prompts differ from those that were stored, in words; None where they do not."""
    if prompts_hash(now) == prompts_hash(before):
        return None
    if len(now["rows"]) != len(before["rows"]):
        return f"{len(before['rows'])} prompts were recorded, now there are {len(now['rows'])}"
    if now["seed"] != before["seed"]:
        return f"the seed was {before['seed']}, now it is {now['seed']}"
    rows = [_differing(now, before, i) for i in range(len(before["rows"]))]
    if not (found := [(i, names) for i, names in enumerate(rows) if names]):
        return "the names of token kinds, the unit, or the tokens that all answers are compared with are others"
    i, names = found[0]
    return f"{len(found)} of {len(rows)} prompts differ, the first of them prompt {i} in its {' and '.join(names)}"


def have_other_texts(now: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    """Whether prompts differ as those of another generator do: each one that differs is about something else.

    It is not where the same texts are read elsewhere, or have something in front of them, or other ids.
    """
    texts = [[_text(stored, i) for i in range(len(stored["rows"]))] for stored in (now, before)]
    if len(texts[0]) != len(texts[1]):
        one, other = ({about for about, _ in of} for of in texts)
        return not (one <= other or other <= one)
    differing = [i for i in range(len(texts[0])) if _differing(now, before, i)]
    pairs = [(texts[0][i], texts[1][i]) for i in differing]
    return bool(pairs) and all(a != b and one not in other and other not in one for (a, one), (b, other) in pairs)


def _text(stored: Mapping[str, Any], i: int) -> tuple[str, str]:
    """The thing that a prompt is about, and the whole text of its sequence."""
    row = stored["rows"][i]
    return row["about"], "".join(_tokens(stored["sequences"][row["sequence"]]))


def check_stored(stored: Mapping[str, Any]) -> None:
    """Refuse prompts of a file that are not as `stored_prompts` makes them.

    Raises:
        ValueError, KeyError, TypeError: whatever a damaged part leads to.
    """
    for s, sequence in enumerate(stored["sequences"]):
        n = len(_ids(f"sequence {s}", [int(token) for token in sequence["ids"].split()]))
        if n == 0 or len(sequence["kinds"]) != (n if stored["kinds"] else 0) or len(_tokens(sequence)) != n:
            raise ValueError(f"prompts: sequence {s} has {n} ids, and not as many kinds and tokens")
        if any(DIGITS.index(digit) >= len(stored["kinds"]) for digit in sequence["kinds"]):
            raise ValueError(f"prompts: sequence {s} has kinds of tokens that are not named")
        if not all(isinstance(token, str) for token in _tokens(sequence)):
            raise ValueError(f"prompts: sequence {s} has tokens that are no text")
    for i, row in enumerate(stored["rows"]):
        place, length = _ids(f"row {i}", [row["sequence"], row["length"]])
        answers = [*_ids(f"row {i}", row["answers"]), *_ids(f"row {i}", row["foils"])]
        if not row["answers"] or not isinstance(row["about"], str) or place >= len(stored["sequences"]):
            raise ValueError(f"prompts: row {i} has no answers, no sequence, or nothing that it is about")
        if not 1 <= length <= len(_tokens(stored["sequences"][place])):
            raise ValueError(f"prompts: row {i} is {length} tokens long, its sequence is not")
        _ids(f"row {i}", [*row.get("others", []), *answers])
    if not stored["rows"] or len({"others" in row for row in stored["rows"]}) > 1:
        raise ValueError("prompts: no rows, or others of the metric in some of them alone")
    if stored["others"] is not None:
        _ids("others", stored["others"])


def _ids(where: str, ids: Any) -> list[int]:
    if not isinstance(ids, list) or not all(type(i) is int and 0 <= i < LARGEST_ID for i in ids):
        raise ValueError(f"prompts: {where} holds {str(ids)[:60]}, expected ids of tokens")
    return ids


def _check_ids(stored: Mapping[str, Any], ids: Sequence[Sequence[int]], n_in: int, n_out: int) -> None:
    """Refuse ids that a model does not have.

    Raises:
        PromptError: one that is at least as large as the vocabulary.
    """
    rows = stored["rows"]
    read = [i for row in ids for i in row]
    out = [i for row in rows for name in ("answers", "foils", "others") for i in row.get(name, [])]
    for found, n in ((read, n_in), ([*out, *(stored["others"] or [])], n_out)):
        if beyond := [i for i in found if i >= n]:
            raise PromptError(f"the recorded prompts hold token {beyond[0]}, this model has {n} tokens")


def _differing(now: Mapping[str, Any], before: Mapping[str, Any], i: int) -> list[str]:
    """In what one prompt differs."""
    one, other = (_whole_row(stored, i) for stored in (now, before))
    return [name for name in one if one[name] != other.get(name)]


def _whole_row(stored: Mapping[str, Any], i: int) -> dict[str, Any]:
    row = stored["rows"][i]
    sequence, n = stored["sequences"][row["sequence"]], row["length"]
    return {
        "tokens": _tokens(sequence)[:n],
        "token ids": sequence["ids"].split()[:n],
        "length": n,
        "kinds of tokens": sequence["kinds"][:n],
        "right answers": row["answers"],
        "wrong answers": row["foils"],
        "others of the metric": row.get("others"),
        f"{stored['unit']} that it is about": row["about"],
    }


def _about(batch: PromptBatch, prompt: int) -> str:
    held = batch.columns[batch.unit][prompt]
    return held if isinstance(held, str) else str(held.item())  # a tensor's number


def _sequence(batch: PromptBatch, number: int) -> dict[str, Any]:
    """The tokens as one text where none of them holds a space, so that a line shows a prompt."""
    n, tokens = int(batch.sequence_lengths[number]), list(batch.sequence_labels[number])
    kinds = [] if batch.sequence_kinds is None else batch.sequence_kinds[number, :n].tolist()
    if len(batch.kinds) > len(DIGITS):
        raise InputError(f"prompts have {len(batch.kinds)} kinds of tokens, a baseline holds up to {len(DIGITS)}")
    plain = all(token and not any(c.isspace() for c in token) for token in tokens)
    return {
        "ids": " ".join(map(str, batch.sequences[number, :n].tolist())),
        "kinds": "".join(DIGITS[kind] for kind in kinds),
        "tokens": " ".join(tokens) if plain else tokens,
    }


def _tokens(sequence: Mapping[str, Any]) -> list[str]:
    held = sequence["tokens"]
    return held.split(" ") if isinstance(held, str) else list(held)


def _others(named: Tensor | None) -> tuple[list[int] | None, list[Tensor] | None]:
    """The ids of a token set: those that all prompts share, or those of each."""
    if named is None:
        return None, None
    if named.dtype != torch.bool:
        return None, list(named)
    if named.ndim == 1:
        return torch.nonzero(named).flatten().tolist(), None
    return None, [torch.nonzero(row).flatten() for row in named]


def _token_sets(stored: Mapping[str, Any], name: str, d_vocab: int) -> dict[str, Tensor]:
    if stored["others"] is not None:
        return {name: torch.zeros(d_vocab, dtype=torch.bool).index_fill(0, torch.tensor(stored["others"]), True)}
    if all("others" in row for row in stored["rows"]):
        return {name: _padded([row["others"] for row in stored["rows"]])}
    return {}


def _present(ids: Tensor) -> list[int]:
    return [i for i in ids.tolist() if i != NONE]


def _padded(rows: Sequence[Sequence[int]], fill: int = NONE) -> Tensor:
    """Rows of numbers as one array, filled up."""
    width = max(1, *map(len, rows))
    return torch.tensor([[*row, *[fill] * (width - len(row))] for row in rows], dtype=torch.long)
