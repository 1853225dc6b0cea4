"""train.py stopped and killed from outside, in processes of its own: what it leaves and how exactly it goes on."""

import errno
import json
import os
import random
import re
import shlex
import signal
import time
from unittest import mock

import pytest
import torch
from finished_run import LAST, RUN, copy_data, weights
from forks import Forks, new_step
from in_process import call, train
from tiny import TINY, flags, same_weights

import train as train_script
from training import checkpoint

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork and no SIGKILL on Windows")


@pytest.fixture(scope="module")
def forks():
    with Forks() as forks:
        yield forks


def test_killed_ten_times_at_random_moments_the_weights_are_those_of_the_undisturbed_run(finished, tmp_path, forks):
    copy_data(finished, tmp_path)
    folder, rng = tmp_path / "checkpoints/a", random.Random(time.time_ns())  # other moments each time
    for _ in range(10):
        resume = ["--resume-checkpoint-path", "latest"] if folder.exists() else []
        process = forks.start([*flags(**{**TINY, **RUN}), *resume], tmp_path)
        process.signal_when(new_step(folder, delay=0.015 * rng.random()), signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert not (folder / LAST).exists()  # all ten fell within the 40 steps
    final = train(tmp_path, "--resume-checkpoint-path", "latest", **RUN)
    assert final.returncode == 0
    assert same_weights(weights(tmp_path), weights(finished))
    old, new = ((f / "checkpoints/a/log.jsonl").read_text().splitlines() for f in (finished, tmp_path))
    timeless = [
        [{k: v for k, v in json.loads(line).items() if "second" not in k} for line in log] for log in (old, new)
    ]
    assert timeless[0] == timeless[1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_signal_saves_the_step_and_the_command_to_paste_goes_on_to_the_bit(finished, tmp_path, forks, number):
    copy_data(finished, tmp_path, "my data")
    settings = {**TINY, **RUN, "CHECKPOINT_EVERY_STEPS": "none", "DATA_DIR": "my data"}
    process = forks.start(flags(**settings), tmp_path)
    process.signal_when((tmp_path / "checkpoints/a/log.jsonl").exists, number)  # in the second epoch or later
    assert process.wait() == 0
    out, err = process.printed()
    assert f"stopped by {number.name}" in out and "Traceback" not in err
    python, script, *command = shlex.split(out.splitlines()[-1])
    assert (python, script) == ("python", "train.py") and command[command.index("--data-dir") + 1] == "my data"
    assert call(train_script.main, *command, cwd=tmp_path).returncode == 0
    assert same_weights(weights(tmp_path), weights(finished))


def test_on_a_terminal_a_bar_shows_loss_rate_and_speed(finished, tmp_path, forks):
    import pty
    import termios  # Windows has neither

    copy_data(finished, tmp_path)
    screen, other_end = pty.openpty()
    termios.tcsetwinsize(other_end, (24, 120))
    settings = flags(**{**TINY, "NUM_EPOCHS": 30, "BATCH_SIZE": 2})
    process = forks.start(settings, tmp_path, screen=os.ttyname(other_end))
    shown, bar = "", re.compile(r"epoch \d+/30: .*examples/s, loss=\d.*lr=\d")
    try:
        while not bar.search(shown) and process.poll() is None:
            shown += os.read(screen, 4096).decode()
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        for end in (screen, other_end):
            os.close(end)
    assert bar.search(shown)


def test_two_first_runs_at_once_prepare_the_data_once_and_end_as_one_alone_does(finished, tmp_path, forks):
    other = forks.start(flags(**{**TINY, **RUN, "RUN_NAME": "b"}), tmp_path)
    assert train(tmp_path, **RUN).returncode == 0 and other.wait() == 0
    assert same_weights(weights(tmp_path), weights(finished)) and same_weights(
        weights(tmp_path, "b"), weights(finished)
    )


def test_a_run_that_another_process_trains_is_refused_in_one_line(finished, tmp_path, forks):
    copy_data(finished, tmp_path)
    other = forks.start(flags(**{**TINY, **RUN, "NUM_EPOCHS": 10_000}), tmp_path)
    other.wait_until(lambda: list((tmp_path / "checkpoints/a").glob("*.pt")) != [])
    for again in ([], ["--resume-checkpoint-path", "latest"]):
        result = train(tmp_path, *again, **RUN)
        assert result.returncode == 1 and result.stderr.count("\n") == 1
        assert f"checkpoints/a is in use by process {other.pid} since " in result.stderr
    other.send_signal(signal.SIGTERM)
    assert other.wait() == 0 and not (tmp_path / "checkpoints/a/run.lock").exists()


def test_a_disk_without_room_is_said_before_a_run_and_a_full_one_names_the_last_good_checkpoint(finished, tmp_path):
    copy_data(finished, tmp_path)
    with mock.patch.object(checkpoint, "free_bytes", lambda _: 10_000):
        result = train(tmp_path, RUN_NAME="full")
    assert result.returncode == 1 and re.search(
        r"full needs .*iB for a checkpoint and best/, 0.0 MiB are", result.stderr
    )
    assert not (tmp_path / "checkpoints/full").exists()
    save, calls = torch.save, []

    def fail_third(state, file):
        calls.append(save(state, file))
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")

    with mock.patch.object(torch, "save", fail_third):
        result = train(tmp_path, **RUN)
    assert result.returncode == 1 and result.stderr.count("\n") == 1
    assert "checkpoint_step_00000003.pt: no space left on device, " in result.stderr
    assert "the last good one is checkpoints/a/checkpoint_step_00000002.pt; make room, then go on" in result.stderr
    assert train(tmp_path, "--resume-checkpoint-path", "latest", **RUN).returncode == 0
    assert same_weights(weights(tmp_path), weights(finished))
