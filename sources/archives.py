"""Unpack archives from others: nothing lands outside the folder, and half an archive is not mistaken for a whole."""

import hashlib
import json
import re
import tarfile
import zipfile
import zlib
from pathlib import Path

from basics.errors import UserError
from basics.files import atomic_folder
from basics.progress_bar import progress_bar

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")
UNPACKED = re.compile(r"images-[0-9a-f]{8}")  # names of folders that unpack() makes


def stamps(archives: list[Path]) -> list[list]:
    """[name, size, time] of each: what a change is noticed by, without reading gigabytes."""
    return [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in archives]


def unpack(archives: list[Path], parent: Path) -> Path:
    """Unpack all into one folder of parent, named by them and kept when there, as it was whole then.

    Raises UserError for unsafe archives.
    """
    folder = parent / f"images-{hashlib.sha256(json.dumps(stamps(archives)).encode()).hexdigest()[:8]}"
    if folder.is_dir():
        return folder
    with atomic_folder(folder) as fresh:
        for archive in archives:
            unpack_one(archive, fresh)
    return folder


def unpack_one(archive: Path, folder: Path) -> None:
    try:
        (unpack_zip if archive.name.endswith(".zip") else unpack_tar)(archive, folder)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, RuntimeError) as error:
        raise UserError(f"{archive} cannot be unpacked: {error}; download it again") from error


def unpack_zip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as content:
        members = content.infolist()
        for member in members:
            check_inside(member.filename, folder, archive)
        for member in progress_bar(members, desc=f"unpacking {archive.name}", unit=" files"):
            content.extract(member, folder)  # zipfile writes symbolic links as plain files


def unpack_tar(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as content:
        for member in progress_bar(content, desc=f"unpacking {archive.name}", unit=" files"):
            check_inside(member.name, folder, archive)
            content.extract(member, folder, filter="data")  # no links out, no devices, no special permissions


def check_inside(name: str, folder: Path, archive: Path) -> None:
    if not (folder / name).resolve().is_relative_to(folder.resolve()):
        raise UserError(f"{archive} is refused: its entry {name!r} would be written outside of {folder}")
