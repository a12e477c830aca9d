"""The arrows of the house point down only; and the check that says so does find an arrow that points up."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SMALL = {"errors", "geometry", "files"}  # shared by all above
BELOW_ENGINE = {"errors", "results"}
FOR_ADAPTERS = {*SMALL, "results", "engine"}
ADAPTERS = {"adapters", "adapters.transformer_lens", "adapters.mazes", "adapters.gpt2", "adapters.text"}
FOR_FAMILIES = {*FOR_ADAPTERS, "adapters.transformer_lens"}
FOR_ANALYSIS = {*FOR_ADAPTERS, *ADAPTERS, "plots"}
FOR_BASELINES = {*FOR_ANALYSIS, "analysis"}
FOR_RUNS = {*FOR_BASELINES, "baselines"}
RUNS = {"report", "explorer", "sweep", "bench", "training"}  # they do not know each other
EVERYTHING = {*FOR_RUNS, *RUNS, "cli"}

# from bottom to top: each part of the house, and what it may import beside itself
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "geometry": {"errors"},
    "files": {"errors"},
    "results": SMALL - {"geometry"},
    "engine": BELOW_ENGINE,
    "adapters": set(),
    "adapters.transformer_lens": FOR_ADAPTERS,
    **dict.fromkeys(("adapters.mazes", "adapters.gpt2", "adapters.text"), FOR_FAMILIES),
    "plots": {*BELOW_ENGINE, "geometry"},
    "analysis": FOR_ANALYSIS,
    "baselines": FOR_BASELINES,
    **dict.fromkeys(RUNS, FOR_RUNS),
    "cli": EVERYTHING - {"cli"},
    "": EVERYTHING,  # maze_dla/__init__.pyi, the public names
    "__main__": {"cli"},
}
FOREIGN = {
    "maze_dataset",
    "zanj",
    "muutils",
    "transformer_lens",
    "transformers",
    "matplotlib",
    "pandas",
    "scipy",
    "sklearn",
}


def part_of(module: str) -> str:
    """The part of the house that a module of maze_dla belongs to: "engine", "adapters.mazes", ..."""
    names = module.split(".")[1:]
    return ".".join(names[:2] if names[:1] == ["adapters"] else names[:1])


def imported(tree: ast.AST, module: str, is_package: bool) -> Iterator[tuple[int, str, list[str]]]:
    """Line, module and names of every import, wherever it stands; also of import_module("...")."""
    here = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, []) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = here[: len(here) - node.level + 1] if node.level else []
            source = ".".join([*start, *([node.module] if node.module else [])])
            yield node.lineno, source, [alias.name for alias in node.names]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__"):
                yield node.lineno, str(node.args[0].value), []


def violations(files: dict[str, str]) -> list[str]:
    """Every import that points up, or sideways, from the sources of the files by their paths."""
    modules = {path: path.partition(".")[0].replace("/", ".").removesuffix(".__init__") for path in files}
    found = []
    for path, module in sorted(modules.items()):
        part = part_of(module)
        if part not in MAY_IMPORT:
            found.append(f"{path}: no place in the house for {part!r}")
            continue
        tree = ast.parse(files[path])
        for line, source, names in imported(tree, module, "__init__." in path):
            if part == "engine" and source.split(".")[0] in FOREIGN:
                found.append(f"{path}:{line}: engine imports {source}")
            if source.split(".")[0] != "maze_dla":
                continue
            known = modules.values()
            targets = {f"{source}.{name}" if f"{source}.{name}" in known else source for name in names} or {source}
            for target in sorted(targets):
                other = part_of(target)
                if other != part and other not in MAY_IMPORT[part]:
                    found.append(f"{path}:{line}: {part} imports {other or 'maze_dla'}")
    return found


def house() -> dict[str, str]:
    files = (path for ending in ("py", "pyi") for path in (ROOT / "maze_dla").rglob(f"*.{ending}"))
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in files}


def test_all_arrows_point_down() -> None:
    assert len(house()) > 20
    assert "maze_dla/__init__.pyi" in house()
    assert violations(house()) == []


PLANTED = {
    "at the top": ("maze_dla/engine/lens.py", "import maze_dla.adapters.mazes.tasks", "engine imports adapters.mazes"),
    "from": ("maze_dla/engine/lens.py", "from maze_dla.analysis import attribute", "engine imports analysis"),
    "inside a function": (
        "maze_dla/engine/lens.py",
        "def f():\n    if True:\n        from maze_dla.adapters import transformer_lens",
        "engine imports adapters.transformer_lens",
    ),
    "relative": ("maze_dla/engine/lens.py", "from ..plots import bars", "engine imports plots"),
    "relative from a package": ("maze_dla/engine/__init__.py", "from .. import report", "engine imports report"),
    "by name": ("maze_dla/engine/lens.py", "import_module('maze_dla.cli')", "engine imports cli"),
    "public names": ("maze_dla/engine/lens.py", "from maze_dla import attribute", "engine imports maze_dla"),
    "file format": ("maze_dla/engine/lens.py", "from maze_dla.files import zanj_file", "engine imports files"),
    "files": ("maze_dla/engine/lens.py", "from maze_dla import files", "engine imports files"),
    "geometry": ("maze_dla/engine/lens.py", "from maze_dla.geometry import Cell", "engine imports geometry"),
    "foreign": ("maze_dla/engine/lens.py", "def f():\n    import pandas as pd", "engine imports pandas"),
    "results, engine": ("maze_dla/results/base.py", "from maze_dla.engine import lens", "results imports engine"),
    "results, geometry": ("maze_dla/results/base.py", "from maze_dla import geometry", "results imports geometry"),
    "mazes, text": (
        "maze_dla/adapters/mazes/tasks.py",
        "from maze_dla.adapters.text.words import NAMES",
        "adapters.mazes imports adapters.text",
    ),
    "text, mazes": (
        "maze_dla/adapters/text/words.py",
        "from ..mazes import tasks",
        "adapters.text imports adapters.mazes",
    ),
    "text, gpt2": (
        "maze_dla/adapters/text/words.py",
        "from maze_dla.adapters.gpt2 import load",
        "adapters.text imports adapters.gpt2",
    ),
    "gpt2, text": (
        "maze_dla/adapters/gpt2/load.py",
        "from maze_dla.adapters import text",
        "adapters.gpt2 imports adapters.text",
    ),
    "transformer_lens, mazes": (
        "maze_dla/adapters/transformer_lens/view.py",
        "from maze_dla.adapters.mazes import tasks",
        "adapters.transformer_lens imports adapters.mazes",
    ),
    "mazes, training": (
        "maze_dla/adapters/mazes/tasks.py",
        "from maze_dla.training import run",
        "adapters.mazes imports training",
    ),
    "mazes, analysis": (
        "maze_dla/adapters/mazes/tasks.py",
        "from maze_dla import analysis",
        "adapters.mazes imports analysis",
    ),
    "plots, adapters": (
        "maze_dla/plots/bars.py",
        "from maze_dla.adapters.mazes import tasks",
        "plots imports adapters.mazes",
    ),
    "plots, baselines": ("maze_dla/plots/bars.py", "import maze_dla.baselines", "plots imports baselines"),
    "analysis, baselines": ("maze_dla/analysis.py", "from maze_dla import baselines", "analysis imports baselines"),
    "analysis, report": ("maze_dla/analysis.py", "from maze_dla.report import page", "analysis imports report"),
    "baselines, report": ("maze_dla/baselines.py", "from maze_dla import report", "baselines imports report"),
    **{
        f"{run}, {other}": (f"maze_dla/{run}/run.py", f"from maze_dla.{other} import run", f"{run} imports {other}")
        for run, other in permutations(sorted(RUNS), 2)
    },
    "in the stub": ("maze_dla/__init__.pyi", "from .__main__ import main", " imports __main__"),
    "report, cli": ("maze_dla/report/run.py", "from maze_dla import cli", "report imports cli"),
    "errors, anything": ("maze_dla/errors.py", "from maze_dla.results import base", "errors imports results"),
    "geometry, results": ("maze_dla/geometry.py", "from maze_dla.results import base", "geometry imports results"),
}
SKELETON = [
    *(
        "__init__",
        "errors",
        "files/__init__",
        "files/zanj_file",
        "geometry",
        "analysis",
        "baselines",
        "results/__init__",
    ),
    *("results/base", "engine/__init__", "engine/lens", "plots/__init__", "plots/bars", "adapters/__init__"),
    *("adapters/mazes/__init__", "adapters/mazes/tasks", "adapters/text/__init__", "adapters/text/words"),
    *("adapters/gpt2/__init__", "adapters/gpt2/load", "adapters/transformer_lens/__init__"),
    *(
        "adapters/transformer_lens/view",
        "cli/__init__",
        *(f"{run}/{name}" for run in RUNS for name in ("__init__", "run")),
    ),
]


def skeleton() -> dict[str, str]:
    return {f"maze_dla/{name}.py": "import torch" for name in SKELETON}


@pytest.mark.parametrize("name", PLANTED)
def test_an_arrow_that_points_up_is_found(name: str) -> None:
    path, source, message = PLANTED[name]
    files = skeleton()
    assert violations(files) == []
    files[path] = "import torch\n" + source
    found = violations(files)
    assert len(found) == 1
    assert found[0].startswith(f"{path}:")
    assert found[0].endswith(message)


def test_planted_in_the_real_house_it_is_found_too() -> None:
    files = house()
    files["maze_dla/engine/metrics.py"] += "\n\ndef later():\n    from maze_dla.adapters.mazes import lattice\n"
    assert [v.rpartition(": ")[2] for v in violations(files)] == ["engine imports adapters.mazes"]


def test_a_new_part_needs_a_place() -> None:
    assert violations({"maze_dla/patching.py": ""}) == ["maze_dla/patching.py: no place in the house for 'patching'"]


def test_arrows_that_point_down_are_allowed() -> None:
    allowed = {
        "maze_dla/engine/lens.py": "from maze_dla.engine.model import Reads\nfrom . import model\nimport torch",
        "maze_dla/engine/model.py": "from maze_dla.errors import InputError",
        "maze_dla/errors.py": "",
        "maze_dla/adapters/mazes/tasks.py": "from maze_dla.adapters.transformer_lens.view import residual_model",
        "maze_dla/adapters/transformer_lens/view.py": "import transformer_lens",
        "maze_dla/__init__.py": "from maze_dla.cli import main",
    }
    assert violations(allowed) == []


LOAD_AND_LIST = """
import importlib, pkgutil, sys
import maze_dla.engine as engine
for found in pkgutil.walk_packages(engine.__path__, "maze_dla.engine."):
    importlib.import_module(found.name)
{planted}
print(len([name for name in sys.modules if name.startswith("maze_dla.engine.")]))
print(sorted(set(sys.modules) & {foreign!r}))
"""


def loaded_with_the_engine(planted: str) -> list[str]:
    script = LOAD_AND_LIST.format(planted=planted, foreign=FOREIGN)
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    n, foreign = done.stdout.splitlines()
    assert int(n) == len(list((ROOT / "maze_dla" / "engine").rglob("*.py"))) - 1  # all but its own __init__
    return ast.literal_eval(foreign)


@pytest.mark.parametrize(("planted", "loaded"), [("", []), ("import scipy", ["scipy"])], ids=["engine", "planted"])
def test_importing_the_engine_loads_nothing_of_mazes_text_or_plots(planted: str, loaded: list[str]) -> None:
    assert loaded_with_the_engine(planted) == loaded
