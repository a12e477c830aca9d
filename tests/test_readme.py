"""Every code block of the README runs as printed."""

from __future__ import annotations

import re
import shlex
from importlib.metadata import entry_points
from pathlib import Path

import matplotlib
import pytest
from matplotlib import pyplot as plt

from maze_dla.cli import main

pytest_plugins = ("pytester",)
README = Path(__file__).parent.parent / "README.md"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README.read_text(encoding="utf-8"), flags=re.M | re.S)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)
    yield
    plt.close("all")


def test_there_are_blocks_of_these_kinds_and_no_other():
    assert {kind for kind, _ in BLOCKS} == {"bash", "python", "yaml"}


def test_python_blocks_run_in_order():
    names: dict = {}
    for kind, code in BLOCKS:
        if kind == "python":
            exec(compile(code, str(README), "exec"), names)
    assert float(names["result"].gap.abs().max()) < 1e-3
    assert Path("result.zanj").exists()


def test_commands_run():
    """Installing has happened when tests run, and the tests are running: what is left is executed."""
    commands = [c.strip() for kind, code in BLOCKS if kind == "bash" for c in code.replace("&&", "\n").splitlines()]
    known = [c for c in commands if c.startswith(("pip install -e ", "python -m pytest"))]
    for command in [c for c in commands if c and c not in known]:
        program, *arguments = shlex.split(command)
        assert program == "maze-dla"
        assert main(arguments) == 0
    assert Path("maze_dla_report/report.html").exists()


def test_links_to_files_lead_somewhere():
    for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", README.read_text(encoding="utf-8")):
        assert (README.parent / link).exists(), link


def test_the_guarding_example_works_in_another_repository(pytester: pytest.Pytester):
    """The test file and the command of the workflow, on the bundled checkpoint: recorded once, then checked."""
    import yaml

    from maze_dla.adapters.mazes.load import BUNDLED

    code = next(code for kind, code in BLOCKS if kind == "python" and "dla_baseline" in code)
    workflow = yaml.safe_load(next(code for kind, code in BLOCKS if kind == "yaml"))
    *_, run = [step["run"] for step in workflow["jobs"]["models"]["steps"] if "run" in step]
    assert run == "python -m pytest tests/test_models.py"
    pytester.mkdir("tests").joinpath("test_models.py").write_text(code)
    pytester.path.joinpath("model.zanj").write_bytes(BUNDLED.read_bytes())
    ask = [*run.split()[3:], *plugin_arguments()]
    assert pytester.runpytest_subprocess(*ask, "--dla-update-new").ret == 1
    assert {f.suffix for f in (pytester.path / "tests/baselines/test_models").iterdir()} == {".json", ".npz"}
    pytester.runpytest_subprocess(*ask).assert_outcomes(passed=2)


def plugin_arguments() -> list[str]:
    """The plugin by its name where the package was installed before it had one."""
    named = {point.value for point in entry_points(group="pytest11")}
    return [] if "maze_dla.baselines.plugin" in named else ["-p", "maze_dla.baselines.plugin"]
