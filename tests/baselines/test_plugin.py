"""The pytest plugin, in sessions of its own: most in this process, which has the engine loaded already."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from adapters.mazes.small_files import random_state, small_checkpoint

from maze_dla.baselines.files import FORMAT, read_baselines
from maze_dla.baselines.plugin_files import LONGEST, MARK, file_of_test, safe_name
from maze_dla.baselines.record import record_baseline

pytest_plugins = ["pytester"]
PLUGIN = "maze_dla.baselines.plugin"
IS_INSTALLED = any(entry.value == PLUGIN for entry in entry_points(group="pytest11"))
PLAIN = ["-p", "no:cacheprovider", "-p", "no:randomly", *([] if IS_INSTALLED else ["-p", PLUGIN])]
ASKS = 'dla_baseline.check("model.zanj", n_mazes=3)'


def a_test(body: str, name: str = "test_model", arguments: str = "dla_baseline") -> str:
    return f"def {name}({arguments}):\n" + textwrap.indent(body, "    ") + "\n\n"


@pytest.fixture(scope="module")
def _loaded(tmp_path_factory) -> None:
    """Every library is imported once, here: sessions in this process forget what they import, and some cannot twice."""
    folder = tmp_path_factory.mktemp("loaded")
    record_baseline(folder / "it.json", small_checkpoint().write(folder / "it.zanj"), n_mazes=3)


@pytest.fixture
def inner(_loaded, pytester: pytest.Pytester):
    """A folder with a model, and sessions in it: their outcomes and what they print."""
    (pytester.path / "tests").mkdir()
    small_checkpoint().write(pytester.path / "model.zanj")

    def run(test: str, *words: str) -> pytest.RunResult:
        (pytester.path / "tests" / "test_it.py").write_text(test, encoding="utf-8")
        return pytester.runpytest_inprocess(*PLAIN, *words)

    return run


def tree(folder: Path) -> dict[str, bytes]:
    not_ours = {"__pycache__", "stdout", "stderr"}  # Python's and pytester's
    files = (path for path in folder.rglob("*") if path.is_file() and not not_ours & {*path.parts})
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


FILE = "tests/baselines/test_it/test_model.json"


def test_from_the_first_run_to_a_change(inner, pytester) -> None:
    before = tree(pytester.path)
    absent = inner(a_test(ASKS))
    absent.assert_outcomes(failed=1)
    absent.stdout.fnmatch_lines(["*test_model.json: no such file*model.zanj*--dla-update-new records it*"])
    assert {*tree(pytester.path)} - {*before} == {"tests/test_it.py"}

    first = inner(a_test(ASKS), "--dla-update-new")
    first.assert_outcomes(failed=1)
    first.stdout.fnmatch_lines(["written: ../../../model.zanj: first_path_choice, neighbors", "*was written*"])
    recorded = tree(pytester.path)
    assert FILE in recorded
    for words in ((), ("--dla-update",), ("--dla-update-new", "--import-mode=importlib")):
        inner(a_test(ASKS), *words).assert_outcomes(passed=1)
        assert tree(pytester.path) == recorded

    state = random_state()
    state["blocks.1.attn.W_O"][0] = 0
    small_checkpoint(state).write(pytester.path / "model.zanj")
    for words in ((), ("--dla-update-new",)):
        changed = inner(a_test(ASKS), *words)
        changed.assert_outcomes(failed=1)
        changed.stdout.fnmatch_lines(["*CHANGED", "*weights' values are others*", "*L1H0*", "*--dla-update rewrites*"])
        assert tree(pytester.path)[FILE] == recorded[FILE]
    rewritten = inner(a_test(ASKS), "--dla-update")
    rewritten.assert_outcomes(failed=1)
    rewritten.stdout.fnmatch_lines(["*CHANGED", "written: *"])
    assert tree(pytester.path)[FILE] != recorded[FILE]
    inner(a_test(ASKS)).assert_outcomes(passed=1)


def test_the_question_is_part_of_it(inner, pytester) -> None:
    inner(a_test('dla_baseline.check("model.zanj", n_mazes=3, prepend_bos=False)'), "--dla-update-new")
    recorded = tree(pytester.path)[FILE]
    for options, said in (("n_mazes=4, prepend_bos=False", "n_mazes was 3"), ("n_mazes=3", "prepend_bos was False")):
        other = inner(a_test(f'dla_baseline.check("model.zanj", {options})'))
        other.assert_outcomes(failed=1)
        other.stdout.fnmatch_lines([f"*question: {said}*"])
    another_task = a_test('dla_baseline.check("model.zanj", n_mazes=3, prepend_bos=False, task="path_end")')
    for words in ((), ("--dla-update",), ("--dla-update-new",)):
        result = inner(another_task, *words)
        result.assert_outcomes(failed=1)
        assert tree(pytester.path)[FILE] == recorded
    result.stdout.fnmatch_lines(["*is of another model or task*never rewritten*"])
    state = {name: values for name, values in random_state().items() if ".1." not in name}
    one_layer = small_checkpoint(state)
    one_layer.config["model_cfg"]["n_layers"] = 1
    for name in [name for name in one_layer.state if ".1." in name]:
        del one_layer.state[name]
    one_layer.write(pytester.path / "model.zanj")
    result = inner(a_test('dla_baseline.check("model.zanj", n_mazes=3, prepend_bos=False)'), "--dla-update")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*is of another model (sizes*never rewritten*"])
    assert tree(pytester.path)[FILE] == recorded


def test_several_in_a_test_and_what_is_stale(inner, pytester) -> None:
    two = f'{ASKS}\ndla_baseline.check("model.zanj", n_mazes=3, metric="all")'
    inner(a_test(two), "--dla-update-new").assert_outcomes(failed=1)
    assert len(read_baselines(pytester.path / FILE)) == 2
    inner(a_test(two)).assert_outcomes(passed=1)
    recorded = tree(pytester.path)
    for words in ((), ("--dla-update-new",)):
        stale = inner(a_test(ASKS), *words)
        stale.assert_outcomes(failed=1)
        stale.stdout.fnmatch_lines(["*stale, the test no longer asks for '*, all'; pytest --dla-update drops it"])
        assert tree(pytester.path)[FILE] == recorded[FILE]
    inner(a_test("pass")).stdout.fnmatch_lines(["*stale*; remove the file"])
    inner(a_test(f"{two}\nassert 0"), "--dla-update").stdout.no_fnmatch_line("*stale, *")
    inner(a_test(ASKS), "--dla-update").stdout.fnmatch_lines(["dropped, *: ../../../model.zanj: *, all"])
    inner(a_test(ASKS)).assert_outcomes(passed=1)
    assert len(read_baselines(pytester.path / FILE)) == 1
    twice = inner(a_test(f"{ASKS}\n{ASKS}"))
    twice.assert_outcomes(failed=1)
    twice.stdout.fnmatch_lines(["the test asks twice for *"])


OF_CLASSES = """
import unittest
import pytest

class TestModel:
    @pytest.mark.parametrize("seed", [0, 1])
    def test_seed(self, dla_baseline, seed):
        dla_baseline.check("model.zanj", n_mazes=3, seed=seed)

class TestOld(unittest.TestCase):
    @pytest.fixture(autouse=True)
    def _baseline(self, dla_baseline):
        self.baseline = dla_baseline

    def test_old(self):
        self.baseline.check("model.zanj", n_mazes=3)

    def test_failing(self):
        assert 0

def test_late(request):
    request.getfixturevalue("dla_baseline").check("model.zanj", n_mazes=3)

def test_wrong(dla_baseline):
    dla_baseline.check("model.zanj", n_maze=3)

def test_in_memory(dla_baseline):
    import torch
    import maze_dla as dla
    maze = dla.load_maze_model("model.zanj")
    with pytest.raises(pytest.fail.Exception, match="a model in memory has its own"):
        dla_baseline.check(maze, dtype=torch.float64, n_mazes=3)
    dla_baseline.check(maze, n_mazes=3, forward="hooked")

def test_no_file(dla_baseline):
    dla_baseline.check("gone.zanj", n_mazes=3)
"""


def test_classes_and_processes(inner, pytester) -> None:
    """Recorded here, then checked in two processes where nothing may be written."""
    inner(OF_CLASSES, "--dla-update-new").assert_outcomes(failed=8)
    recorded = tree(pytester.path)
    made = {name.rsplit("/", 1)[1] for name in recorded if "/baselines/" in name}
    names = ("TestModel.test_seed-0", "TestModel.test_seed-1", "TestOld.test_old", "test_late", "test_in_memory")
    assert made == {f"{name}.json" for name in names}
    for folder in (pytester.path / "tests" / "baselines" / "test_it", pytester.path / "tests" / "baselines"):
        folder.chmod(0o555)
    (pytester.path / "elsewhere").mkdir()
    words = [*PLAIN, "-n", "2", "--rootdir", "elsewhere", "--import-mode=importlib", "tests"]
    result = pytester.runpytest_subprocess(*words)
    result.assert_outcomes(passed=5, failed=3)
    result.stdout.fnmatch_lines(["*a baseline has no option 'n_maze'*"])
    result.stdout.fnmatch_lines(["*'gone.zanj': no such file in *"])
    result.stdout.no_fnmatch_line("*unused*")
    assert tree(pytester.path) == recorded


UNUSED = {
    "kept": "def test_kept(dla_baseline): pass\ndef test_other(): pass\ndef test_skipped():\n    import pytest\n"
    "    pytest.skip('now')\n",
    "broken": "import nothing_of_this_name\n",
    "whole": "def test_whole(): pass\n",
}


def test_files_that_no_test_uses_are_listed(pytester) -> None:
    """Without a look at their content; nothing else of a folder is listed, and nothing is removed."""
    text = '{"baselines": {},\n "format": "maze_dla baselines",\n "format_version": 1\n}\n'
    for module, test in UNUSED.items():
        (pytester.path / f"test_{module}.py").write_text(test, encoding="utf-8")
    names = ("kept/test_gone", "kept/test_other", "kept/test_skipped", "broken/test_b", "whole/test_w")
    for name in (*names, "deleted/test_d"):
        file = pytester.path / "baselines" / f"test_{name}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    (pytester.path / "baselines" / "test_kept" / "foreign.json").write_text("{}", encoding="utf-8")
    before = tree(pytester.path)

    def listed(*words: str) -> set[str]:
        lines = [line.replace(os.sep, "/") for line in pytester.runpytest_inprocess(*PLAIN, *words).outlines]
        return {line.removeprefix("baselines/test_").removesuffix(".json") for line in lines if line.endswith(".json")}

    go_on = "--continue-on-collection-errors"
    expected = {"kept/test_gone", "kept/test_other", "whole/test_w", "deleted/test_d"}
    assert listed(go_on) == listed(go_on, "-n", "2") == expected
    assert listed(go_on, "-k", "test_whole") == expected - {"kept/test_other"}  # that test did not run
    assert listed("test_whole.py", "test_kept.py::test_kept") == {"whole/test_w", "deleted/test_d"}
    assert listed("--collect-only") == set()
    assert listed("test_kept.py::test_kept") == set()
    assert tree(pytester.path) == before


def test_nothing_where_it_is_not_used(pytester, monkeypatch) -> None:
    """Neither torch nor the engine is imported, nothing is printed, nothing is written."""
    pytester.makepyfile(
        "import sys\ndef test_plain():\n    heavy = {'torch', 'numpy', 'transformer_lens', 'maze_dataset'}\n"
        "    assert not heavy & {*sys.modules}\n"
        "    assert [name for name in sys.modules if name.startswith('maze_dla.') and 'baselines' not in name] == []\n"
        f"    assert {PLUGIN!r} in sys.modules\n"
    )
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # other plugins import numpy
    result = pytester.runpytest_subprocess("-p", PLUGIN, "-q")
    result.assert_outcomes(passed=1)
    assert "dla" not in "".join(result.outlines)


def test_names_of_files() -> None:
    plain = {
        ("test_model",): "test_model",
        ("TestA", "TestB", "test_it"): "TestA.TestB.test_it",
        ("test_it[3-wide]",): "test_it-3-wide",
        ("test_it[]",): "test_it-",
        ("test_it[1.5]",): "test_it-1.5",
    }
    assert {names: safe_name(names) for names in plain} == plain
    odd = ["a/b", "a::b", "a b", "a?b", "../..", "A", "a\\ud800", "[", "]", "é", "\ud800", "x" * 300, "x" * 301]
    names = [safe_name([f"test_it[{text}]"]) for text in odd]
    assert len({name.lower() for name in [*names, "test_it-a"]}) == len(odd) + 1
    assert all(len(name) <= LONGEST and name.startswith("test_it-") for name in names)
    assert not any(character in name for name in names for character in '/\\:*?"<>| []')
    module = Path("/tests/test_it.py")
    assert file_of_test(module, ["test_a"]) == Path("/tests/baselines/test_it/test_a.json")
    assert MARK.decode() == f'"format": "{FORMAT}"'


@pytest.mark.skipif(not IS_INSTALLED, reason="the environment was made before the plugin was there")
def test_it_is_an_entry_point() -> None:
    found = subprocess.run([sys.executable, "-m", "pytest", "--help"], capture_output=True, text=True, check=True)
    assert "--dla-update-new" in found.stdout
