"""Results of several kinds, to be saved and then damaged."""

from __future__ import annotations

from typing import Any

from tests.results.causal_results import make_effects, make_patch
from tests.results.test_storage import RESULTS

SAVED: dict[str, Any] = {
    "attribution": RESULTS["attribution with all"],
    "lens": RESULTS["lens"],
    "token lens": RESULTS["token lens"],
    "stream": RESULTS["stream"],
    "patch": make_patch(),
    "effects": make_effects(),
}
