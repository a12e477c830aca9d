"""A pytest plugin: tests that fail when a saved model no longer says what it said.

    def test_model(dla_baseline):
        dla_baseline.check("model.zanj", task="first_path_choice")

The first run fails and says that nothing is recorded. `pytest --dla-update-new` records it, and fails that test once;
from then on the test compares. What is recorded lies beside the test and is named after it, to be read and kept under
version control: `baselines/<test module>/<test>.json`, with a `.npz` of the same name for larger arrays. `<test>` is
`test_model`, `TestClass.test_model` in a class, `test_model-3-wide` for the parameters `[3-wide]`; a name that is too
long, or that a file system might not take, is cut and ends in a hash. Several checks in a test are several baselines in
its one file.

Without `--dla-update` or `--dla-update-new` nothing is ever written. Each test writes its own file, whole or not at
all, so that tests may run in any number of processes (pytest-xdist). Files of baselines that no test owns are listed at
the end of a session, for test modules that were collected whole; nothing is done to them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from maze_dla.baselines.plugin_files import FOLDER, file_of_test, without_test

if TYPE_CHECKING:
    import torch

    from maze_dla.adapters.transformer_lens.view import Forward
    from maze_dla.baselines.plugin_checks import BaselinesOfTest

OUTPUT = "maze_dla_unused"  # of an xdist worker


class DlaBaseline:
    """The fixture `dla_baseline`: the baselines of one test."""

    def __init__(self, file: Path, folders: Sequence[Path], *, update: bool = False, update_new: bool = False) -> None:
        """Of a file.

        Args:
            file: the test's own.
            folders: where relative paths are looked for.
            update, update_new: the words of the command line.
        """
        self.file = file
        self._folders, self._update, self._update_new = folders, update, update_new
        self._baselines: BaselinesOfTest | None = None
        self._is_finished = False

    def check(
        self,
        source: Any = None,
        *,
        dtype: torch.dtype | None = None,
        device: str | torch.device | None = None,
        sequences_at_once: int | None = None,
        forward: Forward = "auto",
        **options: Any,
    ) -> None:
        """Fail the test unless a model says what is recorded of it, and unless the question is the recorded one.

        With `--dla-update` or `--dla-update-new` the test runs on, and fails at its end.

        Args:
            source: a checkpoint's path, relative to the test's folder, else to pytest's root folder, else to the
                current one; a model in memory; or None (or "bundled") for the bundled checkpoint.
            dtype, device: as `load_maze_model` takes them, for a model from a file; default the recorded precision.
            sequences_at_once, forward: as in `attribute`; they change no number.
            **options: the question, as `record_baseline` takes it: `task` (one name), `metric`, `reduce`, `n_mazes`,
                `seed`, `prepend_bos`, `padding`, `dataset` (a path as `source`).
        """
        if self._is_finished:
            pytest.fail("dla_baseline.check belongs into the test or before it: after its end nothing can be recorded")
        from maze_dla.baselines.plugin_checks import How, text_of
        from maze_dla.errors import MazeDlaError

        try:
            of_test = self._of_test()
            of_test.check(source, How(dtype, device, sequences_at_once, forward), options)
        except MazeDlaError as problem:
            text = str(problem)
        else:
            text = "" if self._update or self._update_new else text_of(of_test.failures)
        if text:
            pytest.fail(text, pytrace=False)

    def finish(self) -> None:
        """Write what is to be written, and fail the test if anything was, or if the file holds what it did not ask for.

        The plugin calls this when the test has come to its end.
        """
        self._is_finished = True
        if self._baselines is None and not self.file.exists():
            return
        from maze_dla.baselines.plugin_checks import text_of
        from maze_dla.errors import MazeDlaError

        try:
            of_test = self._of_test()
            before = len(of_test.failures) if not (self._update or self._update_new) else 0  # these were raised
            of_test.finish()
            text = text_of(of_test.failures[before:])
        except MazeDlaError as problem:
            text = str(problem)
        if text:
            pytest.fail(text, pytrace=False)

    def _of_test(self) -> BaselinesOfTest:
        from maze_dla.baselines.plugin_checks import BaselinesOfTest

        if self._baselines is None:
            words = {"update": self._update, "update_new": self._update_new}
            self._baselines = BaselinesOfTest(self.file, self._folders, **words)
        return self._baselines


CHECKS: pytest.StashKey[DlaBaseline] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The two words that let tests write."""
    group = parser.getgroup("maze_dla", "baselines of saved models (maze_dla)")
    group.addoption(
        "--dla-update",
        action="store_true",
        help="rewrite the baselines that changed, record new ones and drop those that their test no longer asks for; "
        "these tests fail once. Never a file of another model or task",
    )
    group.addoption(
        "--dla-update-new", action="store_true", help="record baselines that are absent; these tests fail once"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Files that no test uses are looked for in every session."""
    config.pluginmanager.register(UnusedFiles(config), "maze_dla unused baselines")


@pytest.fixture
def dla_baseline(request: pytest.FixtureRequest) -> DlaBaseline:
    """The recorded numbers of this test's models: `dla_baseline.check("model.zanj", task="first_path_choice")`."""
    item, config = request.node, request.config
    folders = (item.path.parent, config.rootpath, Path.cwd())
    words = {name: bool(config.getoption(f"dla_{name}")) for name in ("update", "update_new")}
    item.stash[CHECKS] = DlaBaseline(_file_of(item), folders, **words)
    return item.stash[CHECKS]


@pytest.hookimpl(trylast=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """A test that uses the fixture has come to its end without an error."""
    checks = item.stash.get(CHECKS, None)
    if checks is not None and not getattr(item, "_excinfo", None):  # where unittest keeps its errors
        checks.finish()


class UnusedFiles:
    """The files of baselines beside the test modules of a session that no test uses."""

    def __init__(self, config: pytest.Config) -> None:
        """Of a session."""
        self.config = config
        self.modules: dict[str, Path] = {}  # with a folder of baselines beside them
        self.without_fixture: dict[str, Path] = {}  # files of tests that do not name the fixture, but may ask for it
        self.unused: set[str] = set()

    def pytest_collectstart(self, collector: pytest.Collector) -> None:
        """A test module with baselines beside it is remembered."""
        if isinstance(collector, pytest.Module) and (collector.path.parent / FOLDER).is_dir():
            self.modules[collector.nodeid] = collector.path

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A module of which not everything could be collected is forgotten."""
        if not report.passed:
            self.modules.pop(report.nodeid.partition("::")[0], None)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Files that belong to no test are noted, before `-k`, `-m` and others leave tests out."""
        modules = self._whole_modules()
        if not modules:
            return
        owned = []
        for item in items:
            if item.path in modules:
                owned.append(_file_of(item))
                if "dla_baseline" not in getattr(item, "fixturenames", ()) and owned[-1].exists():
                    self.without_fixture[item.nodeid] = owned[-1]
        self.unused.update(map(str, without_test(modules, owned)))

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_call(self, item: pytest.Item) -> None:
        """A test has come to its end, and did not ask for the file that is named after it."""
        if self.without_fixture and item.nodeid in self.without_fixture and CHECKS not in item.stash:
            self.unused.add(str(self.without_fixture[item.nodeid]))

    def pytest_sessionfinish(self) -> None:
        """An xdist worker tells its session what it has seen."""
        output = getattr(self.config, "workeroutput", None)
        if output is not None:
            output[OUTPUT] = [os.fsencode(path) for path in sorted(self.unused)]

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Gather the unused files that an xdist worker has seen."""
        self.unused.update(map(os.fsdecode, getattr(node, "workeroutput", {}).get(OUTPUT, [])))

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """The files that no test uses, if there are any."""
        if not self.unused:
            return
        root = self.config.rootpath
        terminalreporter.section("unused baselines")
        for path in sorted(self.unused):
            shown = os.path.relpath(path, root) if Path(path).is_relative_to(root) else path
            terminalreporter.line(shown.encode("utf-8", "backslashreplace").decode())
        terminalreporter.line("no test asks for them: remove them with their .npz files, or name their tests as before")

    def _whole_modules(self) -> set[Path]:
        """The modules of which every test was collected."""
        config = self.config
        if config.getoption("collectonly", False) or config.getoption("lf", False):
            return set()
        named = [argument.partition("::")[0] for argument in config.args if "::" in argument]
        if named and config.getoption("pyargs", False):
            return set()
        partly = {Path(os.path.normpath(config.invocation_params.dir / name)) for name in named}
        return {path for path in self.modules.values() if path not in partly}


def _file_of(item: pytest.Item) -> Path:
    names = [node.name for node in item.listchain() if isinstance(node, pytest.Class)]
    return file_of_test(item.path, [*names, item.name])
