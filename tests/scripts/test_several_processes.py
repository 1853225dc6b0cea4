"""Several processes train as one does: the same losses, one voice, one stop, one checkpoint for any number of them."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from finished_run import copy_data
from forks import Forks, new_step
from tiny import ROOT, TINY, environment, flags, load_weights, same_weights

from captioner.folder import load_captioner
from classifier.folder import load_classifier

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on Windows")
RUN = dict(
    TINY,
    BATCH_SIZE=13,  # 160 pairs: the last batch has 4, and one pair of it no process but one
    NUM_EPOCHS=1,
    CHECKPOINT_EVERY_STEPS=1,
    KEEP_LAST_N=20,
    NUM_VALIDATION_CAPTIONS=3,
    VAL_FRACTION=0.2,
    DECODER_DROPOUT=0.0,
    RUN_NAME="a",
)


@pytest.fixture(scope="module")
def forks():
    with Forks() as forks:
        yield forks


@pytest.fixture
def folder(tmp_path, prepared):
    return copy_data(prepared, tmp_path)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, forks):
    """A folder with data, and the run of one process, `one`."""
    folder = tmp_path_factory.mktemp("prepared")
    assert ended(forks.start_several(1, flags(**{**RUN, "RUN_NAME": "one"}), folder)) == [0]
    return folder


def ended(processes, seconds=60):
    """Their exit statuses; what they printed is shown where a test fails."""
    codes = [process.wait(seconds) for process in processes]
    for process in processes:
        print(*process.printed(), sep="\n")
    return codes


def losses(folder, name="a"):
    records = [json.loads(line) for line in (folder / "checkpoints" / name / "log.jsonl").read_text().splitlines()]
    return [record[loss] for record in records for loss in ("train_loss", "val_loss") if record[loss] is not None]


def last(folder, name="a"):
    return sorted((folder / "checkpoints" / name).glob("checkpoint_step_*.pt"))[-1]


def nearly_same(a, b):
    return all(torch.allclose(a[name], b[name], rtol=1e-4, atol=1e-6) for name in a)


@pytest.mark.parametrize("count, changes", [(3, {}), (2, {"PARALLEL": "fsdp"})])
def test_several_processes_follow_the_losses_of_one(folder, prepared, forks, count, changes):
    processes = forks.start_several(count, flags(**RUN, **changes), folder)
    assert ended(processes) == [0] * count
    assert losses(folder) == pytest.approx(losses(prepared, "one"), rel=1e-5)
    assert nearly_same(load_weights(last(folder)), load_weights(last(prepared, "one")))
    assert load_captioner(folder / "checkpoints/a/best").caption(next((folder / "data/shapes/images").iterdir()))
    spoken = [process.printed() for process in processes]
    assert spoken[0][0].count("final        best/") == 1
    assert [out + err for out, err in spoken[1:]] == [""] * (count - 1)


CLASSIFY = dict(RUN, TASK="classify", SHAPES_NUM_IMAGES=60, MIXUP_ALPHA=0.3, CUTMIX_ALPHA=1.0, AUGMENT=True)


def test_classifiers_of_several_processes_follow_those_of_one(folder, forks):
    settings = {**CLASSIFY, "EMA_DECAY": 0.9, "DISTILL": "momentum", "BEST_METRIC": "top1"}
    for name, count, parallel in (("one", 1, "ddp"), ("two", 2, "ddp"), ("parts", 2, "fsdp")):
        own = flags(**{**settings, "RUN_NAME": name, "PARALLEL": parallel})
        assert ended(forks.start_several(count, own, folder)) == [0] * count
    for name in ("two", "parts"):
        assert losses(folder, name) == pytest.approx(losses(folder, "one"), rel=1e-5)
        assert nearly_same(load_weights(last(folder, name)), load_weights(last(folder, "one")))
        assert load_classifier(folder / "checkpoints" / name / "best").classes


@pytest.mark.parametrize(
    "count, changes",
    [
        (2, {"SCST_EPOCHS": 1, "BEST_METRIC": "cider", "GROUP_CAPTIONS": "true"}),
        (2, {"PARALLEL": "fsdp", "EMA_DECAY": 0.9}),
        (3, {}),  # where the order of a sum matters
    ],
)
def test_a_stop_of_one_stops_all_and_they_go_on_to_the_bit(folder, forks, count, changes):
    settings = {**RUN, **changes, "DECODER_DROPOUT": 0.1}
    assert ended(forks.start_several(count, flags(**{**settings, "RUN_NAME": "whole"}), folder)) == [0] * count
    processes = forks.start_several(count, flags(**settings), folder)
    processes[1].signal_when(lambda: has_step(folder, 3), signal.SIGTERM)
    assert ended(processes) == [0] * count
    out = processes[0].printed()[0]
    assert "stopped by SIGTERM" in out and f"torchrun --nproc-per-node {count} --max-restarts 10 train.py" in out
    stopped = last(folder)
    resume = ["--resume-checkpoint-path", "latest"]
    assert ended(forks.start_several(count, [*flags(**settings), *resume], folder)) == [0] * count
    assert last(folder).name == last(folder, "whole").name > stopped.name
    assert same_weights(load_weights(last(folder)), load_weights(last(folder, "whole")))


@pytest.mark.parametrize("before, after", [(2, 1), (1, 2)])
def test_a_run_goes_on_with_another_number_of_processes(folder, prepared, forks, before, after):
    """From the middle of the epoch, at the same pair."""
    resume = ["--resume-checkpoint-path", "latest"]
    ended(forks.start_several(before, flags(**RUN), folder))
    for path in (folder / "checkpoints/a").glob("checkpoint_*"):
        if path.name > "checkpoint_step_00000005.pt" or "epoch" in path.name:
            path.unlink()
    assert ended(forks.start_several(after, [*flags(**RUN), *resume], folder)) == [0] * after
    assert losses(folder) == pytest.approx(losses(prepared, "one"), rel=1e-5)
    assert nearly_same(load_weights(last(folder)), load_weights(last(prepared, "one")))


def test_killed_ten_times_with_restarts_the_weights_are_those_of_the_undisturbed_run(folder, forks):
    """Restarted as torchrun --max-restarts does: the same command, and in the environment how often."""
    settings = {**RUN, "DECODER_DROPOUT": 0.1, "NUM_EPOCHS": 6}
    assert ended(forks.start_several(2, flags(**{**settings, "RUN_NAME": "whole"}), folder)) == [0, 0]
    rng = random.Random(time.time_ns())  # other moments each time
    for restarts in range(10):
        while_it_begins = time.monotonic() + 0.5 * rng.random()
        moment = new_step(folder / "checkpoints/a", 0.05 * rng.random())
        if restarts % 3 == 2:
            moment = partial(is_past, while_it_begins)
        lost, other = rng.sample(forks.start_several(2, flags(**settings), folder, restarts), 2)
        lost.signal_when(moment, signal.SIGKILL)
        time.sleep(0.1)
        other.send_signal(signal.SIGTERM)  # torchrun's, after its next look
        assert ended([lost, other], 20)[0] == -signal.SIGKILL
    assert last(folder).name < last(folder, "whole").name
    assert ended(forks.start_several(2, flags(**settings), folder, 10)) == [0, 0]
    assert same_weights(load_weights(last(folder)), load_weights(last(folder, "whole")))


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="torchrun's children are found as Linux lists them")
def test_torchrun_starts_all_of_them_and_again_when_one_is_lost(folder, prepared):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--max-restarts", "1"]
    command = [*torchrun, "--monitor-interval", "0.1", str(ROOT / "train.py"), *flags(**RUN)]
    with open(folder / "printed.txt", "w") as out:
        agent = subprocess.Popen(command, cwd=folder, env=environment(), stdout=out, stderr=subprocess.STDOUT)
    try:
        while not has_step(folder, 3):
            assert agent.poll() is None
            time.sleep(0.002)
        children = Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split()
        os.kill(int(children[-1]), signal.SIGKILL)
        assert agent.wait(120) == 0
    finally:
        agent.kill()
        print((folder / "printed.txt").read_text())
    assert "restart      1 of at most 1\nresume " in (folder / "printed.txt").read_text()
    assert losses(folder) == pytest.approx(losses(prepared, "one"), rel=1e-5)
    assert nearly_same(load_weights(last(folder)), load_weights(last(prepared, "one")))


def is_past(moment):
    return time.monotonic() > moment


def has_step(folder, step):
    return (folder / f"checkpoints/a/checkpoint_step_{step:08}.pt").exists()


def test_a_lost_process_ends_the_others_in_one_line_that_names_it(folder, forks):
    processes = forks.start_several(3, flags(**{**RUN, "NUM_EPOCHS": 50}), folder)
    processes[1].signal_when(lambda: has_step(folder, 3), signal.SIGKILL)
    started = time.monotonic()
    assert ended(processes) == [1, -signal.SIGKILL, 1]
    assert time.monotonic() - started < 10
    errors = "".join(process.printed()[1] for process in processes)
    assert errors.count("error: ") == 1 and "Traceback" not in errors
    assert re.search(rf"error: process 1 of 3 \(pid {processes[1].pid}\) is gone", errors)


def test_an_error_of_all_or_of_the_main_one_alone_is_told_once(folder, prepared, forks):
    for settings, line in (
        ({"BATCH_SIZE": 1}, "2 processes split each batch, but BATCH_SIZE is 1"),
        ({"DEVICE": "cuda:7"}, "there is no device 'cuda:7'"),
        ({"CHECKPOINT_DIR": str(prepared / "checkpoints"), "RUN_NAME": "one"}, "already holds a run"),
    ):
        processes = forks.start_several(2, flags(**{**RUN, **settings}), folder)
        assert ended(processes) == [1, 1]
        errors = "".join(process.printed()[1] for process in processes)
        assert errors.count("\n") == 1 and line in errors
