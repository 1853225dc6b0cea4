"""The Hugging Face Hub: which names mean one of its repositories, what is fetched from there, why it could not be.

may_be_hub_id("user/name")                      # True: no path could be meant
folder = download("user/name")                  # the cached folder where the Hub cannot be reached
print(explain(error, "user/name"))              # of any error of its client: the reason, and what to do about it
"""

from pathlib import Path

from basics.errors import UserError

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
        return Path(snapshot_download(repo_id, allow_patterns=NEEDED_FILES))
    except Exception as error:  # its errors have no common base: HTTP, cache, names
        raise UserError(f"cannot load {repo_id} from the Hugging Face Hub: {explain(error, repo_id)}") from error


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
    from huggingface_hub import constants  # only here, where its client has failed
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError, RevisionNotFoundError

    status = status_of(error)
    is_network = any(type(e).__module__.split(".")[0] in ("httpx", "httpx2", "requests") for e in chain(error))
    if isinstance(error, HFValidationError):
        return f"{repo_id!r} is no repository name, expected user/name"
    if isinstance(error, RevisionNotFoundError):
        return "the repository is empty"
    if status == 403:
        return f"the token may not access {repo_id} (403)"
    if status in (401, 404):
        return f"no such repository, or a token that may not see it ({status}); check the name and `hf auth login`"
    if status is not None:
        return f"{constants.ENDPOINT} answered {status}"
    if is_network or isinstance(error, LocalEntryNotFoundError):
        return f"{constants.ENDPOINT} cannot be reached"
    return f"{type(error).__name__}: {(str(error).strip() or 'no details').splitlines()[0]}"
