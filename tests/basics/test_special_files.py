"""What is no regular file is written to as it is, and a link stays one."""

import os
import subprocess
import sys
import threading

import pytest
from tiny import ROOT

from basics.files import atomic_file, write_atomically


def test_a_link_to_a_file_is_written_through(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/file").write_text("old")
    for name in ("elsewhere/file", "elsewhere/new"):
        link = tmp_path / "link"
        link.unlink(missing_ok=True)
        link.symlink_to(name)
        write_atomically(link, "new")
        assert link.is_symlink() and (tmp_path / name).read_text() == "new"
    assert sorted(os.listdir(tmp_path)) == ["elsewhere", "link"]


def test_a_fifo_is_written_to_and_stays(tmp_path):
    fifo, read = tmp_path / "fifo", []
    os.mkfifo(fifo)
    reader = threading.Thread(target=lambda: read.append(fifo.read_text()))
    reader.start()
    write_atomically(fifo, "text")
    reader.join()
    assert read == ["text"] and fifo.is_fifo() and os.listdir(tmp_path) == ["fifo"]


def test_devices_stay_devices():
    with atomic_file(os.devnull) as file:
        file.write(b"text")
    assert not os.path.isfile(os.devnull) and not os.path.exists(os.devnull + ".tmp")


@pytest.mark.parametrize("mode", ["w", "a"])
def test_what_goes_to_stdout_lands_in_the_file_the_shell_opened(tmp_path, mode):
    (tmp_path / "log").write_text("before\n")
    code = (
        "from basics.files import write_atomically as w; print('a', flush=True); w('/dev/stdout', 'b\\n'); print('c')"
    )
    with open(tmp_path / "log", mode) as log:
        subprocess.run([sys.executable, "-c", code], stdout=log, cwd=ROOT, check=True)
    assert (tmp_path / "log").read_text().splitlines() == [*(["before"] if mode == "a" else []), "a", "b", "c"]
