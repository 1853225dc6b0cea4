"""A disk without room: one line with the place and what is free, and what was there is whole."""

import resource
from types import SimpleNamespace

import pytest
import torch
from in_process import call
from safetensors.torch import save_file

from basics import disk
from basics.disk import WriteError
from basics.errors import UserError
from basics.files import atomic_file, atomic_folder

WEIGHTS = {"a": torch.ones(300, 1000)}


@pytest.fixture
def no_room():
    """Files of this process may have 100 kB: the next byte fails as on a full disk, whoever writes it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def save_pt(path):
    with atomic_file(path) as file:
        torch.save(WEIGHTS, file)


def save_bytes(path):
    with atomic_file(path) as file:
        file.write(bytes(10**6))


def save_folder(path):
    with atomic_folder(path) as fresh:
        save_file(WEIGHTS, fresh / "model.safetensors")


@pytest.mark.parametrize("save", [save_pt, save_bytes, save_folder])
def test_a_full_disk_is_one_line_and_leaves_what_was_there(no_room, save, tmp_path):
    (tmp_path / "new").mkdir()
    with pytest.raises(WriteError, match=rf"cannot write {tmp_path}/new/it: file too large, .*iB are free there$"):
        save(tmp_path / "new" / "it")
    assert list((tmp_path / "new").iterdir()) == []


def test_other_errors_are_not_the_disks(tmp_path):
    with pytest.raises(RuntimeError, match="of ours"), atomic_file(tmp_path / "it"):
        raise RuntimeError("of ours")
    with pytest.raises(FileNotFoundError), atomic_file(tmp_path / "it"):
        open(tmp_path / "gone")


def test_a_script_says_it_in_one_line(no_room, tmp_path):
    result = call(lambda _: save_pt(tmp_path / "it"), cwd=tmp_path)
    assert (
        result.returncode == 1 and result.stderr.startswith("error: cannot write ") and result.stderr.count("\n") == 1
    )


def test_free_bytes_are_those_of_the_nearest_folder(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda path: asked.append(path) or SimpleNamespace(free=7))
    assert disk.free_bytes(tmp_path / "not/yet") == 7 and asked == [tmp_path]
    assert issubclass(WriteError, UserError)
