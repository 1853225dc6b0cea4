"""The Hugging Face Hub: which names mean one of its repositories, what is fetched from there, why it could not be.

may_be_hub_id("user/name")                      # True: no path could be meant
folder = download("user/name")                  # the cached folder where the Hub cannot be reached
print(explain(error, "user/name"))              # of any error of its client: the reason, and what to do about it
"""

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from basics.errors import UserError, first_line

SAY_AFTER, GIVE_UP_AFTER = 5, 10  # seconds without an answer
NEEDED_FILES = ["*.json", "*.txt", "*.safetensors", "README.md"]  # also in subfolders; never pickles, which run code


def is_path(name: str) -> bool:
    """Whether a model's name can only be a place on this machine, not one on the Hub."""
    return name.startswith((".", "/", "~")) or name.count("/") > 1


def may_be_hub_id(name: str) -> bool:
    return "/" in name and not is_path(name)


def download(repo_id: str) -> Path:
    """The folder of a captioner from the Hub; the cached one where the Hub cannot be reached.

    Raises UserError with one line when there is none to be had.
    """
    from huggingface_hub import snapshot_download  # only here: a captioner on this machine needs no Hub client

    try:
        with patience():
            return Path(snapshot_download(repo_id, allow_patterns=NEEDED_FILES))
    except Exception as error:  # its errors have no common base: HTTP, cache, names
        raise UserError(f"cannot load {repo_id} from the Hugging Face Hub: {explain(error, repo_id)}") from error


def check_reachable(name: str) -> None:
    """Raises UserError for a model that is no folder, not in the cache nor can be asked for: loading would try long."""
    from huggingface_hub import HfApi, try_to_load_from_cache  # as above

    if is_path(name) or Path(name).is_dir():
        return
    try:
        if not isinstance(try_to_load_from_cache(name, "config.json"), str):
            HfApi().model_info(name, timeout=GIVE_UP_AFTER)
    except Exception as error:  # as above
        raise UserError(explain(error, name)) from error


@contextlib.contextmanager
def patience() -> Iterator[None]:
    """Within it, a Hub that does not answer is said to, and given up: its client would wait for ever for some answers.

    Raises UserError from the client's second try on; before, it may find all it needs in its cache.
    """
    from huggingface_hub.utils import get_session, logging  # only here: most runs need no Hub client

    session, waiting = get_session(), Waiting()
    if not hasattr(session, "event_hooks"):  # an older client, which has time-outs of its own
        yield
        return
    hooks = session.event_hooks
    session.event_hooks = {
        "request": [*hooks["request"], waiting.asks],
        "response": [*hooks["response"], waiting.is_answered],
    }
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # or each of its tries is two lines
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        session.event_hooks = hooks
        waiting.ends()


class Waiting:
    """How long the Hub has not answered; its client asks from several threads."""

    def __init__(self) -> None:
        self.since: float | None = None  # the first question that nothing was heard after
        self.timer: threading.Timer | None = None

    def asks(self, request: Any) -> None:
        now = time.monotonic()
        if self.since is not None and now - self.since >= GIVE_UP_AFTER:
            raise UserError(f"{endpoint()} did not answer for {GIVE_UP_AFTER} seconds; try again later")
        request.extensions["timeout"] = dict.fromkeys(("connect", "read", "write", "pool"), GIVE_UP_AFTER)
        self.since = self.since or now
        if self.timer is None:
            self.timer = threading.Timer(SAY_AFTER, self.say)
            self.timer.daemon = True
            self.timer.start()

    def is_answered(self, _: Any) -> None:
        self.since = None
        self.ends()

    def say(self) -> None:
        print(f"hub          {endpoint()} has not answered for {SAY_AFTER} seconds", file=sys.stderr, flush=True)

    def ends(self) -> None:
        if self.timer:
            self.timer.cancel()
        self.timer = None


def endpoint() -> str:
    from huggingface_hub import constants  # where its client is in use already

    return constants.ENDPOINT


def chain(error: BaseException) -> list[BaseException]:
    """The error and what caused it; the client wraps some of its own errors in others."""
    found: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in found:
        found.append(cause)
        cause = cause.__cause__ or cause.__context__
    return found


def status_of(error: BaseException) -> int | None:
    """The HTTP status behind an error, None where the server never answered."""
    statuses = [getattr(getattr(e, "response", None), "status_code", None) for e in chain(error)]
    return next((status for status in statuses if status is not None), None)


def explain(error: Exception, repo_id: str) -> str:
    """The reason in a few words, with what to do about it."""
    from huggingface_hub.errors import (  # only here, where its client has failed
        EntryNotFoundError,
        FileMetadataError,
        HFValidationError,
        LocalEntryNotFoundError,
        RevisionNotFoundError,
    )

    status = status_of(error)
    is_network = any(type(e).__module__.split(".")[0] in ("httpx", "httpx2", "requests") for e in chain(error))
    if isinstance(error, UserError):  # of patience()
        return str(error)
    if isinstance(error, HFValidationError):
        return f"{repo_id!r} is no repository name, expected user/name"
    if isinstance(error, RevisionNotFoundError):
        return "the repository is empty"
    if isinstance(error, EntryNotFoundError) and status == 404:
        return f"{repo_id} lacks a file: {first_line(error)}"
    if status == 403:
        return f"the token may not access {repo_id} (403)"
    if status in (401, 404):
        return f"no such repository, or a token that may not see it ({status}); check the name and `hf auth login`"
    if status is not None:
        return f"{endpoint()} answered {status}"
    if is_network:
        return f"{endpoint()} cannot be reached"
    if any(isinstance(e, ValueError | KeyError | AssertionError | FileMetadataError) for e in chain(error)):
        return f"{endpoint()} answered, but not as the Hub does; is there a proxy or a log-in page in between?"
    if isinstance(error, LocalEntryNotFoundError):
        return f"{endpoint()} cannot be reached"
    return f"{type(error).__name__}: {first_line(error)}"
