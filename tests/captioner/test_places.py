"""The newest best/ is found from every folder, and what a folder or file holds is told without loading it."""

import json
import os

import pytest
import torch

from basics.errors import UserError
from captioner import places
from captioner.places import is_classifier, newest_best, task_of


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


@pytest.mark.parametrize(
    "files, task",
    [
        ({"training.json": "{}", "config.json": "{}"}, "classify"),
        ({"config.json": {"model_type": "resnet", "architectures": ["ResNetForImageClassification"]}}, "classify"),
        ({"config.json": {"architecture": "resnet18", "num_classes": 10, "pretrained_cfg": {}}}, "classify"),
        ({"config.json": {"model_type": "image-to-text", "architecture": {}}}, "caption"),
        ({"config.json": {"model_type": "git", "architectures": ["GitForCausalLM"]}}, "caption"),
        ({"config.json": {"model_type": "vit", "architectures": ["ViTModel"]}}, "caption"),
        ({"config.json": "{"}, "caption"),
        ({"config.json": [1]}, "caption"),
        ({"config.json": {"architectures": 7}}, "caption"),
        ({}, "caption"),
    ],
)
def test_the_task_of_a_folder_is_told_by_its_files(tmp_path, files, task):
    for name, content in files.items():
        (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content))
    assert task_of(str(tmp_path)) == task


def test_the_task_of_a_checkpoint_file_is_told_by_its_parts(tmp_path):
    for name, parts in (("a.pt", {"classifier": {}}), ("b.pt", {"tokenizer": {}}), ("c.pt", [1])):
        torch.save(parts, tmp_path / name)
    (tmp_path / "d.pt").write_bytes(b"no checkpoint")
    assert [is_classifier(path) for path in sorted(tmp_path.iterdir())] == [True, False, False, False]


def test_a_model_on_the_hub_is_downloaded_and_then_told(tmp_path, monkeypatch):
    (tmp_path / "training.json").write_text("{}")
    monkeypatch.setattr(places, "download", {"user/name": tmp_path}.get)
    assert task_of("user/name") == "classify"


def test_an_ensemble_with_a_classifier_is_one_line(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    assert task_of(f"{tmp_path}/a,{tmp_path}/b") == "caption"
    (tmp_path / "b/training.json").write_text("{}")
    with pytest.raises(UserError, match="b is a classifier, and an ensemble has captioners only"):
        task_of(f"{tmp_path}/a,{tmp_path}/b")
