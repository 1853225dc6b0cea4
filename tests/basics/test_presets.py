"""Presets: one may start from another, and what is wrong in a file is said with the file and its line."""

import os

import pytest
import yaml
from tiny import flags

import config
from basics import presets
from basics.presets import PRESET_DIR
from basics.setting_effects import without_effect
from basics.settings import SettingsError, load_settings, settings_and_given

NAMES = sorted(path.stem for path in PRESET_DIR.glob("*.yaml"))
ALL = ", ".join(NAMES)


@pytest.fixture
def write(tmp_path, monkeypatch):
    """write(mine="AUGMENT: true") makes mine.yaml in the folder where we are."""
    monkeypatch.chdir(tmp_path)

    def write_all(**files):
        for name, content in files.items():
            (tmp_path / f"{name}.yaml").write_text(content)

    return write_all


def problem(*argv) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(argv)
    return str(caught.value).removeprefix("cannot start: ")


def test_flags_win_over_the_preset_and_the_preset_over_the_constants(write):
    write(mine="LEARNING_RATE: 0.5\nBATCH_SIZE: 7\n")
    settings = load_settings(["--batch-size", "9", "--preset", "mine.yaml"])
    assert (settings.BATCH_SIZE, settings.LEARNING_RATE, settings.NUM_EPOCHS) == (9, 0.5, config.NUM_EPOCHS)


def test_a_preset_wins_over_its_base_and_that_over_its_own(write, tmp_path):
    (tmp_path / "below").mkdir()
    write(mine="BATCH_SIZE: 3\nBASE: below/b.yml\n", c="BATCH_SIZE: 5\nNUM_EPOCHS: 5\nSEED: 5\n")
    (tmp_path / "below/b.yml").write_text("base: ../c.yaml\nBATCH_SIZE: 4\nNUM_EPOCHS: 4\n")  # seen from its own folder
    settings = load_settings(["--preset", "mine.yaml"])
    assert (settings.BATCH_SIZE, settings.NUM_EPOCHS, settings.SEED) == (3, 4, 5)


def test_a_preset_of_this_project_is_a_base_wherever_the_file_lies(write, tmp_path):
    write(mine="BASE: flickr8k\nNUM_EPOCHS: 1\n")
    raw = flags(RAW_DIR=tmp_path)
    mine, base = (load_settings(["--preset", name, *raw]) for name in ("mine.yaml", "flickr8k"))
    assert mine.to_dict() == {**base.to_dict(), "NUM_EPOCHS": 1}


def test_what_a_base_sets_and_its_preset_leaves_without_effect_is_not_said(write, tmp_path):
    write(mine="BASE: flickr8k\nCACHE_FEATURES: false\nSCST_SAMPLES: 9\n")
    settings, given = settings_and_given(["--preset", "mine.yaml", *flags(RAW_DIR=tmp_path)])
    assert [line.split()[0] for line in without_effect(settings, given)] == ["SCST_SAMPLES"]


@pytest.mark.parametrize(
    "files, line",
    [
        ({"mine": "BASE: mine.yaml"}, "mine.yaml, line 1: BASE leads in a circle, mine.yaml -> mine.yaml"),
        (
            {"mine": "SEED: 1\nBASE: b.yaml", "b": "BASE: c.yaml", "c": "SEED: 2\n\nBASE: ./b.yaml"},
            "c.yaml, line 3: BASE leads in a circle, b.yaml -> c.yaml -> b.yaml",
        ),
        ({"mine": "BASE: b.yaml"}, f"mine.yaml, line 1: BASE: no preset at b.yaml; known presets: {ALL}"),
        (
            {"mine": "BASE: b.yaml", "b": "\nBASE: flikr30k"},
            f"b.yaml, line 2: BASE: no preset 'flikr30k', did you mean flickr30k; known presets: {ALL}",
        ),
        ({"mine": "BASE: 3"}, "mine.yaml, line 1: BASE must be a preset's name or the path of a .yaml file, got 3"),
        ({"mine": "BASE:"}, "mine.yaml, line 1: BASE must be a preset's name or the path of a .yaml file, got None"),
        ({"mine": "BASE: b.yaml", "b": "[a]"}, "preset b.yaml must hold lines like 'LEARNING_RATE: 0.0003'"),
        ({"mine": "BASE: b.yaml", "b": "SEED: 1\n" * 20_000}, "preset b.yaml must hold lines like"),
        ({"mine": "BASE: b.yaml", "b": "SEED: &x 1\nNUM_EPOCHS: *x"}, "preset b.yaml must hold lines like"),
        ({"mine": "BASE: b.yaml", "b": "SEED: 'x"}, "preset b.yaml is no valid YAML: "),
        ({"mine": "BASE: " + "b" * 5000 + ".yaml"}, "cannot read preset bbbb"),
        (
            {"mine": "AUGMENT: true\nLERNING_RATE: 1"},
            "mine.yaml, line 2: unknown setting LERNING_RATE, did you mean LEARNING_RATE?",
        ),
        ({"mine": "BAS: flickr8k"}, "mine.yaml, line 1: unknown setting BAS, did you mean BASE?"),
        ({"mine": "PRESET: flickr8k"}, "mine.yaml, line 1: unknown setting PRESET; BASE names the preset that"),
        ({"mine": "batch-size: many"}, "mine.yaml, line 1: BATCH_SIZE must be a whole number, got 'many'"),
        ({"mine": "SEED: 1\nBATCH_SIZE: 0"}, "BATCH_SIZE must be at least 1, got 0 (mine.yaml, line 2)"),
        ({"mine": "SEED: 1\nSEED: 2"}, "mine.yaml, line 2: SEED stands in line 1 too"),
    ],
)
def test_what_is_wrong_in_a_file_is_one_line_that_names_it(files, line, write):
    write(**files)
    found = problem("--preset", "mine.yaml")
    assert found.startswith(line) and "\n" not in found and len(found) < 400


@pytest.mark.parametrize(
    "name, line",
    [
        ("flickr8", "no preset 'flickr8', did you mean flickr8k;"),
        ("../presets/coco", "no preset '../presets/coco'"),
        ("presets/flickr9k.yaml", "no preset at presets/flickr9k.yaml, did you mean flickr8k;"),
        ("x.yml", "no preset at x.yml;"),
        ("", "--preset needs a name;"),
        ("~nosuchuser/x.yaml", "no preset at ~nosuchuser/x.yaml;"),
        ("x" * 5000, "no preset 'xxxx"),
    ],
)
def test_a_preset_that_there_is_not_is_one_line_with_the_nearest(name, line, write):
    found = problem(f"--preset={name}", "--cache-features", "true")  # what a preset would have set is no problem too
    assert found.startswith(line) and found.endswith(f"known presets: {ALL}") and "\n" not in found


def test_a_path_may_begin_with_the_home_folder(write, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write(mine="BATCH_SIZE: 3\n")
    os.chdir("/")
    assert load_settings(["--preset=~/mine.yaml"]).BATCH_SIZE == 3


def test_a_file_is_read_once(write, monkeypatch):
    write(mine="BASE: b.yaml", b="SEED: 1")
    read, flat_yaml = [], presets.flat_yaml
    monkeypatch.setattr(presets, "flat_yaml", lambda path: read.append(path.name) or flat_yaml(path))
    settings_and_given(["--preset", "mine.yaml"])
    assert read == ["mine.yaml", "b.yaml"]


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_says_what_it_takes_what_it_gives_and_what_was_run(name):
    comment = (PRESET_DIR / f"{name}.yaml").read_text().split("\n\n")[0]
    comment = [line for line in comment.splitlines() if line.startswith("#")]
    labels = [line[2:].split(":")[0] for line in comment[comment.index("#") + 1 :]]
    assert labels == ["machine", "time", "score", "run"] and comment[0].endswith(".")
    assert comment[1].startswith(f"#   python train.py --preset {name}")
    assert all(line.split(":", 1)[1].strip() for line in comment[-4:])


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_holds_only_valid_settings(name, tmp_path):
    lines = yaml.safe_load((PRESET_DIR / f"{name}.yaml").read_text())
    needed = {"RAW_DIR": tmp_path}
    if lines.get("DISTILL") == "teacher" and "TEACHER_MODEL_NAME" not in lines:
        needed["TEACHER_MODEL_NAME"] = tmp_path
    settings = load_settings(["--preset", name, *flags(**needed)])
    assert all(getattr(settings, line) == value for line, value in lines.items() if line != "BASE")


def test_the_preset_shapes_is_the_quick_start():
    assert load_settings(["--preset", "shapes"]).to_dict() == load_settings([]).to_dict()
