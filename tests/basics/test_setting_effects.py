"""A setting that changes nothing is said, one that does is not."""

import pytest

from basics.presets import PRESET_DIR
from basics.setting_effects import without_effect
from basics.settings import settings_and_given

LM = ["--decoder", "language_model", "--decoder-model-name", "user/name"]


def lines(*argv):
    return without_effect(*settings_and_given(argv))


def test_nothing_is_said_of_the_defaults():
    assert lines() == []


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--teacher-model-name", "user/name"], "TEACHER_MODEL_NAME has no effect: DISTILL is none"),
        (["--distill-captions", "0.5"], "DISTILL_CAPTIONS has no effect: DISTILL is none"),
        (["--augment", "--augment-views", "8"], "AUGMENT_VIEWS has no effect: it goes with AUGMENT and CACHE_FEATURES"),
        (["--augment-mirror"], "AUGMENT_MIRROR has no effect: AUGMENT is false"),
        (["--scst-samples", "9"], "SCST_SAMPLES has no effect: SCST_EPOCHS is 0"),
        (["--encoder-image-size", "64"], "ENCODER_IMAGE_SIZE has no effect"),
        (["--lora-rank", "8"], "LORA_RANK has no effect: DECODER is transformer"),
        ([*LM, "--decoder-layers", "3"], "DECODER_LAYERS has no effect: DECODER is language_model"),
        ([*LM, "--lora-alpha", "3"], "LORA_ALPHA has no effect: LORA_RANK is 0"),
        (
            [*LM, "--decoder-layers", "3", "--vocab-size", "400"],
            "DECODER_LAYERS, VOCAB_SIZE have no effect: DECODER is language_model",
        ),
        ([*LM, "--lora-rank", "8", "--decoder-trainable", "2"], "DECODER_TRAINABLE has no effect: LORA_RANK tunes"),
    ],
)
def test_a_setting_without_effect_is_said_with_its_reason(flags, words):
    (line,) = lines(*flags)
    assert line.startswith(words)


@pytest.mark.parametrize("preset", sorted(path.stem for path in PRESET_DIR.glob("*.yaml")))
def test_a_preset_sets_nothing_for_nothing(preset, tmp_path):
    teacher = ["--teacher-model-name", "user/name"] if preset.endswith("distill") else []
    raw = [] if preset.startswith("shapes") else ["--raw-dir", str(tmp_path)]
    assert lines("--preset", preset, *raw, *teacher) == []
