"""FINETUNE_FROM: training that starts from a trained captioner, with other data and settings."""

import json
import re
import shutil

import pytest
from in_process import train

from captioner.folder import load_captioner
from networks.parameters import blocks_of


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    assert train(folder, RUN_NAME="first", NUM_EPOCHS=3, LEARNING_RATE=0.01, SCRATCH_LAYERS=2).returncode == 0
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
    assert f"tokenizer    {len(first.tokenizer)} tokens, theirs (hash {first.tokenizer.hash})" in result.stdout
    assert second.tokenizer.hash == first.tokenizer.hash
    assert not (tmp_path / "data/shapes/vocab.json").exists()
    assert second.config["settings"]["DECODER_EMBED_DIM"] == 16
    assert second.model.architecture == {**first.model.architecture, "decoder_dropout": 0.4}
    assert "It started from the captioner theirs" in (tmp_path / "checkpoints/second/best/README.md").read_text()


def test_a_run_goes_on_without_the_captioner_it_started_from_and_without_its_flag(finished, tmp_path):
    source = copied(finished, tmp_path)
    assert train(tmp_path, RUN_NAME="second", NUM_EPOCHS=1, FINETUNE_FROM="theirs", EMA_DECAY=0.9).returncode == 0
    shutil.rmtree(source)
    result = train(tmp_path, RUN_NAME="second", NUM_EPOCHS=2, RESUME_CHECKPOINT_PATH="latest", EMA_DECAY=0.9)
    assert result.returncode == 0
    assert "FINETUNE_FROM stays 'theirs'" in result.stdout
    assert len(losses(tmp_path, "second")) == 2


@pytest.mark.parametrize("trainable", ["none", "1"])
def test_a_checkpoint_is_tuned_on_with_as_much_of_its_encoder_as_is_asked_for(finished, tmp_path, trainable):
    [*_, newest] = sorted((finished / "checkpoints/first").glob("checkpoint_step_*.pt"))
    frozen = dict(CACHE_FEATURES="true") if trainable == "none" else {}
    settings = dict(ENCODER_TRAINABLE=trainable, ENCODER_LEARNING_RATE=1e-4, **frozen)
    result = train(tmp_path, RUN_NAME="second", NUM_EPOCHS=1, FINETUNE_FROM=newest, **settings)
    assert result.returncode == 0
    assert re.search(r"ENCODER_TRAINABLE is now .+, was 'all'", result.stdout)
    encoder = load_captioner(newest).model.encoder
    trained = [sum(p.numel() for p in part.parameters()) for part in (encoder, blocks_of(encoder)[-1])]
    left = int(re.search(r"trained, ([\d,]+) frozen", result.stdout)[1].replace(",", ""))
    assert left == trained[0] if trainable == "none" else 0 < left <= trained[0] - trained[1]


def test_what_is_no_captioner_ends_in_one_line(tmp_path):
    result = train(tmp_path, FINETUNE_FROM="nowhere/at/all")
    assert result.returncode == 1
    expected = "expected a best/ folder, a checkpoint_*.pt or a Hub id"
    assert result.stderr == f"error: cannot start: FINETUNE_FROM nowhere/at/all is not here; {expected}\n"
    assert not (tmp_path / "data").exists()
