"""A tiny GIT and a run that learns from it, for the tests of distillation."""

import pytest
from git_folders import make_plain
from taught import make_all


@pytest.fixture(scope="module")
def git(tmp_path_factory):
    return make_plain(tmp_path_factory.mktemp("teacher") / "git")


@pytest.fixture
def made(tmp_path, git, monkeypatch):
    """A teacher, a student and its datasets."""
    monkeypatch.chdir(tmp_path)
    return make_all(git)
