"""Files are written whole or not at all, and through no link."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from maze_dla.errors import CheckpointError, InputError
from maze_dla.files import drafted, locked, output_folder, put_in_place, write_file

needs_locks = pytest.mark.skipif(sys.platform == "win32", reason="no such locks on Windows")


def contents(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in folder.iterdir() if file.is_file()}


def planted(tmp_path: Path, *names: str) -> tuple[Path, Path]:
    """A folder in which links of these names lead to a file outside."""
    outside, folder = tmp_path / "outside.txt", tmp_path / "folder"
    outside.write_text("precious")
    folder.mkdir()
    for name in names:
        (folder / name).symlink_to(outside)
    return outside, folder


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    outside, folder = planted(tmp_path, "a.txt")
    (folder / "a.txt").write_text("through the link")
    assert outside.read_text() == "through the link"  # so a plain write follows it
    outside.write_text("precious")
    write_file(folder / "a.txt", "new")
    assert (outside.read_text(), (folder / "a.txt").read_text()) == ("precious", "new")
    assert not (folder / "a.txt").is_symlink()


def half_written(file: Path) -> None:
    with drafted(file, CheckpointError) as written:
        written.write_text("half")
        raise OSError(28, "No space left")


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    write_file(tmp_path / "a.txt", "old")
    with pytest.raises(CheckpointError, match=r"a\.txt: cannot be written \(No space left\)"):
        half_written(tmp_path / "a.txt")
    with pytest.raises(KeyboardInterrupt), drafted(tmp_path / "new" / "deep" / "b.txt"):
        raise KeyboardInterrupt
    assert {p.name for p in tmp_path.iterdir()} == {"a.txt"}
    assert contents(tmp_path) == {"a.txt": "old"}


def test_a_name_that_is_taken(tmp_path: Path) -> None:
    write_file(tmp_path / "a.txt", "first")
    taken = pytest.raises(InputError, match=r"a\.txt: cannot be written \(File exists\)")
    with taken, drafted(tmp_path / "a.txt", is_new=True) as written:
        written.write_text("second")
    assert contents(tmp_path) == {"a.txt": "first"}


@pytest.mark.parametrize("place", ["folder", "/dev/null"])
def test_what_is_no_file_is_not_replaced(place: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="cannot be written as a file: it is"):
        write_file(tmp_path / place, "x")
    assert (tmp_path / place).exists()


def draft_with(folder: Path, **files: str) -> Path:
    draft = folder / "draft"
    draft.mkdir()
    for name, text in files.items():
        (draft / name).write_text(text)
    return draft


def test_a_draft_replaces_all_files_that_it_owns(tmp_path: Path) -> None:
    outside, folder = planted(tmp_path, "a")
    (folder / "stale").write_text("of an earlier run")
    (folder / "mine").write_text("of somebody else")
    put_in_place(draft_with(folder, a="1", b="2"), folder, owned=("a", "stale", "never"))
    assert contents(folder) == {"a": "1", "b": "2", "mine": "of somebody else"}
    assert outside.read_text() == "precious"


@pytest.mark.parametrize("after", range(8))
@pytest.mark.parametrize("error", [OSError(28, "No space left"), KeyboardInterrupt()])
def test_all_or_nothing_whenever_it_fails(
    after: int, error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every step that touches the folder fails once; links, new names and stale ones are put back."""
    _, folder = planted(tmp_path, "link")
    for name in ("a", "stale"):
        (folder / name).write_text(f"old {name}")
    before, steps = contents(folder), iter(range(100))

    def failing(function):
        def step(*args, **options):
            if next(steps) == after:
                raise error
            return function(*args, **options)

        return step

    draft = draft_with(folder, a="1", link="2", new="3")
    for name in ("replace", "unlink"):
        monkeypatch.setattr(Path, name, failing(getattr(Path, name)))
    monkeypatch.setattr(os, "link", failing(os.link))
    copied_instead = after < 3 and isinstance(error, OSError)  # a second name that cannot be made is a copy
    if copied_instead or after == 7:
        put_in_place(draft, folder, owned=("stale",))
        assert contents(folder) == {"a": "1", "link": "2", "new": "3"}
        return
    with pytest.raises((InputError, KeyboardInterrupt)):
        put_in_place(draft, folder, owned=("stale",))
    assert contents(folder) == before
    assert (folder / "link").is_symlink()


def test_folders_that_were_made_for_nothing_are_removed(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), output_folder(tmp_path / "new" / "deep"):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with output_folder(tmp_path / "new" / "deep") as folder:
        (folder / "file").write_text("x")
    assert (tmp_path / "new" / "deep" / "file").exists()


@needs_locks
def test_a_folder_is_locked_by_one_run(tmp_path: Path) -> None:
    refused = pytest.raises(InputError, match="another run is writing into this folder")
    with locked(tmp_path), refused, locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


HOLD = """
import sys, time
from maze_dla.files import locked
with locked(sys.argv[1]):
    print(1, flush=True)
    time.sleep(60)
"""


@needs_locks
def test_a_process_that_was_killed_holds_no_lock(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(InputError, match="another run"), locked(tmp_path):
            pass
        process.kill()
    with locked(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []
