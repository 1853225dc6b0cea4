"""Every preset of the project still trains: two optimizer steps of it, its sizes shrunk, on tiny folders."""

import json

import pytest
from in_process import call
from language_models import language_model
from own_folder import make_own_folder
from tiny import TINY, flags, save_tiny_vit

import train
from basics.presets import PRESET_DIR

SMALL = {"NUM_EPOCHS": 1, "BATCH_SIZE": 40, "NUM_WORKERS": 0, "BEAM_SIZE": 1}  # 2 steps of a table's pictures
SIZES = ("VOCAB_SIZE", "DECODER_EMBED_DIM", "DECODER_HEADS", "DECODER_LAYERS", "DECODER_FF_DIM", "NUM_SAMPLE_CAPTIONS")
DRAWN = {
    "SHAPES_NUM_IMAGES": 40,
    "BATCH_SIZE": 100,
    "SCRATCH_IMAGE_SIZE": 32,
    "SCRATCH_EMBED_DIM": 16,
    "SCRATCH_LAYERS": 1,
}
LANGUAGE_MODELS = {"gpt2-lora": "gpt2", "falcon-lora": "falcon", "gpu-large": "llama"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Pictures with captions, and an encoder."""
    folder = tmp_path_factory.mktemp("presets")
    return {"RAW_DIR": make_own_folder(folder / "raw"), "ENCODER_MODEL_NAME": save_tiny_vit(folder / "vit")}


@pytest.mark.parametrize("name", sorted(path.stem for path in PRESET_DIR.glob("*.yaml")))
def test_a_preset_takes_two_steps(name, folders, git, tmp_path):
    changes = {**SMALL, **{size: TINY[size] for size in SIZES}, "NUM_VALIDATION_CAPTIONS": 2, "RUN_NAME": "p"}
    if name == "shapes":
        changes |= DRAWN
    else:
        changes |= {**folders, "ENCODER_IMAGE_SIZE": 32}
    if name.endswith("distill"):
        changes["TEACHER_MODEL_NAME"] = git
    if name in LANGUAGE_MODELS:
        changes = {n: value for n, value in changes.items() if n not in SIZES} | {"PREFIX_TOKENS": 2, "MAX_SEQ_LEN": 20}
        changes |= {"DECODER_MODEL_NAME": language_model(LANGUAGE_MODELS[name]), "GRADIENT_ACCUMULATION_STEPS": 1}
    if name == "gpu-large":
        changes["ENCODER_TRAINABLE"] = "all"  # the tiny encoder has no four blocks
    result = call(train.main, "--preset", name, *flags(**changes), cwd=tmp_path)
    assert result.returncode == 0 and "has no effect" not in result.stdout
    (epoch,) = (tmp_path / "checkpoints/p/log.jsonl").read_text().splitlines()
    assert json.loads(epoch)["global_step"] == 2 and (tmp_path / "checkpoints/p/best/config.json").is_file()
