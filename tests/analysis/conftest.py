"""The tiny GPT-2 model, loaded once."""

from __future__ import annotations

from typing import Any

import pytest

from maze_dla.adapters.gpt2.load import load_gpt2


@pytest.fixture(scope="session")
def bundled() -> Any:
    return load_gpt2("bundled")
