"""config.py edited by hand is checked as flags are: all that is wrong at once, before any work, with its line."""

import re
import shutil
import subprocess
import sys

import pytest
from tiny import ROOT

import config
from basics.config_file import CONFIG_FILE, line_of
from basics.setting_schema import SCHEMA
from basics.settings import SettingsError, load_settings


def edited(tmp_path, *edits):
    """The lines that train.py ends with after edits (old, new) of a copy of config.py."""
    text = CONFIG_FILE.read_text()
    for old, new in edits:
        assert old in text
        text = text.replace(old, new, 1)
    (tmp_path / "config.py").write_text(text)
    shutil.copytree(ROOT / "basics", tmp_path / "basics")
    shutil.copytree(ROOT / "presets", tmp_path / "presets")
    script = (
        "from basics.errors import run_script; from basics.settings import load_settings; run_script(load_settings)"
    )
    result = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 1 and "Traceback" not in result.stderr
    return result.stderr


def test_all_that_is_wrong_is_said_at_once_with_its_line(tmp_path):
    found = edited(
        tmp_path,
        ('DATASET = "shapes"', 'DATASET = "folders"'),
        ("BATCH_SIZE = 64 ", "BATCH_SIZE = 64, "),
        ("NUM_EPOCHS = 4", "NUM_EPOCS = 4"),
        ("AUGMENT = False", 'AUGMENT = "perhaps"'),
        ("SEED = 42", "SEED = 42\nDROPOUT = 0.1"),
        ("DEVICE = None", 'DEVICE = "gpu"'),
        ("LEARNING_RATE = 1e-3", 'LEARNING_RATE = "3e-4"'),  # read as on a command line
    )
    assert found.startswith("error: cannot start, 6 problems:\n")
    for words in (
        r"config.py, line \d+: DATASET must be one of 'shapes', .*, got 'folders'",
        r"config.py, line \d+: BATCH_SIZE must be a whole number, got \(64,\)",
        r"config.py, line \d+: unknown setting NUM_EPOCS, did you mean NUM_EPOCHS, which is missing\?",
        r"DEVICE must be cpu, cuda, cuda:N or mps, got 'gpu' \(config.py, line \d+\)",  # a rule, beside types
        r"config.py, line \d+: AUGMENT must be true or false, got 'perhaps'",
        r"config.py, line \d+: unknown setting DROPOUT",
    ):
        assert re.search(words, found), words


@pytest.mark.parametrize(
    "old, new, words",
    [
        ("SEED = 42", "SEED = = 42", "invalid syntax"),
        ("SEED = 42", "SEED = fortytwo", "name 'fortytwo' is not defined"),
        ("SEED = 42", 'SEED = "42', "unterminated string"),
    ],
)
def test_a_config_that_does_not_run_is_one_line(tmp_path, old, new, words):
    found = edited(tmp_path, (old, new))
    assert found.count("\n") == 1 and re.match(rf"error: config.py, line \d+: .*{words}", found)


def test_a_bound_that_config_breaks_names_its_line(monkeypatch):
    monkeypatch.setattr(config, "BATCH_SIZE", 0)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert str(caught.value).endswith(f"BATCH_SIZE must be at least 1, got 0 (config.py, line {line_of('BATCH_SIZE')})")
    assert "config.py" not in problem_of("--batch-size", "0")


def problem_of(*argv):
    with pytest.raises(SettingsError) as caught:
        load_settings(argv)
    return str(caught.value)


def test_every_setting_stands_in_config_in_the_order_of_the_schema():
    assert [name for name in vars(config) if name.isupper()] == list(SCHEMA)
