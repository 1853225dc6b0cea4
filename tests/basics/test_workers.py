"""Loader processes: bounded by the cores, gone with their parent, and one line where the system kills one."""

import multiprocessing
import os
import signal
import time

import pytest
from torch.utils.data import DataLoader

from basics import workers
from basics.errors import message
from basics.workers import end_with_parent, num_workers

fork = multiprocessing.get_context("fork")


class Numbers:
    """What each worker reads: its own process number, 0.1 seconds a piece."""

    def __len__(self):
        return 1000

    def __getitem__(self, index):
        time.sleep(0.1)
        return os.getpid()


def load(worker, send):
    """A run that loads for a long time; its worker's number is sent."""
    loader = DataLoader(Numbers(), num_workers=1, worker_init_fn=worker, prefetch_factor=1)
    for (number,) in loader:
        send.send(int(number))


def gone(number: int) -> bool:
    try:
        with open(f"/proc/{number}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.parametrize("watching", [False, True])
def test_a_worker_ends_with_its_killed_parent(watching, monkeypatch):
    if watching:  # as on systems without prctl
        monkeypatch.setattr(workers.sys, "platform", "darwin")
        monkeypatch.setattr(workers, "WATCHED", 0.05)
    receive, send = fork.Pipe(duplex=False)
    parent = fork.Process(target=load, args=(end_with_parent, send))
    parent.start()
    worker = receive.recv()
    assert worker != parent.pid and not gone(worker)
    os.kill(parent.pid, signal.SIGKILL)
    parent.join()
    limit = time.monotonic() + 3
    while not gone(worker) and time.monotonic() < limit:
        time.sleep(0.02)
    assert gone(worker)


def test_there_are_no_more_workers_than_cores_and_that_is_said_once(monkeypatch, capsys):
    monkeypatch.setattr(workers.os, "sched_getaffinity", lambda _: {0, 1})
    num_workers.cache_clear()
    assert [num_workers(wanted) for wanted in (0, 2, 100_000, 100_000)] == [0, 2, 2, 2]
    assert capsys.readouterr().out.count("NUM_WORKERS 100,000 is 2, one a core") == 1
    num_workers.cache_clear()


def test_a_worker_that_the_system_kills_is_one_line():
    loader = iter(DataLoader(Numbers(), num_workers=1, worker_init_fn=end_with_parent, prefetch_factor=1))
    os.kill(int(next(loader)), signal.SIGKILL)
    with pytest.raises(RuntimeError) as error:
        while True:
            next(loader)
    text = message(error.value)
    assert text.startswith("DataLoader worker (pid") and "lower NUM_WORKERS" in text and "\n" not in text
