"""Settings: constants < preset < flags, checked once, every problem reported."""

import re
import sys
import typing

import pytest

import config
import train
from basics.errors import run_script
from basics.presets import PRESET_DIR
from basics.setting_schema import SCHEMA
from basics.setting_values import say_renamed
from basics.settings import ARCHITECTURE, SettingsError, help_text, load_settings, up_to_date


def problems(*argv, **overrides) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(list(argv), **overrides)
    return str(caught.value)


def test_every_constant_has_a_flag_of_its_type():
    for name in SCHEMA:
        if getattr(config, name) is not None:
            flag = [f"--{name.lower().replace('_', '-')}", str(getattr(config, name))]
            assert getattr(load_settings(flag), name) == getattr(config, name)


def test_all_problems_are_reported_together():
    message = problems(
        "--lerning-rate", "1", "--decoder-heads", "7", "--batch-size", "many", "--raw-dir", "/nowhere", "--top-p", "0"
    )
    for part in (
        "did you mean LEARNING_RATE",
        "DECODER_EMBED_DIM (128) must be a multiple of DECODER_HEADS (7)",
        "BATCH_SIZE must be a whole number, got 'many'",
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
    for name in SCHEMA:
        assert f"--{name.lower().replace('_', '-')} " in page
    assert page.count("(default: ") == len(SCHEMA)


@pytest.mark.parametrize("argv", [["--preset"], ["--preset="], ["--preset", ""], ["--preset", "--augment"]])
def test_a_preset_without_a_name_says_which_there_are(argv):
    known = ", ".join(sorted(path.stem for path in PRESET_DIR.glob("*.yaml")))
    assert problems(*argv) == f"cannot start: --preset needs a name; known presets: {known}"


@pytest.mark.parametrize("written_in", ["a flag", "a preset", "config.py"])
def test_a_renamed_value_still_works_and_is_named_once(written_in, tmp_path, monkeypatch, capsys):
    argv = ["--teacher-model-name", "user/name"]
    if written_in == "a flag":
        argv += ["--distill", "git"]
    elif written_in == "a preset":
        (tmp_path / "old.yaml").write_text("DISTILL: git\n")
        argv += ["--preset", str(tmp_path / "old.yaml")]
    else:
        monkeypatch.setattr(config, "DISTILL", "git")
    say_renamed.cache_clear()
    assert [load_settings(argv).DISTILL for _ in range(2)] == ["teacher", "teacher"]
    assert capsys.readouterr().err == "settings     DISTILL 'git' is called 'teacher' now\n"


def test_settings_from_before_are_read_as_those_of_today(capsys):
    stored = {"DISTILL": "git", "DECODER_LAYERS": 3}
    assert up_to_date(stored) == {
        "DISTILL": "teacher",
        "DECODER_LAYERS": 3,
        "DECODER": "transformer",
        "TASK": "caption",
        "LOSS": "cross_entropy",
    }
    today = load_settings().to_dict()
    assert up_to_date(today) == today
    assert capsys.readouterr().err == ""


def test_every_range_names_a_setting():
    assert {*ARCHITECTURE, *(s.multiple_of for s in SCHEMA.values() if s.multiple_of)} <= set(SCHEMA)


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("VOCAB_SIZE", 259, "VOCAB_SIZE must be at least 260, got 259"),
        ("LEARNING_RATE", 0, "LEARNING_RATE must be above 0, got 0.0"),
        ("VAL_FRACTION", 0.75, "VAL_FRACTION must be at most 0.5, got 0.75"),
        ("ADAM_BETA2", 1, "ADAM_BETA2 must be below 1, got 1.0"),
        ("SCRATCH_IMAGE_SIZE", 50, "SCRATCH_IMAGE_SIZE (50) must be a multiple of SCRATCH_PATCH_SIZE (16)"),
    ],
)
def test_a_value_out_of_its_range_is_one_line(name, value, message):
    assert problems(**{name: value}) == f"cannot start: {message}"


def test_a_setting_that_there_is_not_is_named():
    with pytest.raises(AttributeError, match="no setting LERNING_RATE"):
        _ = load_settings().LERNING_RATE


def test_a_wrong_flag_is_one_message_without_a_traceback(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py", "--batchsize", "3"])
    with pytest.raises(SystemExit) as caught:
        run_script(train.main)
    errors = capsys.readouterr().err
    assert (
        caught.value.code == 1
        and errors == "error: cannot start: unknown setting BATCHSIZE, did you mean BATCH_SIZE?\n"
    )
    assert list(tmp_path.iterdir()) == []  # nothing was started


def test_no_number_is_too_large_to_be_refused():
    numbers = {name for name, setting in SCHEMA.items() if int in (setting.type, *typing.get_args(setting.type))}
    message = problems(*(part for name in numbers for part in (f"--{name.lower().replace('_', '-')}", "9" * 30)))
    for name in numbers:
        assert re.search(rf"{name} must be (at most|below) \d", message), name


def test_a_model_that_no_memory_of_this_machine_holds_is_refused_before_it_is_built():
    message = problems("--decoder-embed-dim", "65536", "--decoder-layers", "1000", "--decoder-heads", "8")
    assert re.search(
        r"DECODER_LAYERS and its widths make [\d,.]+ billion parameters, which take .*; this machine", message
    )
    assert "SCRATCH_LAYERS and its widths" in problems("--scratch-embed-dim", "65536", "--scratch-layers", "1000")
