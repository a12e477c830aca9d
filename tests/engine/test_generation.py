"""The model's own walks: those of the model run anew for each token, alone and in any batch."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from maze_dla.adapters.transformer_lens.verified import VerifiedModel
from maze_dla.analysis import as_residual_model
from maze_dla.engine.forward.cached import CachedDecoding
from maze_dla.engine.forward.continuing import WholePasses
from maze_dla.engine.generation import Generated, Sampling, generate
from maze_dla.engine.ids import NONE
from maze_dla.engine.prompts import PromptBatch
from maze_dla.errors import InputError, ModelError
from maze_dla.results.torch_defaults import torch_defaults
from tests.engine.small_models import (
    D_VOCAB,
    LENGTHS,
    MODERN,
    SIZES,
    make_batch,
    make_model,
    meddled,
    micro_batches,
    random_tokens,
    shared_model,
    with_weights,
)
from tests.engine.test_two_engines import prefixes

STOP = (3, 7)
N_CTX = SIZES["n_ctx"]
MODELS: dict[str, dict[str, Any]] = {
    "LN": {},
    "LNPre, relu": {"normalization_type": "LNPre", "act_fn": "relu"},
    "RMS": {"normalization_type": "RMS"},
    "attention only": {"attn_only": True},
    "heads that do not fill the stream": {"n_heads": 5, "d_head": 3, "dtype": torch.float64},
    "the model itself": {**MODERN, "dtype": torch.float64},
}


@torch.no_grad()
def logits_of(model: Any, ids: list[int]) -> Tensor:
    """The logits at every position, by the model itself."""
    return model(torch.tensor([ids]))[0].double()


def step_by_step(model: Any, prompt: list[int], most: int = N_CTX, stop: tuple[int, ...] = STOP) -> list[int]:
    """Greedy decoding, one whole forward pass for each token."""
    ids = list(prompt)
    while len(ids) < N_CTX and len(ids) - len(prompt) < most:
        ids.append(int(logits_of(model, ids)[-1].argmax()))
        if ids[-1] in stop:
            break
    return ids[len(prompt) :]


def walks(found: Generated) -> list[list[int]]:
    return [[token for token in row if token != NONE] for row in found.tokens.tolist()]


def run(model: Any, batch: PromptBatch | None = None, **options: Any) -> Generated:
    return generate(as_residual_model(model), batch or make_batch(), **{"stop": STOP, **options})


@pytest.mark.parametrize("kind", MODELS)
def test_greedy_walks_are_those_of_the_model_step_by_step(kind: str) -> None:
    model = shared_model(**MODELS[kind])
    view = as_residual_model(model)
    assert isinstance(view.forward, VerifiedModel) == (kind != "the model itself")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = generate(view, make_batch(), stop=STOP, max_steps=9)
    assert walks(found) == [step_by_step(model, prompt, 9) for prompt in random_tokens()]
    for prompt, walk, log_probs in zip(random_tokens(), walks(found), found.log_probs, strict=True):
        whole = logits_of(model, [*prompt, *walk]).log_softmax(-1)
        expected = whole[len(prompt) - 1 : -1].gather(1, torch.tensor(walk)[:, None])[:, 0]
        torch.testing.assert_close(log_probs[: len(walk)], expected, rtol=0, atol=1e-5)
        assert log_probs[len(walk) :].isnan().all()


def test_walks_end_with_a_stop_token_or_with_the_context_or_after_enough_steps() -> None:
    model, prompts = shared_model(), random_tokens()
    free = run(model, stop=())
    assert [len(walk) for walk in walks(free)] == [N_CTX - n for n in LENGTHS]
    assert free.at_the_end.all()
    assert not free.stopped.any()
    token = walks(free)[1][3]
    found = run(model, stop=[token])
    assert walks(found) == [step_by_step(model, prompt, stop=(token,)) for prompt in prompts]
    assert found.stopped.tolist() == [walk[-1] == token for walk in walks(found)]
    assert found.stopped[1]
    assert (found.stopped ^ found.at_the_end).all()
    few = run(model, stop=[token], max_steps=2)
    assert walks(few) == [walk[:2] for walk in walks(found)]
    assert few.at_the_end.tolist() == [False] * len(few.tokens)
    full = PromptBatch.from_tokens([[1] * N_CTX, [1, 2]], [0, 0], d_vocab=D_VOCAB)
    assert [len(walk) for walk in walks(run(model, full, stop=(), max_steps=5))] == [0, 5]
    alone = run(model, full.select([0]), stop=(), temperature=1.0, n_samples=2)
    assert alone.tokens.shape == (2, 0)
    assert alone.at_the_end.all()


@pytest.mark.parametrize("options", [{}, {"temperature": 1.3, "n_samples": 3, "seed": 5}], ids=["greedy", "sampled"])
@pytest.mark.parametrize("kind", ["LN", "the model itself"])
def test_a_prompts_walks_are_the_same_alone_and_in_any_batch(kind: str, options: dict[str, Any]) -> None:
    model, batch = shared_model(**{"dtype": torch.float64, **MODELS[kind]}), make_batch()
    n = options.get("n_samples", 1)
    found = run(model, max_steps=6, **options)
    assert found.prompts.tolist() == [i for i in range(len(batch)) for _ in range(n)]
    together = walks(found)
    for i in (0, 4, 6):
        assert walks(run(model, batch.select([i]), max_steps=6, **options)) == together[n * i : n * i + n]
    turned = walks(run(model, batch.select([5, 4, 3, 2, 1, 0, 6]), max_steps=6, sequences_at_once=2, **options))
    assert turned[: 6 * n] == [walk for i in range(5, -1, -1) for walk in together[n * i : n * i + n]]
    wider = replace(batch, sequences=torch.nn.functional.pad(batch.sequences, (0, 30), value=9))
    assert walks(run(model, wider, max_steps=6, **options)) == together
    if n > 1:
        assert len({tuple(walk) for walk in together}) > 2 * len(batch)
        other = walks(run(model, max_steps=6, **{**options, "seed": 6}))
        assert other != together
        fewer = walks(run(model, max_steps=6, **{**options, "n_samples": 2}))
        assert fewer == [walk for i in range(len(batch)) for walk in together[n * i : n * i + 2]]


def test_prompts_of_one_sequence_go_on_from_their_own_positions() -> None:
    model, batch = shared_model(), prefixes()
    expected = [
        step_by_step(model, batch.sequences[row, : position + 1].tolist(), 4)
        for row, position in zip(batch.sequence_of.tolist(), batch.read_positions.tolist(), strict=True)
    ]
    assert walks(run(model, batch, max_steps=4)) == expected


def test_tokens_are_drawn_with_their_probabilities() -> None:
    logits = torch.tensor([[2.0, -torch.inf, 0.5, -1.0]], dtype=torch.float64).expand(20_000, -1)
    draws = torch.from_numpy(Sampling(0.7, 0).draws([1, 2], 0, 20_000))
    chosen, log_probs = Sampling(0.7, 0).choose(logits, draws)
    expected = (logits[0] / 0.7).softmax(0)
    shares = chosen.bincount(minlength=4) / len(chosen)
    assert float(shares[1]) == 0
    torch.testing.assert_close(shares.double(), expected, rtol=0, atol=0.012)  # three standard errors
    assert float((shares - logits[0].softmax(0)).abs().max()) > 0.05
    torch.testing.assert_close(log_probs, logits.log_softmax(-1).gather(1, chosen[:, None])[:, 0])
    cold, _ = Sampling(1e-9, 0).choose(logits, draws)
    assert (cold == 0).all()


def test_draws_hang_on_seed_sample_and_prompt_alone() -> None:
    first = Sampling(1.0, 0).draws([1, 2], 0, 5)
    assert Sampling(1.0, 0).draws([1, 2], 0, 9)[:5].tolist() == first.tolist()
    for seed, prompt, sample in ((1, [1, 2], 0), (0, [1, 3], 0), (0, [12], 0), (0, [1, 2], 1)):
        assert not (Sampling(1.0, seed).draws(prompt, sample, 5) == first).any()


@torch_defaults()
@torch.no_grad()
def test_kept_keys_and_values_give_the_logits_of_whole_passes() -> None:
    """Also where walks are dropped, doubled and put in another order, and where the arrays grow."""
    view = as_residual_model(shared_model(dtype=torch.float64))
    assert isinstance(view.forward, VerifiedModel)
    micro = micro_batches(prefixes(), 100)[0]
    own, whole = CachedDecoding(view.forward.decoder, micro, 40), WholePasses(view.forward.hooked, micro, 40)
    generator = torch.Generator().manual_seed(0)
    for step in range(24):
        torch.testing.assert_close(own.logits, whole.logits, rtol=0, atol=1e-9)
        if step % 5 == 1:
            kept = torch.randperm(len(own.logits), generator=generator)[:5].repeat(2)[:8]
            own.keep(kept)
            whole.keep(kept)
        tokens = torch.randint(D_VOCAB, (len(own.logits),), generator=generator)
        own.advance(tokens)
        whole.advance(tokens)
    assert not torch.allclose(own.logits, own.logits.roll(1, 0))


@pytest.mark.parametrize("where", ["after the prompts", "after the first token"])
def test_an_own_pass_that_gives_other_logits_is_not_used(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model()
    view = as_residual_model(model)
    assert isinstance(view.forward, VerifiedModel)
    if where == "after the prompts":
        lying = replace(view.forward, decoder=replace(view.forward.decoder, attn_scale=1.0))
    else:
        lying = view.forward
        attention = CachedDecoding._attention
        monkeypatch.setattr(CachedDecoding, "_attention", lambda *given: attention(*given).neg())
    with pytest.warns(UserWarning, match="gives other logits than the model") as caught:
        found = generate(replace(view, forward=lying), make_batch(), stop=STOP, max_steps=5, sequences_at_once=3)
    assert len(caught) == 1
    expected = [step_by_step(model, prompt, 5) for prompt in random_tokens()]
    assert walks(found) == expected
    assert lying.agrees == [where != "after the prompts"]
    if where != "after the prompts":
        assert lying.goes_on_alike == [False]
        lying.goes_on_alike[:] = [True]  # a check that is not made lets it pass
        assert walks(generate(view, make_batch(), stop=STOP, max_steps=5)) != expected


def test_any_forward_pass_will_do() -> None:
    model = shared_model()
    view = meddled(model, lambda found, at, again: found)
    assert walks(generate(view, make_batch(), stop=STOP, max_steps=4)) == walks(run(model, max_steps=4))


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no heat": ({"temperature": 0.0}, "temperature is None .greedy. or a finite number above 0, got 0.0"),
    "no number": ({"temperature": float("nan")}, "temperature is None .greedy. or a finite number above 0, got nan"),
    "samples of one walk": ({"n_samples": 2}, "n_samples is 2, but without a temperature"),
    "no samples": ({"temperature": 1.0, "n_samples": 0}, "n_samples is at least 1, got 0"),
    "no steps": ({"max_steps": 0}, "max_steps is at least 1, got 0"),
    "a seed": ({"seed": -1}, "seed is at least 0, got -1"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_options_out_of_range_are_refused(kind: str) -> None:
    options, message = WRONG[kind]
    with pytest.raises(InputError, match=message):
        run(shared_model(), **options)


def test_logits_that_are_no_numbers_are_refused() -> None:
    model = shared_model()
    b_U = torch.zeros(D_VOCAB)
    b_U[4] = torch.nan

    def spoiled(found: Any, at: Tensor, again: Any) -> Any:
        return {site: x + b_U if site.name == "logits" else x for site, x in found.items()}

    with pytest.raises(ModelError, match="logits are no numbers"):
        generate(meddled(model, spoiled), make_batch(), stop=STOP)
    small = with_weights(model)
    shape = replace(small.weights.shape, d_vocab_in=2)
    small = replace(small, weights=replace(small.weights, shape=shape))
    with pytest.raises(ModelError, match=r"the model says token \d+, it reads 2 tokens alone"):
        generate(small, PromptBatch.from_tokens([[1, 0, 1]], [3], d_vocab=D_VOCAB), stop=())
