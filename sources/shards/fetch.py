"""Shards of a web server, kept whole on the disk, where their pictures are read in any order.

path = fetch("https://example.org/cc3m/00000.tar", folder, listed)      # once; listed: its line of the index, or None
"""

import hashlib
import http.client
import re
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from basics.disk import free_bytes, size
from basics.errors import UserError, reason_of
from basics.files import atomic_file
from basics.progress_bar import progress_bar
from sources.shards.index_file import INDEX, Listed, parse_index

TIMEOUT = 30.0  # seconds without a byte
AT_ONCE = 2**20  # bytes
LARGEST_INDEX = 2**28


def fetch(url: str, folder: Path, listed: Listed | None) -> Path:
    """The shard's file. Raises UserError where it cannot be had or is not what the index says."""
    path = fetched_path(url, folder)
    if path.is_file() and (listed is None or path.stat().st_size == listed["bytes"]):
        return path
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer, atomic_file(path) as file:
            announced = int(answer.headers.get("Content-Length") or 0)
            refuse_full_disk(folder, announced, url)
            with progress_bar(total=announced or None, desc=f"fetching {path.name}", unit="B", unit_scale=True) as bar:
                while block := answer.read(AT_ONCE):
                    file.write(block)
                    bar.update(len(block))
            check_bytes(url, file.tell(), listed["bytes"] if listed else announced)
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError, ValueError) as error:
        raise UserError(f"cannot fetch the shard {url} ({reason_of(error)}); start again to go on with it") from error
    return path


def fetched_path(url: str, folder: Path) -> Path:
    name = re.sub(r"[^\w.-]", "_", urllib.parse.urlsplit(url).path.rpartition("/")[2])[-100:]
    return folder / f"{hashlib.sha256(url.encode()).hexdigest()[:12]}-{name}"


def refuse_full_disk(folder: Path, needed: int, url: str) -> None:
    if needed > (free := free_bytes(folder)):
        raise UserError(f"{url} has {size(needed)}, {size(free)} are free in {folder}; name another DATA_DIR")


def check_bytes(url: str, got: int, expected: int) -> None:
    if expected and got != expected:
        raise UserError(f"{url} gave {got:,} of {expected:,} bytes; start again to fetch it anew")


def fetch_index(url: str) -> dict[str, Listed]:
    """What the index beside a shard lists; {} where the server has none."""
    place = urllib.parse.urljoin(url, INDEX)
    try:
        with urllib.request.urlopen(place, timeout=TIMEOUT) as answer:
            return parse_index(answer.read(LARGEST_INDEX), place)
    except urllib.error.HTTPError as error:
        if error.code in (403, 404):  # some stores forbid what is not there
            return {}
        raise UserError(f"cannot fetch {place} ({reason_of(error)})") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise UserError(f"cannot fetch {place} ({reason_of(error)})") from error
