"""Editors and type checkers see every argument of the public functions, and what comes back."""

from __future__ import annotations

import importlib.util
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import maze_dla as dla

ROOT = Path(__file__).parent.parent
CALLS = """
from typing import Any
import maze_dla as dla
def use(model: Any, batch: dla.PromptBatch, metric: dla.LinearMetric) -> None:
    reveal_type(dla.attribute(model, batch, metric, neurons="mean", sources="kinds", forward="hooked"))
    reveal_type(dla.logit_lens(model, batch, metric, scale="own", forward="auto"))
    reveal_type(dla.token_lens(model, batch, k=3, positions="all"))
    reveal_type(dla.stream(lambda b: dla.attribute(model, b, metric), [batch]))
    dla.attribute(model, batch, metric, neuron=True)
    dla.logit_lens(model, batch, metric, scale="each")
    dla.token_lens(model, batch, metric, forward="fast")
"""
SEEN = ("AttributionResult", "LensResult", "TokenLensResult", "StreamedResult")
REFUSED = (
    'No parameter named "neuron"',
    'to parameter "scale" of type "Scale"',
    'to parameter "k" of type "int"',
    'to parameter "forward" of type "Forward"',
)


@pytest.mark.skipif(importlib.util.find_spec("pyright") is None, reason="pyright is not installed")
def test_pyright_sees_arguments_and_results(tmp_path: Path) -> None:
    (tmp_path / "calls.py").write_text(CALLS, encoding="utf-8")
    settings = f'{{"include": ["calls.py"], "extraPaths": ["{ROOT}"]}}'
    (tmp_path / "pyrightconfig.json").write_text(settings, encoding="utf-8")
    done = subprocess.run([sys.executable, "-m", "pyright", "-p", str(tmp_path)], capture_output=True, text=True)
    for name in SEEN:
        assert f'is "{name}"' in done.stdout, done.stdout
    for what in REFUSED:
        assert what in done.stdout, done.stdout


WRITTEN_OUT = (
    "activations",
    "attention",
    "attribute",
    "contrast",
    "head_scores",
    "ioi_pairs",
    "logit_lens",
    "mlp_outliers",
    "separability",
    "stream",
    "token_lens",
)


@pytest.mark.parametrize("name", [*WRITTEN_OUT, "write_activations"])
def test_signatures_are_written_out(name: str) -> None:
    """Every argument that there is stands in the signature and in the docstring."""
    function = getattr(dla, name)
    assert inspect.unwrap(function, stop=lambda f: hasattr(f, "__signature__")).__name__ == name
    parameters = inspect.signature(function).parameters
    assert not any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters.values())
    for parameter in parameters:
        assert f"        {parameter}: " in (function.__doc__ or ""), parameter


def test_the_earlier_name_of_forward_still_works_and_says_so() -> None:
    from tests.engine.small_models import make_batch, random_metric, shared_model

    model, batch = shared_model(), make_batch()
    metric = random_metric(batch)
    with pytest.warns(DeprecationWarning, match="engine= is now called forward=") as caught:
        found = dla.attribute(model, batch, metric, engine="hooked")
    assert caught[0].filename == __file__
    assert found.heads.equal(dla.attribute(model, batch, metric, forward="hooked").heads)
    for engine, forward in (("auto", "hooked"), ("hooked", "bogus")):
        with pytest.raises(dla.MazeDlaError, match="engine= is the earlier name of forward=: give one of them, got"):
            dla.attribute(model, batch, metric, engine=engine, forward=forward)
