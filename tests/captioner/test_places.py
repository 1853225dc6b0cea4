"""The newest best/ is found from every folder."""

import os

import pytest

from basics.errors import UserError
from captioner import places
from captioner.places import newest_best


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """The project's folder and another, where a script is started."""
    for name in ("project", "elsewhere"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(places, "ROOT", tmp_path / "project")
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "project", tmp_path / "elsewhere"


def make_best(folder, age: int):
    best = folder / "best"
    best.mkdir(parents=True)
    (best / "config.json").touch()
    os.utime(best / "config.json", (1e9 - age, 1e9 - age))
    return best


def test_this_folders_newest_comes_before_the_projects(folders):
    project, here = folders
    newest = make_best(project / "runs/new", age=1)
    make_best(project / "runs/old", age=2)
    assert newest_best("runs") == newest
    make_best(here / "runs/mine", age=9)
    assert newest_best("runs").absolute() == here / "runs/mine/best"
    assert newest_best(str(project / "runs")) == newest


def test_where_there_is_none_it_says_where_it_looked(folders, monkeypatch):
    project, here = folders
    with pytest.raises(UserError, match=f"{here}/runs/ or {project}/runs/; run `python train.py` first"):
        newest_best("runs")
    monkeypatch.chdir(project)
    with pytest.raises(UserError, match=f"no trained captioner or classifier in {project}/runs/; "):
        newest_best("runs")
