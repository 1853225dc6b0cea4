"""Tests without the Hub, without W&B and without a user's tokens; a tiny GIT, and all a student needs of it."""

import os

import pytest

for name in list(os.environ):
    if name.startswith(("HF_", "WANDB_")):
        del os.environ[name]
os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}  # libraries read both when imported, so none is above


@pytest.fixture(scope="session")
def git(tmp_path_factory):
    from git_folders import make_plain

    return make_plain(tmp_path_factory.mktemp("teacher") / "git")


@pytest.fixture
def made(tmp_path, git, monkeypatch):
    """A teacher, a student and its datasets."""
    from taught import make_all

    monkeypatch.chdir(tmp_path)
    return make_all(git)
