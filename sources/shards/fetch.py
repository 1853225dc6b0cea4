"""Shards of a web server, kept whole on the disk, where their pictures are read in any order.

announce([("https://example.org/cc3m/00000.tar", listed), ...], folder)     # how much it is, and whether there is room
path = fetch("https://example.org/cc3m/00000.tar", folder, listed)          # listed: its line of the index, or None

What came of a shard before it was cut stays beside it as .part, with the server's word for that version of the file
(its ETag or time) in .part.of; the next try asks for the rest of that version.
"""

import hashlib
import http.client
import os
import re
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, TypeVar

from basics.disk import free_bytes, size, writing
from basics.errors import UserError, reason_of
from basics.files import beside, file_hash, sync_folder
from basics.progress_bar import progress_bar, skip
from sources.shards.index_file import INDEX, Listed, parse_index

TIMEOUT = 30.0  # seconds without a byte
PAUSES = (1.0, 2.0, 4.0)  # seconds before another try
AT_ONCE = 2**20  # bytes
QUESTIONS = 16  # sizes asked for at once
LARGEST_INDEX = 2**28
NETWORK = (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError, ssl.SSLError)
PASSING = (408, 416, 429)  # what servers answer that is over soon, beside their own failures; 416: begun anew

Answer = TypeVar("Answer")
Wanted = tuple[str, Listed | None]


def announce(shards: list[Wanted], folder: Path) -> None:
    """Say how much is to come of shards that are not here yet. Raises UserError where the disk is too small for all."""
    missing = [(url, listed) for url, listed in shards if not is_fetched(fetched_path(url, folder), listed)]
    if not missing:
        return
    with ThreadPoolExecutor(QUESTIONS) as pool:
        asked = [pool.submit(size_of_shard, url, listed) for url, listed in missing]
        try:
            sizes = [answer.result() for answer in asked]
        except UserError:
            pool.shutdown(cancel_futures=True)
            raise
    least = " at least" * (None in sizes)
    there = sum(so_far(part_of(fetched_path(url, folder))) for url, _ in missing)
    needed = sum(number or 0 for number in sizes) - there
    print(f"fetching     {len(missing):,} shards,{least} {size(needed)}, into {folder}")
    if needed > (free := free_bytes(folder)):
        raise UserError(
            f"the shards take{least} {size(needed)} more in {folder}, where {size(free)} are free; make room, name "
            "another DATA_DIR, or fewer SHARDS"
        )


def size_of_shard(url: str, listed: Listed | None) -> int | None:
    """What the index says, else the server, where it does."""
    if listed:
        return listed["bytes"]
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=TIMEOUT) as answer:
            return length_of(answer)
    except (urllib.error.HTTPError, ConnectionError, ValueError):  # not every server knows HEAD; fetching will tell
        return None
    except NETWORK as error:
        raise UserError(f"cannot fetch the shard {url} ({reason_of(error)}); start again later") from error


def fetch(url: str, folder: Path, listed: Listed | None) -> Path:
    """The shard's file. Raises UserError where it cannot be had or is not what the index says."""
    path = fetched_path(url, folder)
    if is_fetched(path, listed):
        return path
    folder.mkdir(parents=True, exist_ok=True)
    part = part_of(path)
    try:
        patiently(lambda: fetch_rest(url, part, listed))
    except (*NETWORK, ValueError) as error:
        raise UserError(f"cannot fetch the shard {url} ({reason_of(error)}); start again to go on with it") from error
    if listed and file_hash(part) != listed["sha256"]:
        part.unlink()
        raise UserError(f"{url} has another checksum than its {INDEX} says; start again to fetch it anew")
    os.replace(part, path)
    version_of(part).unlink(missing_ok=True)
    sync_folder(folder)
    return path


def fetched_path(url: str, folder: Path) -> Path:
    name = re.sub(r"[^\w.-]", "_", urllib.parse.urlsplit(url).path.rpartition("/")[2])[-100:]
    return folder / f"{hashlib.sha256(url.encode()).hexdigest()[:12]}-{name}"


def is_fetched(path: Path, listed: Listed | None) -> bool:
    return path.is_file() and (listed is None or path.stat().st_size == listed["bytes"])


def part_of(path: Path) -> Path:
    return beside(path, ".part")


def version_of(part: Path) -> Path:
    return beside(part, ".of")


def patiently(ask: Callable[[], Answer]) -> Answer:
    """What ask() gives, which is asked again after a pause where the connection broke or the server failed."""
    for pause in PAUSES:
        try:
            return ask()
        except NETWORK as error:
            if not may_pass(error):
                raise
            time.sleep(pause)
    return ask()


def may_pass(error: Exception) -> bool:
    if isinstance(error, urllib.error.HTTPError):
        return error.code >= 500 or error.code in PASSING
    return not isinstance(error, http.client.InvalidURL)


def fetch_rest(url: str, part: Path, listed: Listed | None) -> None:
    """All that is missing of a shard; the whole of it where the server has another version by now."""
    there, version = so_far(part), version_of(part)
    if listed and there == listed["bytes"]:
        return
    known = {"Range": f"bytes={there}-", "If-Range": version.read_text(encoding="ascii")} if there else {}
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url, headers=known), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # no such bytes
            part.unlink(missing_ok=True)
        raise
    with answer, writing(part):
        start = start_of(answer, there)
        total = None if (length := length_of(answer)) is None else start + length
        refuse_other(url, total, listed)
        refuse_full_disk(part.parent, (total or 0) - start, url)
        with open(part, "r+b" if start else "wb") as file:
            if not start:  # in this order: never the new version's name on the old one's bytes
                version.write_text(named_version(answer), encoding="ascii")
            file.seek(start)
            receive(answer, file, total)
    expected = total or (listed["bytes"] if listed else 0)
    if (got := part.stat().st_size) < expected:
        raise ConnectionError(f"cut after {got:,} of {expected:,} bytes")
    refuse_other(url, got, listed)


def so_far(part: Path) -> int:
    """Bytes of a shard that came before, where it is known of which version they are."""
    version = version_of(part)
    known = part.is_file() and version.is_file() and re.fullmatch(rb"[\x20-\x7e]+", version.read_bytes())
    return part.stat().st_size if known else 0


def start_of(answer: http.client.HTTPResponse, asked: int) -> int:
    """The place in the shard of the first byte that comes."""
    if answer.status != 206:
        return 0
    if not (given := answer.headers.get("Content-Range") or "").startswith(f"bytes {asked}-"):
        raise ValueError(f"asked for bytes {asked}-, the server gave {given or 'others'}")
    return asked


def named_version(answer: http.client.HTTPResponse) -> str:
    """What If-Range may ask for; "" where the server names no version that is the same to the byte."""
    etag, changed = (answer.headers.get(name) or "" for name in ("ETag", "Last-Modified"))
    name = etag if etag and not etag.startswith("W/") else changed
    return name if name.isascii() and name.isprintable() else ""


def length_of(answer: http.client.HTTPResponse) -> int | None:
    length = answer.headers.get("Content-Length")
    return None if length is None else int(length)


def receive(answer: http.client.HTTPResponse, file: BinaryIO, total: int | None) -> None:
    name = Path(file.name).name.removesuffix(".part")
    with progress_bar(total=total, desc=f"fetching {name}", unit="B", unit_scale=True) as bar:
        skip(bar, file.tell())
        while block := answer.read(AT_ONCE):
            file.write(block)
            bar.update(len(block))
    file.flush()
    os.fsync(file.fileno())


def refuse_other(url: str, num_bytes: int | None, listed: Listed | None) -> None:
    if listed and num_bytes is not None and num_bytes != listed["bytes"]:
        raise UserError(
            f"{url} has {num_bytes:,} bytes, its {INDEX} says {listed['bytes']:,}; one of them is of another time: put "
            "both up again"
        )


def refuse_full_disk(folder: Path, needed: int, url: str) -> None:
    if needed > (free := free_bytes(folder)):
        raise UserError(f"{url} has {size(needed)}, {size(free)} are free in {folder}; name another DATA_DIR")


def fetch_index(url: str, patient: bool) -> dict[str, Listed]:
    """What the index beside a shard lists; {} where the server has none."""
    place = urllib.parse.urljoin(url, INDEX)

    def ask() -> bytes:
        with urllib.request.urlopen(place, timeout=TIMEOUT) as answer:
            return answer.read(LARGEST_INDEX)  # type: ignore[no-any-return]

    try:
        return parse_index(patiently(ask) if patient else ask(), place)
    except urllib.error.HTTPError as error:
        if error.code in (403, 404):  # some stores forbid what is not there
            return {}
        raise UserError(f"cannot fetch {place} ({reason_of(error)})") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise UserError(f"cannot fetch {place} ({reason_of(error)})") from error
