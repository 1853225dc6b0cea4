"""Runs and captioners of older versions go on and load: their settings are read as those of today."""

import json
import os

import pytest
import torch
from tiny import tiny_settings, tiny_tokenizer

from basics.checkpoint_file import read_checkpoint
from captioner.folder import load_captioner, save_captioner
from training.checkpoint import save_checkpoint
from training.run import settings_for_resume, start_run

NEW = ("DECODER", "TASK", "LOSS")  # settings that older versions did not have


def older(settings: dict) -> dict:
    return {name: value for name, value in settings.items() if name not in NEW} | {"DISTILL": "git"}


@pytest.fixture
def run(tmp_path):
    return start_run(tiny_settings(), tiny_tokenizer(), 12, tmp_path / "run")


def test_a_run_of_an_older_version_is_resumed_without_a_difference(run, capsys):
    path = save_checkpoint(run)
    checkpoint = torch.load(path, weights_only=True)
    torch.save(checkpoint | {"config": older(checkpoint["config"])}, path)
    today = tiny_settings(DISTILL="teacher", TEACHER_MODEL_NAME="user/name")
    capsys.readouterr()
    resumed = settings_for_resume(today.replace(TEACHER_MODEL_NAME=None), read_checkpoint(path), path)
    assert capsys.readouterr().out.count("\n") == 1  # the line that says what is resumed
    assert (resumed.DISTILL, resumed.DECODER) == ("teacher", "transformer")


def test_the_decoder_of_an_older_run_stays_what_it_was(run):
    path = save_checkpoint(run)
    checkpoint = torch.load(path, weights_only=True)
    torch.save(checkpoint | {"config": older(checkpoint["config"])}, path)
    assert settings_for_resume(tiny_settings(DECODER="another"), read_checkpoint(path), path).DECODER == "transformer"
    assert load_captioner(path).config["settings"]["DECODER"] == "transformer"


def test_a_captioner_of_an_older_version_loads_also_where_a_kill_left_it_aside(run, tmp_path):
    best = tmp_path / "run" / "best"
    record = {"epoch": 1, "global_step": 1, "val_loss": 1.0, "train_loss": 1.0}
    save_captioner(run.captioner, best, run.settings, record)
    config = json.loads((best / "config.json").read_text())
    (best / "config.json").write_text(json.dumps(config | {"settings": older(config["settings"])}))
    os.replace(best, tmp_path / "run" / "best.old")
    settings = load_captioner(best).config["settings"]
    assert (settings["DISTILL"], settings["DECODER"]) == ("teacher", "transformer")
