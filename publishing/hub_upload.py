"""Captioners to the Hugging Face Hub, in the background. (basics/hub_files.py fetches them from there.)

    uploader = make_uploader(settings)              # does nothing while HUB_REPO_ID is None
    uploader.upload(folder / "best", "Epoch 3")     # returns at once; travels in the background, with retries
    print(uploader.close(), end="")                 # waits; says where it is, or what to type to upload by hand

Nothing here stops or loses a run: an upload that fails for good is reported at the end.
"""

import os
import shlex
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path

from basics.hub_files import explain, status_of
from basics.progress_bar import say_beside_bar
from basics.settings import Settings

RETRIES = 4  # after a first failure, on top of the Hub client's own
FIRST_DELAY = 2.0  # seconds before the first retry; doubles each time
WORTH_RETRYING = (408, 409, 412, 425, 429)  # of the 4xx answers: time-outs, collisions, too many requests


class NoUpload:
    """What the training loop gets while HUB_REPO_ID is None: takes everything, sends nothing."""

    def upload(self, folder: Path, message: str) -> None:
        pass

    def close(self) -> str:
        return ""


class HubUploader(NoUpload):
    """Uploads folders one after the other on a background thread; a newer folder replaces one that still waits."""

    def __init__(self, repo_id: str, private: bool):
        self.repo_id, self.private = repo_id, private
        self.lock = threading.Lock()  # guards waiting and thread
        self.waiting: tuple[Path, str] | None = None  # the newest snapshot not yet on its way, and its message
        self.thread: threading.Thread | None = None
        self.snapshots: set[Path] = set()  # all that are still on the disk
        self.folder: Path | None = None  # the last one asked for: close() names it
        self.url, self.num_uploaded, self.last_uploaded = "", 0, ""
        self.failure: str | None = None  # why the newest folder is not on the Hub

    def upload(self, folder: Path, message: str) -> None:
        """Take a snapshot of the folder and return; errors are kept for close()."""
        self.folder = folder
        try:
            snapshot = self.take_snapshot(folder)
        except OSError as error:
            self.fail(f"no snapshot of {folder}: {error}")
            return
        with self.lock:
            replaced, self.waiting = self.waiting, (snapshot, message)
            if self.thread is None:
                self.thread = threading.Thread(target=self.work, name="hub-upload", daemon=True)
                self.thread.start()
        if replaced:
            self.drop(replaced[0])

    def close(self) -> str:
        """Wait for what is on its way -> the closing lines, "" where nothing was ever to upload. Ctrl-C gives up."""
        if self.folder is None:
            return ""
        try:
            if self.thread is not None:
                print(f"hub          waiting for the upload to {self.repo_id} (Ctrl-C to give up)", flush=True)
            while (thread := self.thread) is not None:
                thread.join(timeout=0.2)  # a join without end would not notice Ctrl-C on every system
        except KeyboardInterrupt:
            self.failure = "interrupted"
        for snapshot in list(self.snapshots):
            self.drop(snapshot)
        return self.closing_lines()

    def closing_lines(self) -> str:
        if self.failure is None:
            times = f"{self.num_uploaded} upload{'s' if self.num_uploaded != 1 else ''}"
            return f"hub          {self.url} ({times}, the last: {self.last_uploaded})\n"
        there = f"; {self.repo_id} holds: {self.last_uploaded}" if self.num_uploaded else ""
        private = " --private" if self.private else ""
        return (
            f"hub          the newest best was not uploaded: {self.failure}{there}. By hand:\n"
            f"    hf upload {self.repo_id} {shlex.quote(str(self.folder))} . --repo-type model{private}\n"
        )

    def take_snapshot(self, folder: Path) -> Path:
        """A copy that costs no space: hard links, beside the folder. Files replaced later stay as they were here."""
        prefix = f".{folder.name}-upload-"
        if self.thread is None and not self.snapshots:  # left behind where a run was killed
            for leftover in folder.parent.glob(prefix + "*"):
                shutil.rmtree(leftover, ignore_errors=True)
        snapshot = Path(tempfile.mkdtemp(prefix=prefix, dir=folder.parent))
        self.snapshots.add(snapshot)
        try:
            shutil.copytree(folder, snapshot, copy_function=link_or_copy, dirs_exist_ok=True)
        except OSError:
            self.drop(snapshot)
            raise
        return snapshot

    def drop(self, snapshot: Path) -> None:
        shutil.rmtree(snapshot, ignore_errors=True)
        self.snapshots.discard(snapshot)

    def work(self) -> None:
        """The background thread: the newest waiting folder, until none waits."""
        while True:
            with self.lock:
                job, self.waiting = self.waiting, None
                if job is None:
                    self.thread = None
                    return
            try:
                self.send_with_retries(*job)
            except Exception as error:
                self.fail(explain(error, self.repo_id))
            finally:
                self.drop(job[0])

    def send_with_retries(self, snapshot: Path, message: str) -> None:
        for attempt in range(RETRIES + 1):
            try:
                self.send(snapshot, message)
                return
            except Exception as error:
                if attempt == RETRIES or not is_worth_retrying(error) or self.waiting:
                    raise
                time.sleep(FIRST_DELAY * 2**attempt)

    def send(self, snapshot: Path, message: str) -> None:
        from huggingface_hub import HfApi  # only here: most runs upload nothing, and it takes its time to import
        from huggingface_hub.utils import disable_progress_bars

        disable_progress_bars()  # they would be drawn across the bar of the training loop
        api = HfApi()
        url = api.create_repo(self.repo_id, private=self.private, exist_ok=True)
        api.upload_folder(repo_id=self.repo_id, folder_path=snapshot, commit_message=message)
        self.url, self.last_uploaded, self.failure = str(url), message, None
        self.num_uploaded += 1

    def fail(self, reason: str) -> None:
        """Remember the reason and say it once: a wrong token is better known now than after the last epoch."""
        if reason != self.failure and self.waiting is None:
            say_beside_bar(f"hub          upload failed, training goes on: {reason}\n", sys.stderr)
        self.failure = reason


def make_uploader(settings: Settings) -> NoUpload:
    if settings.HUB_REPO_ID is None:
        return NoUpload()
    return HubUploader(settings.HUB_REPO_ID, settings.HUB_PRIVATE)


def link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a disk without hard links
        shutil.copy2(source, target)


def is_worth_retrying(error: Exception) -> bool:
    """All but what stays wrong: a refused token, a name that is none, a file that is gone."""
    status = status_of(error)
    if status is not None:
        return status >= 500 or status in WORTH_RETRYING
    return not isinstance(error, (ValueError, TypeError, FileNotFoundError))
