"""One process at a time changes a folder; a lock ends with its process, and leaves nothing behind."""

import multiprocessing
import os
import signal
import threading

import pytest

from basics.errors import UserError
from basics.locks import locked

fork = multiprocessing.get_context("fork")


def hold(path, ready, end):
    with locked(path):
        ready.send(True)
        end.recv()


@pytest.fixture
def elsewhere(tmp_path):
    """A process that holds folder/run.lock until something is sent to it."""
    (ready, said), (told, end) = fork.Pipe(duplex=False), fork.Pipe(duplex=False)
    process = fork.Process(target=hold, args=(tmp_path / "folder/run.lock", said, told))
    process.start()
    assert ready.poll(60)
    yield process, end
    process.kill()
    process.join()


def test_a_second_process_is_refused_and_told_who_has_it(elsewhere, tmp_path):
    with pytest.raises(UserError, match=rf"folder is in use by process {elsewhere[0].pid} since .*; take another"):
        with locked(tmp_path / "folder/run.lock", otherwise="take another --run-name"):
            pass


def test_or_waits_and_says_for_whom(elsewhere, tmp_path, capsys):
    threading.Timer(0.3, elsewhere[1].send, [True]).start()
    with locked(tmp_path / "folder/run.lock"):
        assert f"waiting      for process {elsewhere[0].pid} since" in capsys.readouterr().out


def test_a_killed_process_holds_nothing_and_what_it_left_unfinished_goes(elsewhere, tmp_path):
    os.kill(elsewhere[0].pid, signal.SIGKILL)
    elsewhere[0].join()
    (tmp_path / f"folder/model.pt.{elsewhere[0].pid}.tmp").write_text("half")
    (tmp_path / f"folder/best.{elsewhere[0].pid}.tmp").mkdir()
    (tmp_path / "folder/mine.tmp").write_text("a user's")
    (tmp_path / f"folder/it.{os.getpid()}.tmp").write_text("of a process that lives")
    with locked(tmp_path / "folder/run.lock", otherwise="take another"):
        names = sorted(path.name for path in (tmp_path / "folder").iterdir())
        assert names == [f"it.{os.getpid()}.tmp", "mine.tmp", "run.lock"]
    assert not (tmp_path / "folder/run.lock").exists()


def test_a_folder_that_nothing_came_of_is_gone(tmp_path):
    with pytest.raises(ValueError), locked(tmp_path / "folder/run.lock"):
        raise ValueError
    assert not (tmp_path / "folder").exists()
