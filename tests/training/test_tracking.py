"""log.jsonl, loss.png and Weights & Biases: the real wandb, offline, in processes of their own."""

import json
import math
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from basics.settings import load_settings
from training import tracking
from training.tracking import WandbTracker, plot_losses, setup_wandb, write_log

ROOT = Path(__file__).parents[2]
HISTORY = [
    {"epoch": 1, "global_step": 10, "train_loss": 2.5, "val_loss": 2.25, "learning_rate": 1e-3, "seconds": 1.0},
    {"epoch": 2, "global_step": 20, "train_loss": 2.0, "val_loss": None, "learning_rate": 5e-4, "seconds": 2.0},
    {"epoch": 3, "global_step": 30, "train_loss": 1.5, "val_loss": 1.75, "learning_rate": 1e-4, "seconds": 3.0},
]
PREPARE = """
import sys
from pathlib import Path
from training import tracking
from basics.errors import run_script
from basics.settings import load_settings
Path("my-run").mkdir(exist_ok=True)
settings = load_settings(WANDB_MODE=sys.argv[1], LEARNING_RATE=0.0123)
"""
LOG = """
with tracking.setup_wandb(settings, Path("my-run")) as tracker:
    tracker.log_step(1, {"loss": 3.5, "learning_rate": 0.001})
    tracker.log_step(2, {"loss": 3.25, "learning_rate": 0.002})
    tracker.log_epoch({"epoch": 1, "train_loss": 3.375, "val_loss": None}, 2)
    tracker.log_captions([(Path("cat.png"), "a red square", ["a red square on grey"])], 2)
"""


def run_python(script: str, mode: str, folder: Path, **env: str) -> subprocess.CompletedProcess:
    """A process without the user's W&B settings and with a home of its own."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    clean |= {"HOME": str(folder), "USERPROFILE": str(folder), "PYTHONPATH": str(ROOT), **env}
    return subprocess.run(
        [sys.executable, "-c", PREPARE + script, mode],
        cwd=folder,
        env=clean,
        text=True,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
    )


def read_wandb(folder: Path) -> list:
    """The records of the newest offline run in folder/my-run: blocks of 32 KiB, each record in one or more parts."""
    from wandb.proto import wandb_internal_pb2

    [*_, path] = sorted(folder.glob("my-run/wandb/offline-run-*/run-*.wandb"), key=lambda p: p.stat().st_mtime)
    data, position, content, records = path.read_bytes(), 7, b"", []  # after 7 bytes of file header
    while position + 7 <= len(data):
        room = 32768 - position % 32768
        if room < 7:
            position += room
            continue
        _, size, part = struct.unpack("<IHB", data[position : position + 7])
        content += data[position + 7 : position + 7 + size]
        position += 7 + size
        if part in (1, 4):  # whole, or the last of several
            records.append(wandb_internal_pb2.Record.FromString(content))
            content = b""
    return records


def logged(records: list) -> dict[str, list]:
    """{"train/loss": [3.5, 3.25], ...} in the order of logging; keys of nested values are joined by dots."""
    values: dict[str, list] = {}
    for record in records:
        for item in record.history.item:
            values.setdefault(item.key or ".".join(item.nested_key), []).append(json.loads(item.value_json))
    return values


def exit_codes(records: list) -> list[int]:
    return [record.exit.exit_code for record in records if record.WhichOneof("record_type") == "exit"]


def test_off_imports_neither_wandb_nor_matplotlib(tmp_path):
    script = LOG + "print([name for name in ('wandb', 'matplotlib') if name in sys.modules])"
    result = run_python(script, "off", tmp_path)
    assert result.stdout == "[]\n", result.stderr
    assert list((tmp_path / "my-run").iterdir()) == []


@pytest.fixture(scope="module")
def offline(tmp_path_factory):
    """A folder with one offline run, and what its process printed."""
    folder = tmp_path_factory.mktemp("offline")
    Image.new("RGB", (640, 480), "red").save(folder / "cat.png")
    return folder, run_python(LOG, "offline", folder)


def test_offline_keeps_settings_steps_epochs_and_captions_with_pictures(offline):
    folder, result = offline
    assert result.returncode == 0, result.stderr
    records = read_wandb(folder)
    config = {u.key: json.loads(u.value_json) for record in records for u in record.run.config.update}
    assert config["LEARNING_RATE"] == 0.0123 and config["WANDB_MODE"] == "offline"
    values = logged(records)
    assert values["train/loss"] == [3.5, 3.25] and values["train/learning_rate"] == [0.001, 0.002]
    assert values["epoch/train_loss"] == [3.375] and "epoch/val_loss" not in values
    assert values["_step"] == [1, 2]
    assert values["samples.captions"] == [["a red square\nreference: a red square on grey\ncat.png"]]
    [picture] = folder.glob("my-run/wandb/offline-run-*/files/media/images/*.png")
    assert Image.open(picture).size == (384, 288)
    assert exit_codes(records) == [0]


def test_offline_says_how_to_send_the_run_and_nothing_else(offline):
    folder, result = offline
    [run] = folder.glob("my-run/wandb/offline-run-*")
    assert result.stdout == f"W&B          offline; to send it: wandb sync {run.relative_to(folder)}\n" * 2
    assert result.stderr == ""


def test_an_error_inside_finishes_the_run_as_failed_and_goes_through(tmp_path):
    script = "\n".join("    " + line for line in LOG.splitlines())
    result = run_python(
        f"""
try:
{script}
        raise RuntimeError("out of memory")
finally:
    import wandb
    print("still open:", wandb.run)
""",
        "offline",
        tmp_path,
    )
    assert "RuntimeError: out of memory" in result.stderr and "still open: None" in result.stdout
    assert exit_codes(read_wandb(tmp_path)) == [1]


def test_a_resumed_run_goes_on_as_the_same_wandb_run(offline, tmp_path):
    shutil.copytree(offline[0], tmp_path, dirs_exist_ok=True)
    script = "with tracking.setup_wandb(settings, Path('my-run')) as tracker: tracker.log_step(3, {'loss': 1.0})"
    assert run_python(script, "offline", tmp_path).returncode == 0
    [run_id] = (tmp_path / "my-run" / tracking.ID_FILE).read_text().split()
    files = list(tmp_path.glob("my-run/wandb/offline-run-*/run-*.wandb"))
    assert [path.name for path in files] == [f"run-{run_id}.wandb"] * 2
    assert logged(read_wandb(tmp_path))["_step"] == [3]


@pytest.mark.parametrize("key, reason", [("", "no API key"), ("0" * 40, "check the connection")])
def test_online_without_key_or_connection_is_one_clear_line(tmp_path, key, reason):
    script = "tracking.INIT_TIMEOUT = 1\nrun_script(lambda argv: tracking.setup_wandb(settings, Path('my-run')))"
    result = run_python(script, "online", tmp_path, WANDB_API_KEY=key, WANDB_BASE_URL="http://127.0.0.1:9")
    assert result.stderr.startswith("error: W&B cannot start: ") and reason in result.stderr
    assert "wandb login" in result.stderr and "--wandb-mode offline" in result.stderr
    assert result.stderr.count("\n") == 1 and result.returncode == 1


class BrokenRun:
    calls = 0

    def log(self, *_, **__):
        self.calls += 1
        raise ConnectionError("the service is gone")

    def finish(self, exit_code):
        raise ConnectionError("still gone")


def test_a_wandb_that_breaks_is_reported_once_and_stops_nothing(capsys):
    run = BrokenRun()
    with WandbTracker(run, "https://wandb.test/run", Path("my-run/wandb/run-1")) as tracker:
        tracker.log_step(1, {"loss": 1.0})
        tracker.log_step(2, {"loss": 1.0})
        tracker.log_epoch(HISTORY[0], 2)
        tracker.log_captions([(Path("no such picture.png"), "a", ["b"])], 2)
    errors = capsys.readouterr().err
    assert errors.count("training goes on: the service is gone") == 1 and errors.count("\n") == 2
    assert "not finished: still gone; to send it: wandb sync " in errors
    assert run.calls == 1


def test_off_takes_everything(tmp_path):
    with setup_wandb(load_settings(), tmp_path) as tracker:
        tracker.log_step(1, {"loss": 1.0})
        tracker.log_epoch(HISTORY[0], 1)
        tracker.log_captions([], 1)
    assert list(tmp_path.iterdir()) == []


def test_the_log_has_one_line_an_epoch_however_often_it_is_written(tmp_path):
    for count in (1, 2, 3, 3):
        write_log(tmp_path / "log.jsonl", HISTORY[:count])
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == HISTORY
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]


def test_the_log_is_valid_json_with_broken_numbers_too(tmp_path):
    write_log(tmp_path / "log.jsonl", [{"epoch": 1, "train_loss": math.nan, "val_loss": math.inf}])
    assert (tmp_path / "log.jsonl").read_text() == '{"epoch": 1, "train_loss": null, "val_loss": null}\n'


def test_a_log_that_cannot_be_written_leaves_the_old_one(tmp_path):
    write_log(tmp_path / "log.jsonl", HISTORY[:1])
    with pytest.raises(TypeError):
        write_log(tmp_path / "log.jsonl", HISTORY[:1] + [{"epoch": object()}])
    assert json.loads((tmp_path / "log.jsonl").read_text()) == HISTORY[0]


@pytest.mark.parametrize("count", [0, 1, 3, 100])
def test_the_loss_picture_can_be_drawn_after_any_number_of_epochs(tmp_path, count):
    history = [dict(HISTORY[i % 3], epoch=i + 1) for i in range(count)]
    plot_losses(tmp_path / "loss.png", history)
    with Image.open(tmp_path / "loss.png") as image:
        image.load()
        assert image.format == "PNG" and image.width > 600
    assert [path.name for path in tmp_path.iterdir()] == ["loss.png"]
    assert "matplotlib.pyplot" not in sys.modules


def test_the_loss_picture_shows_both_curves_and_marks_the_best(tmp_path):
    """Blue, orange and red are train, validation and the best; without validation only blue is left."""
    assert colors(tmp_path, HISTORY) == {"blue", "orange", "red"}
    assert colors(tmp_path, [dict(record, val_loss=None) for record in HISTORY]) == {"blue"}
    assert colors(tmp_path, [dict(record, train_loss=math.nan) for record in HISTORY]) == {"orange", "red"}


def colors(folder: Path, history: list[dict]) -> set[str]:
    plot_losses(folder / "loss.png", history)
    known = {"blue": (31, 119, 180), "orange": (255, 127, 14), "red": (214, 39, 40)}
    with Image.open(folder / "loss.png") as image:
        found = {color for _, color in image.convert("RGB").getcolors(2**20)}
    return {name for name, color in known.items() if color in found}
