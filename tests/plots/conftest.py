"""Small seeded results, and pictures that are drawn nowhere."""

from __future__ import annotations

import itertools

import pytest
import torch

from maze_dla.geometry import MazeGeometry
from maze_dla.results.attribution import AttributionResult
from maze_dla.results.lens import LensResult, TokenLensResult

PATH = ((0, 0), (0, 1), (1, 1), (2, 1), (2, 2), (2, 3), (3, 3), (4, 3))
EXTRA_PASSAGE = ((3, 3), (3, 4))


@pytest.fixture(autouse=True)
def no_window(monkeypatch):
    """Draw with Agg, fail on plt.show, and leave neither figures nor backend behind."""
    import matplotlib as mpl
    from matplotlib import pyplot as plt

    before, settings = mpl.get_backend(), dict(mpl.rcParams)
    plt.switch_backend("agg")

    def shown(*args, **kwargs):
        pytest.fail("a plot function called plt.show()")

    monkeypatch.setattr(plt, "show", shown)
    yield
    plt.close("all")
    plt.switch_backend(before)
    changed = {name for name, value in settings.items() if name != "backend" and mpl.rcParams[name] != value}
    assert not changed, f"a plot function changed rcParams: {changed}"


@pytest.fixture
def ax():
    """Axes of the caller's own."""
    from matplotlib import pyplot as plt

    return plt.subplots()[1]


@pytest.fixture
def maze() -> MazeGeometry:
    return make_maze()


@pytest.fixture
def attribution():
    return make_attribution


@pytest.fixture
def depths():
    return make_lens


@pytest.fixture
def tokens():
    return make_token_lens


def maze_words() -> tuple[tuple[str, ...], tuple[tuple[int, int] | None, ...]]:
    """A prompt's tokens and the cells that they name."""
    words: list[str] = ["<ADJLIST_START>"]
    cells: list[tuple[int, int] | None] = [None]
    for a, b in sorted(make_connections()):
        words += [f"({a[0]},{a[1]})", "<-->", f"({b[0]},{b[1]})", ";"]
        cells += [a, None, b, None]
    origin, target = PATH[0], PATH[-1]
    words += ["<ADJLIST_END>", "<ORIGIN_START>", "(0,0)", "<ORIGIN_END>", "<TARGET_START>", "(4,3)", "<TARGET_END>"]
    cells += [None, None, origin, None, None, target, None]
    words += ["<PATH_START>", "(0,0)", "(0,1)"]
    cells += [None, origin, PATH[1]]
    return tuple(words), tuple(cells)


def make_connections() -> frozenset:
    """The path's passages, every second one written backwards, and one dead end."""
    steps = list(itertools.pairwise(PATH))
    return frozenset([*(step[::-1] if i % 2 else step for i, step in enumerate(steps)), EXTRA_PASSAGE])


def make_maze() -> MazeGeometry:
    return MazeGeometry(5, 5, make_connections(), PATH, *maze_words(), current=PATH[1])


def layer_labels(n_layers: int) -> tuple[str, ...]:
    parts = [f"{i}_{half}" for i in range(n_layers) for half in ("attn_out", "mlp_out")]
    return ("embed", "pos_embed", *parts)


def depth_labels(n_layers: int) -> tuple[str, ...]:
    return (*(f"{i}_{where}" for i in range(n_layers) for where in ("pre", "mid")), "final_post")


def _described(n: int, info: dict) -> dict:
    words, _ = maze_words()
    return {
        "metric": torch.ones(n),
        "correct": torch.ones(n, dtype=torch.bool),
        "prompt_tokens": (words,) * n,
        "targets": ("(1,1)",) * n,
        "info": {
            "model": "hallway",
            "task": "path step",
            "metric": "correct minus mean of neighbors",
            **info,
        },
    }


def make_attribution(
    n: int = 8, n_layers: int = 6, n_heads: int = 4, seed: int = 0, *, padding: int = 3, **info
) -> AttributionResult:
    """A result whose layers and constant sum to its metric; only heads of the later layers do much."""
    g = torch.Generator().manual_seed(seed)
    n_tokens = len(maze_words()[0])
    growing = torch.linspace(0.1, 1, n_layers)[:, None, None]
    level = torch.randn(n_layers, n_heads, 1, generator=g)
    spread = torch.randn(n, n_layers, n_heads, n_tokens, generator=g) + level
    sources = torch.nn.functional.pad(0.05 * growing * spread, (0, padding), value=1e3)  # padding must not be drawn
    patterns = torch.rand(n, n_layers, n_heads, n_tokens, generator=g).pow(4)
    patterns = torch.nn.functional.pad(patterns / patterns.sum(-1, keepdim=True), (0, padding), value=1e3)
    heads = sources[..., :n_tokens].sum(-1)
    neurons = torch.randn(n, n_layers, 30, generator=g) * 0.1 + torch.randn(n_layers, 30, generator=g).pow(3) * 0.3
    layers = torch.cat(
        [0.1 * torch.randn(n, 2, generator=g), torch.stack([heads.sum(2), neurons.sum(2)], 2).flatten(1)], 1
    )
    constant = 0.3 + 0.01 * torch.randn(n, generator=g)
    described = _described(n, info) | {"metric": layers.sum(1) + constant}
    return AttributionResult(
        **described,
        layers=layers,
        layer_labels=layer_labels(n_layers),
        heads=heads,
        attn_bias=torch.zeros(n, n_layers),
        mlp_bias=torch.zeros(n, n_layers),
        constant=constant,
        gap=torch.zeros(n),
        final_scale=torch.ones(n),
        neurons=neurons,
        neuron_mean=neurons.double().mean(0),
        neuron_variance=neurons.double().var(0),
        sources=sources,
        patterns=patterns,
    )


def make_lens(n: int = 30, n_layers: int = 6, seed: int = 0, *, end: float = 6, scale="final", **info) -> LensResult:
    """A metric that rises over depth to about `end`."""
    g = torch.Generator().manual_seed(seed)
    labels = depth_labels(n_layers)
    curve = end * torch.sigmoid(torch.linspace(-6, 5, len(labels)))
    values = curve + torch.randn(n, len(labels), generator=g) * curve.abs().sqrt() * 0.8
    described = _described(n, info) | {"metric": values[:, -1]}
    return LensResult(**described, values=values, labels=labels, scale=scale)


def make_token_lens(n_layers: int = 6, k: int = 5, *, all_positions: bool = False, seed: int = 0) -> TokenLensResult:
    """Two prompts of distributions that settle with depth; the second prompt is shorter, so padded."""
    g = torch.Generator().manual_seed(seed)
    words, _ = maze_words()
    names = dict(enumerate(sorted(set(words) | {"(1,1)", "(2,1)", "(1,0)"})))
    labels = depth_labels(n_layers)
    n_depths = len(labels)
    lengths = (len(words), len(words) - 4)
    shape = (2, max(lengths), n_depths) if all_positions else (2, n_depths)
    sharpness = torch.linspace(0.3, 6, n_depths)[:, None]
    answer = torch.randn(*shape[:-1], 1, len(names), generator=g)
    logits = sharpness * (answer + 0.4 * torch.randn(*shape, len(names), generator=g))
    probs = logits.softmax(-1)
    top = probs.topk(k)
    kl = (probs[..., -1:, :] * (probs[..., -1:, :] / probs).log()).sum(-1).clamp_min(0)
    ids, tops = top.indices.clone(), top.values.clone()
    if all_positions:
        ids[1, lengths[1] :] = -1
        for values in (tops, kl, probs):
            values[1, lengths[1] :] = torch.nan
    described = _described(2, {"metric": "logit"}) | {"prompt_tokens": (words, words[: lengths[1]])}
    return TokenLensResult(
        **described,
        top_ids=ids,
        top_probs=tops,
        target_rank=torch.zeros(shape, dtype=torch.long),
        entropy=torch.zeros(shape),
        kl=kl,
        labels=labels,
        scale="own",
        token_names=names,
        target_prob=probs[..., 0].clone(),
        chosen_ids=torch.arange(len(names)).repeat(2, 1),
        chosen_probs=probs,
        chosen_ranks=torch.zeros(probs.shape, dtype=torch.long),
    )
