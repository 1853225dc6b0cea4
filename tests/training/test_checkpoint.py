"""Checkpoint files: whole or not there, safe to read, pruned by number, found again."""

import os
import pickle

import pytest
import torch
from tiny import tiny_settings

from basics.checkpoint_file import BEST_FILE, REQUIRED, STEP_FILE, numbered, read_checkpoint
from basics.errors import UserError
from basics.files import atomic_file, write_atomically
from training.checkpoint import restore_rng, rng_state
from training.resume import find_resume_path


class Evil:
    def __reduce__(self):
        return os.system, ("touch pwned",)


def test_a_pickle_that_would_run_code_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({name: Evil() for name in REQUIRED}, "evil.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Evil()))
    for name in ("evil.pt", "plain.pt"):
        with pytest.raises(UserError, match=name):
            read_checkpoint(tmp_path / name)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("content", ["cut short", "empty", "text", "another dict", "missing"])
def test_a_file_that_is_no_checkpoint_is_one_clear_error(tmp_path, content):
    path = tmp_path / "checkpoint.pt"
    torch.save({"weights": torch.zeros(1000)}, path)
    if content == "cut short":
        path.write_bytes(path.read_bytes()[:2000])
    elif content in ("empty", "text"):
        path.write_bytes(b"" if content == "empty" else b"hello, this is no checkpoint")
    elif content == "missing":
        path.unlink()
    with pytest.raises(UserError) as caught:
        read_checkpoint(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, "old")
    with pytest.raises(ZeroDivisionError), atomic_file(path) as file:
        file.write(b"half")
        raise ZeroDivisionError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_files_are_ordered_by_number_not_by_name(tmp_path):
    for name in ("checkpoint_step_9.pt", "checkpoint_step_10.pt", "checkpoint_epoch_3_val_0.5.pt", "other.pt"):
        (tmp_path / name).touch()
    assert [p.name for p in numbered(tmp_path, STEP_FILE)] == ["checkpoint_step_9.pt", "checkpoint_step_10.pt"]
    assert [p.name for p in numbered(tmp_path, BEST_FILE)] == ["checkpoint_epoch_3_val_0.5.pt"]


def test_latest_is_the_newest_run_or_that_of_the_run_name(tmp_path):
    for age, run in ((100, "old"), (1, "new")):
        path = tmp_path / run / "checkpoint_step_00000005.pt"
        path.parent.mkdir()
        path.touch()
        os.utime(path, (1e9 - age, 1e9 - age))
    latest = dict(CHECKPOINT_DIR=str(tmp_path), RESUME_CHECKPOINT_PATH="latest")
    assert find_resume_path(tiny_settings(**latest)).parent.name == "new"
    assert find_resume_path(tiny_settings(**latest, RUN_NAME="old")).parent.name == "old"
    with pytest.raises(UserError, match="holds no checkpoint"):
        find_resume_path(tiny_settings(**latest, RUN_NAME="none-such"))


def test_every_global_generator_continues_where_it_was():
    import random

    import numpy as np

    state = rng_state()
    torch.save(state, buffer := __import__("io").BytesIO())
    drawn = [(torch.rand(1).item(), np.random.rand(), random.random()) for _ in range(2)]
    buffer.seek(0)
    restore_rng(torch.load(buffer, weights_only=True))
    assert [(torch.rand(1).item(), np.random.rand(), random.random()) for _ in range(2)] == drawn


def test_the_generator_of_mps_continues_where_it_was(monkeypatch):
    generator = {"state": torch.tensor([1, 2, 3], dtype=torch.uint8)}
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.mps, "get_rng_state", lambda: generator["state"])
    monkeypatch.setattr(torch.mps, "set_rng_state", lambda state: generator.update(state=state))
    saved = rng_state()
    generator["state"] = torch.zeros(3, dtype=torch.uint8)
    older = {name: value for name, value in saved.items() if name != "mps"}
    for unknown in (older, saved | {"mps": None}):  # written before it was kept, or on a machine without MPS
        restore_rng(unknown)
        assert generator["state"].tolist() == [0, 0, 0]
    restore_rng(saved)
    assert generator["state"].tolist() == [1, 2, 3]
