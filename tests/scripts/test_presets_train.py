"""Every preset of the project still trains: two optimizer steps of it, its sizes shrunk, on tiny folders."""

import json

import pytest
from class_folders import make_class_folders
from colours import COLOURS, save_colours
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
NAMES = sorted(path.stem for path in PRESET_DIR.glob("*.yaml"))
CLASSIFIERS = [name for name in NAMES if "classify" in name or name.startswith("cifar")]
LANGUAGE_MODELS = {"gpt2-lora": "gpt2", "falcon-lora": "falcon", "gpu-large": "llama"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Pictures with captions, and an encoder."""
    folder = tmp_path_factory.mktemp("presets")
    return {"RAW_DIR": make_own_folder(folder / "raw"), "ENCODER_MODEL_NAME": save_tiny_vit(folder / "vit")}


@pytest.mark.parametrize("name", [name for name in NAMES if name not in CLASSIFIERS])
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
    check_two_steps(name, changes, tmp_path)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_preset_for_classes_takes_two_steps(name, folders, tmp_path):
    changes = {n: value for n, value in SMALL.items() if n != "BEAM_SIZE"} | {"RUN_NAME": "p"}
    if name == "shapes-classify":
        changes |= {**DRAWN, "SHAPES_NUM_IMAGES": 160}
    else:
        changes["RAW_DIR"] = make_class_folders(tmp_path / "raw", {f"train/{colour}": 24 for colour in COLOURS})
    if name == "cifar10-finetune":
        changes |= {"ENCODER_MODEL_NAME": folders["ENCODER_MODEL_NAME"], "ENCODER_IMAGE_SIZE": 32}
    if name == "cifar10-distill":
        save_colours(tmp_path / "teacher")
        changes["TEACHER_MODEL_NAME"] = tmp_path / "teacher"
    check_two_steps(name, changes, tmp_path)


def check_two_steps(name, changes, folder):
    result = call(train.main, "--preset", name, *flags(**changes), cwd=folder)
    assert result.returncode == 0 and "has no effect" not in result.stdout
    (epoch,) = (folder / "checkpoints/p/log.jsonl").read_text().splitlines()
    assert json.loads(epoch)["global_step"] == 2 and (folder / "checkpoints/p/best/config.json").is_file()
