"""FINETUNE_FROM: training that starts from a trained captioner, with other data and settings."""

import json
import shutil

import pytest
from tiny import train

from bundle import load_captioner


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    assert train(folder, RUN_NAME="first", NUM_EPOCHS=3, LEARNING_RATE=0.01).returncode == 0
    return folder


def copied(finished, tmp_path):
    """The trained captioner alone, as another user has it."""
    return shutil.copytree(finished / "checkpoints/first/best", tmp_path / "theirs")


def losses(folder, name):
    return [json.loads(line)["val_loss"] for line in (folder / "checkpoints" / name / "log.jsonl").open()]


def test_it_starts_from_the_weights(finished, tmp_path):
    copied(finished, tmp_path)
    shutil.copytree(finished / "data", tmp_path / "data")
    result = train(tmp_path, RUN_NAME="second", NUM_EPOCHS=1, LEARNING_RATE=1e-9, FINETUNE_FROM="theirs")
    assert result.returncode == 0
    assert losses(tmp_path, "second")[0] == pytest.approx(min(losses(finished, "first")), abs=1e-4)


def test_shape_and_vocabulary_are_those_of_the_captioner_and_said(finished, tmp_path):
    source = copied(finished, tmp_path)
    wanted = dict(DECODER_EMBED_DIM=32, VOCAB_SIZE=280, SEED=7, DECODER_DROPOUT=0.4)
    result = train(tmp_path, RUN_NAME="second", FINETUNE_FROM="theirs", **wanted)
    assert result.returncode == 0
    assert "DECODER_EMBED_DIM stays 16 as it was trained, not 32" in result.stdout
    first, second = load_captioner(source), load_captioner(tmp_path / "checkpoints/second/best")
    assert f"finetune     theirs (vocabulary {first.tokenizer.hash})" in result.stdout
    assert second.tokenizer.hash == first.tokenizer.hash
    assert second.config["settings"]["DECODER_EMBED_DIM"] == 16
    assert second.model.architecture == {**first.model.architecture, "decoder_dropout": 0.4}


def test_a_run_goes_on_without_the_captioner_it_started_from(finished, tmp_path):
    source = copied(finished, tmp_path)
    again = dict(RUN_NAME="second", FINETUNE_FROM="theirs")
    assert train(tmp_path, NUM_EPOCHS=1, **again).returncode == 0
    shutil.rmtree(source)
    result = train(tmp_path, NUM_EPOCHS=2, RESUME_CHECKPOINT_PATH="latest", **again)
    assert result.returncode == 0
    assert len(losses(tmp_path, "second")) == 2


def test_an_encoder_that_was_frozen_can_be_tuned_in_part(finished, tmp_path):
    copied(finished, tmp_path)
    result = train(tmp_path, RUN_NAME="second", NUM_EPOCHS=1, FINETUNE_FROM="theirs", ENCODER_LEARNING_RATE=1e-4)
    assert result.returncode == 0
    assert " 0 frozen" in result.stdout


def test_what_is_no_captioner_ends_in_one_line(tmp_path):
    result = train(tmp_path, FINETUNE_FROM="nowhere/at/all")
    assert result.returncode == 1
    assert result.stderr == (
        "error: there is no nowhere/at/all; expected a best/ folder, a checkpoint_*.pt file or a Hub id like user/name\n"
    )
    assert not (tmp_path / "data").exists()
