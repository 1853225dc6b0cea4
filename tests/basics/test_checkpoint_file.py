"""Checkpoint files: safe to read, one clear error where they are none, in the order of their numbers."""

import os
import pickle

import pytest
import torch

from basics.checkpoint_file import BEST_FILE, REQUIRED, STEP_FILE, numbered, read_checkpoint
from basics.errors import UserError


class Evil:
    def __reduce__(self):
        return os.system, ("touch pwned",)


def test_a_pickle_that_would_run_code_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({name: Evil() for name in REQUIRED}, "evil.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Evil()))
    for name in ("evil.pt", "plain.pt"):
        with pytest.raises(UserError, match=f"{name} is refused.* could run code"):
            read_checkpoint(tmp_path / name)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("content", [b"text", b"\x89PNG\r\n", b"", b"{}", b"id,caption\n", bytes(100)])
def test_a_file_of_another_kind_is_no_checkpoint_and_no_danger(tmp_path, content):
    (tmp_path / "loss.png").write_bytes(content)
    with pytest.raises(UserError, match=r"loss\.png is no checkpoint.* expected a checkpoint_\*\.pt") as caught:
        read_checkpoint(tmp_path / "loss.png")
    assert "code" not in str(caught.value)


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


def test_files_are_ordered_by_number_not_by_name(tmp_path):
    for name in ("checkpoint_step_9.pt", "checkpoint_step_10.pt", "checkpoint_epoch_3_val_0.5.pt", "other.pt"):
        (tmp_path / name).touch()
    assert [p.name for p in numbered(tmp_path, STEP_FILE)] == ["checkpoint_step_9.pt", "checkpoint_step_10.pt"]
    assert [p.name for p in numbered(tmp_path, BEST_FILE)] == ["checkpoint_epoch_3_val_0.5.pt"]
