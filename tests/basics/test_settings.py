"""Settings: constants < preset < flags, checked once, every problem reported."""

import pytest
import yaml
from tiny import run

import config
from basics import settings as settings_module
from basics.settings import PRESET_DIR, TYPES, SettingsError, help_text, load_settings


def problems(*argv, **overrides) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(list(argv), **overrides)
    return str(caught.value)


def test_flags_win_over_the_preset_and_the_preset_over_the_constants(tmp_path):
    preset = tmp_path / "mine.yaml"
    preset.write_text("LEARNING_RATE: 0.5\nBATCH_SIZE: 7\n")
    settings = load_settings(["--batch-size", "9", "--preset", str(preset)])
    assert (settings.BATCH_SIZE, settings.LEARNING_RATE, settings.NUM_EPOCHS) == (9, 0.5, config.NUM_EPOCHS)


def test_every_constant_has_a_flag_of_its_type():
    for name in TYPES:
        if getattr(config, name) is not None:
            flag = [f"--{name.lower().replace('_', '-')}", str(getattr(config, name))]
            assert getattr(load_settings(flag), name) == getattr(config, name)


def test_all_problems_are_reported_together():
    message = problems(
        "--lerning-rate", "1", "--decoder-heads", "7", "--num-epochs", "many", "--raw-dir", "/nowhere", "--top-p", "0"
    )
    for part in (
        "did you mean LEARNING_RATE",
        "DECODER_EMBED_DIM (128) must be a multiple of DECODER_HEADS (7)",
        "NUM_EPOCHS must be a whole number, got 'many'",
        "/nowhere is no folder here",
        "TOP_P must be above 0",
    ):
        assert part in message


@pytest.mark.parametrize(
    "flag, value",
    [
        ("--label-smoothing", "1"),
        ("--decoder-dropout", "-0.1"),
        ("--num-epochs", "2.5"),
        ("--augment", "maybe"),
        ("--dataset", "cifar"),
        ("--learning-rate", "nan"),
        ("--encoder-trainable", "some"),
        ("--run-name", "../up"),
        ("--device", "tpu"),
        ("--resume-checkpoint-path", "gone.pt"),
        ("--encoder-model-name", "./gone"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(flag, value):
    assert flag[2:].replace("-", "_").upper() in problems(flag, value)


def test_a_hub_repository_without_a_token_is_a_problem(monkeypatch):
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    assert "no Hub token" in problems("--hub-repo-id", "me/captioner")


def test_none_switches_off_and_words_are_read_as_numbers():
    settings = load_settings(["--gradient-clip-norm", "none", "--learning-rate=3e-4", "--augment"])
    assert (settings.GRADIENT_CLIP_NORM, settings.LEARNING_RATE, settings.AUGMENT) == (None, 3e-4, True)


def test_encoder_trainable_takes_words_and_numbers():
    values = [
        load_settings(["--encoder-model-name", "a/b", "--encoder-trainable", v]).ENCODER_TRAINABLE
        for v in ("none", "all", "2")
    ]
    assert values == ["none", "all", 2]


def test_the_snapshot_cannot_be_changed():
    settings = load_settings([])
    with pytest.raises(AttributeError):
        settings.LEARNING_RATE = 1.0
    assert settings.replace(LEARNING_RATE=1.0).LEARNING_RATE == 1.0 != settings.LEARNING_RATE


def test_help_lists_every_setting_with_comment_and_default():
    page = help_text("usage")
    for name in TYPES:
        assert f"--{name.lower().replace('_', '-')} " in page
    assert page.count("(default: ") == len(TYPES)


def test_an_unknown_preset_lists_the_known_ones():
    assert "flickr8k" in problems("--preset", "flickr9k")


@pytest.mark.parametrize("preset", sorted(PRESET_DIR.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_preset_holds_only_valid_settings(preset, tmp_path):
    names = yaml.safe_load(preset.read_text())
    settings = load_settings(["--preset", preset.stem, "--raw-dir", str(tmp_path)])
    assert all(getattr(settings, name) == value for name, value in names.items())


def test_every_range_names_a_setting():
    for table in ("AT_LEAST", "ABOVE", "AT_MOST", "BELOW", "MULTIPLE_OF"):
        assert set(getattr(settings_module, table)) <= set(TYPES)
    assert set(settings_module.ARCHITECTURE) <= set(TYPES)


def test_a_wrong_flag_is_one_message_without_a_traceback(tmp_path):
    result = run("train.py", "--batchsize", "3", cwd=tmp_path)
    assert result.returncode == 1 and "did you mean BATCH_SIZE" in result.stderr and "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []  # nothing was started
