"""A captioner's folder: the same captioner and config.json whichever way it came, and whole or not there."""

import contextlib
import json

import pytest
import torch
from tiny import tiny_settings

from basics.errors import UserError
from captioner.folder import load_captioner, save_captioner
from networks.decoding_options import DecodingOptions
from tasks.captioning import build_captioning
from training.checkpoint import save_checkpoint
from training.processes import OneProcess
from training.run import start_run


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """run/ with best/ and a checkpoint of the same run after its second epoch."""
    folder = tmp_path_factory.mktemp("saved") / "run"
    with contextlib.chdir(folder.parent):
        task = build_captioning(tiny_settings(), None, OneProcess())
    run = start_run(task, folder, OneProcess())
    run.progress.epoch = 2
    save_captioner(task.captioner, folder / "best", 2, {"README.md": "a card"})
    return folder, save_checkpoint(run)


def captions(captioner) -> list[str]:
    pixels = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return [row[0][0] for row in captioner.caption_pixels(pixels, DecodingOptions(max_seq_len=8))]


def test_a_captioner_of_a_checkpoint_is_saved_and_loaded_as_that_of_best(saved, tmp_path):
    folder, checkpoint = saved
    best, found = load_captioner(folder / "best"), load_captioner(checkpoint)
    assert found.config == best.config
    save_captioner(found, tmp_path / "again", found.config["epoch"], {})
    again = load_captioner(tmp_path / "again")
    assert again.config == best.config and captions(again) == captions(found) == captions(best)


def test_further_files_lie_beside_the_captioner_and_old_ones_go(saved, tmp_path):
    folder, _ = saved
    assert (folder / "best" / "README.md").read_text() == "a card"
    captioner = load_captioner(folder / "best")
    for name in ("one.txt", "two.txt"):
        save_captioner(captioner, tmp_path / "best", 3, {name: "text"})
    assert (tmp_path / "best" / "two.txt").is_file() and not (tmp_path / "best" / "one.txt").exists()
    assert json.loads((tmp_path / "best" / "config.json").read_text())["epoch"] == 3


def test_a_file_that_cannot_be_written_leaves_the_older_captioner(saved, tmp_path):
    folder, _ = saved
    captioner = load_captioner(folder / "best")
    save_captioner(captioner, tmp_path / "best", 1, {})
    with pytest.raises(TypeError):
        save_captioner(captioner, tmp_path / "best", 2, {"README.md": None})
    assert load_captioner(tmp_path / "best").config["epoch"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


def test_the_folder_of_a_run_is_pointed_to_its_best(tmp_path):
    (tmp_path / "run/best").mkdir(parents=True)
    with pytest.raises(UserError, match=r"did you mean .*run/best\?"):
        load_captioner(tmp_path / "run")
