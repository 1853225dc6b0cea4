"""A preset is a flat list of settings: what would unfold to gigabytes, or be read for minutes, is refused."""

import time

import pytest

from basics.settings import SettingsError, load_settings

BOMB = "a: &a [x]\n" + "".join(f"{b}: &{b} [{f'*{a}, ' * 9}]\n" for a, b in zip("abcdefgh", "bcdefghi"))


@pytest.mark.parametrize(
    "content",
    [
        BOMB,
        "LEARNING_RATE: &x 0.1\nSCST_LEARNING_RATE: *x\n",
        "[" * 90_000,
        "LEARNING_RATE: " + "{a: " * 20_000,
        "? " * 40_000,
        "- " * 40_000,
        "LEARNING_RATE: [0.1]\n",
        "LEARNING_RATE: " + "1" * 5000,
        "LEARNING_RATE: 2001-13-45",
        "LEARNING_RATE: !!python/object/apply:os.system [id]",
        "BATCH_SIZE: 3\n" * 100_000,
        "just words",
        "",
    ],
    ids=range(13),
)
def test_a_hostile_preset_is_one_problem_and_quickly(tmp_path, content):
    (tmp_path / "mine.yaml").write_text(content)
    began = time.monotonic()
    with pytest.raises(SettingsError) as caught:
        load_settings(["--preset", str(tmp_path / "mine.yaml")])
    message = str(caught.value)
    assert message.startswith("cannot start: ") and len(message) < 600 and message.isprintable()
    assert time.monotonic() - began < 5


def test_a_preset_of_plain_lines_is_read(tmp_path):
    (tmp_path / "mine.yaml").write_text("# mine\nlearning-rate: 0.1\nAUGMENT: yes\nRAW_DIR: null\n")
    settings = load_settings(["--preset", str(tmp_path / "mine.yaml")])
    assert (settings.LEARNING_RATE, settings.AUGMENT, settings.RAW_DIR) == (0.1, True, None)
