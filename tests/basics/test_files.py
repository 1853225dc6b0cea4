"""Files and folders that are whole under their name at every moment, whenever what replaces them fails or is killed."""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from basics import files
from basics.files import atomic_file, atomic_folder, exchange, recover_folder, write_atomically

ROOT = Path(__file__).parents[2]
SAVE_FOREVER = """
import sys
from itertools import count
from pathlib import Path
from basics import files
if sys.argv[1] == "two renames":
    files.exchange = lambda a, b: False
for number in count():
    with files.atomic_folder(Path("best")) as fresh:
        for name in ("config.json", "model.safetensors"):
            (fresh / name).write_text(str(number))
"""


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours runs after it."""


def save(folder: Path, content: str) -> None:
    with atomic_folder(folder) as fresh:
        (fresh / "file").write_text(content)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(params=["exchange", "two renames"])
def way(request, tmp_path, monkeypatch) -> str:
    """Both ways to put a folder in the place of another: at once, and where the system cannot."""
    if request.param == "two renames":
        monkeypatch.setattr(files, "exchange", lambda a, b: False)
    elif not can_exchange(tmp_path):
        pytest.skip("this file system cannot exchange two names")
    return request.param


def can_exchange(folder: Path) -> bool:
    a, b = folder / "a", folder / "b"
    a.mkdir()
    b.mkdir()
    possible = exchange(a, b)
    a.rmdir()
    b.rmdir()
    return possible


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, "old")
    with pytest.raises(ZeroDivisionError), atomic_file(path) as file:
        file.write(b"half")
        raise ZeroDivisionError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_two_folders_are_exchanged_or_left_as_they_are(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    exchanged = exchange(tmp_path / "a", tmp_path / "b")
    assert names(tmp_path / "a") == (["b"] if exchanged else ["a"])
    assert not exchange(tmp_path / "a", tmp_path / "gone") and names(tmp_path) == ["a", "b"]


def test_a_folder_replaces_the_older_one_and_leaves_nothing_beside_it(way, tmp_path):
    for content in ("first", "second", "third"):
        save(tmp_path / "best", content)
        assert (tmp_path / "best/file").read_text() == content and names(tmp_path) == ["best"]


def test_a_folder_that_cannot_be_filled_leaves_the_older_one(way, tmp_path):
    save(tmp_path / "best", "first")
    with pytest.raises(ZeroDivisionError), atomic_folder(tmp_path / "best") as fresh:
        (fresh / "file").write_text("half")
        raise ZeroDivisionError
    assert (tmp_path / "best/file").read_text() == "first" and names(tmp_path) == ["best"]


def test_a_rename_that_fails_leaves_the_older_folder_under_its_name(tmp_path, monkeypatch):
    save(tmp_path / "best", "first")
    monkeypatch.setattr(files, "exchange", lambda a, b: False)
    fail_at(monkeypatch, 2, PermissionError)
    with pytest.raises(PermissionError):
        save(tmp_path / "best", "second")
    assert (tmp_path / "best/file").read_text() == "first" and names(tmp_path) == ["best"]


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("after_it", ["a reader", "a writer that fails", "a writer"])
def test_a_kill_at_a_rename_loses_no_folder(number, after_it, tmp_path, monkeypatch):
    """Kept still after the kill: what a process that is gone cannot tidy up."""
    best = tmp_path / "best"
    save(best, "first")
    with monkeypatch.context() as patched:
        patched.setattr(files, "exchange", lambda a, b: False)
        fail_at(patched, number, Killed)
        patched.setattr(files.shutil, "rmtree", lambda *_, **__: None)
        patched.setattr(files, "recover_folder", lambda folder: None)
        with pytest.raises(Killed):
            save(best, "second")
    assert best.exists() == (number == 1)
    if after_it == "a reader":
        recover_folder(best)
    elif after_it == "a writer that fails":
        with pytest.raises(ZeroDivisionError), atomic_folder(best):
            raise ZeroDivisionError
    else:
        save(best, "third")
    assert (best / "file").read_text() == ("third" if after_it == "a writer" else "first")


def fail_at(patched: pytest.MonkeyPatch, number: int, error: type[BaseException]) -> None:
    """The rename of that number raises the error; those after it are real again."""
    rename, calls = files.os.replace, []

    def replace(source: Path, target: Path) -> None:
        calls.append(source)
        if len(calls) == number:
            raise error
        rename(source, target)

    patched.setattr(files.os, "replace", replace)


def test_a_reader_leaves_alone_what_needs_no_recovery(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in (".", "..", "/", "user/name", "best"):
        recover_folder(Path(name))
    (tmp_path / "best").mkdir()
    (tmp_path / "best.old").mkdir()
    recover_folder(tmp_path / "best")
    assert names(tmp_path) == ["best", "best.old"]


def test_a_process_killed_at_any_moment_leaves_a_whole_folder(way, tmp_path):
    best, chance = tmp_path / "best", random.Random(0)
    for _ in range(8):
        process = subprocess.Popen(
            [sys.executable, "-c", SAVE_FOREVER, way], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}
        )
        started = time.monotonic()
        while not best.exists() and time.monotonic() < started + 30:
            time.sleep(0.001)
        time.sleep(0.1 + 0.1 * chance.random())
        process.kill()
        process.wait()
        if way == "two renames":
            recover_folder(best)
        assert names(best) == ["config.json", "model.safetensors"]
        assert len({path.read_text() for path in best.iterdir()}) == 1
