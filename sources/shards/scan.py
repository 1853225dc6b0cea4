"""What one tar shard holds: the place of each picture, its captions, and what had to be left out.

found = scan(Path("train-000000.tar"))
found.samples       # [Sample], in the order of the tar
found.bad           # [("000000007.txt", "no picture"), ...]: samples that cannot be used, and why

Members are grouped by webdataset's own function, with places where it would have bytes: nothing is unpacked or
unpickled, whatever its name says.
"""

import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from basics.errors import UserError, reason_of
from basics.paths import is_utf8, no_regular_file, shown
from basics.stored import check, parse_json
from sources.raw_captions import checked_text, clean_caption
from sources.shards.picture import ShardPicture, is_plain

PICTURES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff")
MOST_TEXT = 2**20  # bytes of a sample's captions
MOST_PICTURE = 2**28  # bytes; what is larger would be read into memory whole
TEXTS = (str, [str], None)
OF_JSON = {"caption?": TEXTS, "captions?": TEXTS, "name?": (str, None)}


@dataclass(frozen=True)
class Sample:
    """A picture with its captions; the key is what names it in the tar, without the suffix."""

    key: str
    picture: ShardPicture
    captions: list[str]


@dataclass
class Scanned:
    """A shard's samples, those that are bad and why, and the number of members that belong to none."""

    path: Path
    text_files: tuple[str, ...] = ("txt",)  # suffixes of texts, of which the first is read where .json has none
    samples: list[Sample] = field(default_factory=list)
    bad: list[tuple[str, str]] = field(default_factory=list)
    foreign: int = 0


class Unusable(Exception):
    """Why a sample is left out."""


def scan(path: Path, text_files: tuple[str, ...] = ("txt",)) -> Scanned:
    """One pass over the headers, reading captions alone. Raises UserError for what is no whole tar."""
    found = Scanned(path, text_files)
    try:
        if kind := no_regular_file(path):
            raise UserError(f"the shard {path} is {kind}, expected a .tar file")
        with open(path, "rb") as file, tarfile.open(fileobj=file, mode="r:") as content:
            for group in grouped(content, found):
                add(found, group, file)
            refuse_cut(content, file)
    except FileNotFoundError as error:
        raise UserError(f"the shard {path} is missing; put it back, or leave it out of SHARDS") from error
    except tarfile.TarError as error:
        raise UserError(
            f"the shard {path} is damaged ({reason_of(error)}); fetch or write it again, or leave it out of SHARDS "
            "(compressed tars must be unpacked to plain .tar: pictures are read in any order)"
        ) from error
    return found


def grouped(content: tarfile.TarFile, found: Scanned) -> Iterator[dict[str, Any]]:
    """{"__key__": key, "jpg": TarInfo, "txt": TarInfo} of each sample; doubles and strangers are counted."""
    from webdataset.tariterators import group_by_keys  # only where there are shards: imports take a second

    def note_double(error: Exception) -> bool:
        found.bad.append((str(error.args[0]).split(": ")[0], "a second file of this name and kind"))
        return True

    seen = set()
    for group in group_by_keys(usable_members(content, found), handler=note_double):
        if group["__key__"] in seen:
            found.bad.append((group["__key__"], "a second sample of this key"))
            continue
        seen.add(group["__key__"])
        yield group


def usable_members(content: tarfile.TarFile, found: Scanned) -> Iterator[dict[str, Any]]:
    """Plain files under plain names; links, devices, and names that lead elsewhere are bad, folders are nothing."""
    from webdataset.tariterators import base_plus_ext  # as above

    for member in content:
        if member.isdir():
            continue
        if not is_plain(member) or not is_plain_name(member.name):
            found.bad.append((member.name, "no plain file under a plain name"))
        elif base_plus_ext(member.name)[0] is None or member.name.startswith("__"):
            found.foreign += 1
        else:
            yield {"fname": member.name, "data": member, "__url__": ""}


def is_plain_name(name: str) -> bool:
    parts = re.split(r"[/\\]", name)
    return is_utf8(name) and name.isprintable() and ".." not in parts and bool(parts[0]) and ":" not in parts[0]


def refuse_cut(content: tarfile.TarFile, file: BinaryIO) -> None:
    """A tar ends with zeros, which tarfile does not ask for: one cut between two members would look whole."""
    file.seek(content.offset)
    if file.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
        there = os.fstat(file.fileno()).st_size
        raise tarfile.ReadError(f"cut short or overwritten at byte {content.offset:,} of {there:,}")


def add(found: Scanned, group: dict[str, Any], file: BinaryIO) -> None:
    kinds = {kind for kind in group if not kind.startswith("__")}
    known = {*PICTURES, *found.text_files, "json"}
    if not kinds & known:
        found.foreign += len(kinds)
        return
    found.foreign += len(kinds - known)
    try:
        found.samples.append(sample_of(group, file, found))
    except Unusable as reason:
        found.bad.append((group["__key__"], str(reason)))


def sample_of(group: dict[str, Any], file: BinaryIO, found: Scanned) -> Sample:
    member = next((group[kind] for kind in PICTURES if kind in group), None)
    if member is None:
        raise Unusable("no picture")
    if member.size > MOST_PICTURE:
        raise Unusable(f"a picture of {member.size:,} bytes, more than {MOST_PICTURE:,}")
    captions, called = read_texts(group, file, found.text_files)
    if not captions:
        raise Unusable("no caption")
    return Sample(
        group["__key__"], ShardPicture(str(found.path), member.name, member.offset_data, member.size, called), captions
    )


def read_texts(group: dict[str, Any], file: BinaryIO, text_files: tuple[str, ...]) -> tuple[list[str], str]:
    """Captions of .json ("captions" or "caption"), else the lines of a text; and the picture's own name, if any."""
    try:
        record = parse_json(text_of_member(group["json"], file), "its .json") if "json" in group else {}
        check(record, OF_JSON, "its .json")
        given = record.get("captions") or record.get("caption") or []
        text = next((group[suffix] for suffix in text_files if suffix in group), None)
        if not given and text is not None:
            given = text_of_member(text, file).decode("utf-8-sig").splitlines()
        given = [given] if isinstance(given, str) else given
        texts = [clean_caption(checked_text("caption", text)) for text in given]
        called = checked_text("name", record.get("name") or "")
    except ValueError as error:  # half characters, and what is no UTF-8
        raise Unusable(f"its captions cannot be read: {reason_of(error)}") from error
    return [text for text in texts if text], called if called.isprintable() else ""


def text_of_member(member: tarfile.TarInfo, file: BinaryIO) -> bytes:
    if member.size > MOST_TEXT:
        raise Unusable(f"{shown(member.name)} has {member.size:,} bytes, more than {MOST_TEXT:,}")
    file.seek(member.offset_data)
    return file.read(member.size)
