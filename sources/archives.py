"""Unpack archives from others: nothing lands outside the folder, and half an archive is not mistaken for a whole."""

import hashlib
import json
import re
import tarfile
import zipfile
from pathlib import Path

from basics.disk import free_bytes, size
from basics.errors import UserError, reason_of
from basics.files import atomic_folder
from basics.paths import no_regular_file
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
    for archive in archives:
        if kind := no_regular_file(archive):
            raise UserError(f"{archive} is {kind}, expected an archive")
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
    except UserError:
        raise
    except Exception as error:  # damaged archives end in whatever zipfile, tarfile and zlib stumble over
        if isinstance(error, OSError) and error.errno is not None:  # of the disk; gzip's and bz2's have no number
            raise
        raise UserError(f"{archive} cannot be unpacked: {reason_of(error)}; download it again") from error


def unpack_zip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as content:
        members = content.infolist()
        for member in members:
            check_inside(member.filename, folder, archive)
        check_fits(sum(member.file_size for member in members), folder, archive)
        for member in progress_bar(members, desc=f"unpacking {archive.name}", unit=" files"):
            content.extract(member, folder)  # zipfile writes symbolic links as plain files


def unpack_tar(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as content:
        for member in progress_bar(content, desc=f"unpacking {archive.name}", unit=" files"):
            check_inside(member.name, folder, archive)
            check_fits(member.size, folder, archive)
            content.extract(member, folder, filter="data")  # no links out, no devices, no special permissions
        read_to_end(content)


def read_to_end(content: tarfile.TarFile) -> None:
    """What follows a tar's last entry: gzip has its checksum there, which is compared when it is read."""
    while content.fileobj and content.fileobj.read(1 << 20):
        pass


def check_fits(num_bytes: int, folder: Path, archive: Path) -> None:
    free = free_bytes(folder)
    if num_bytes > free:
        raise UserError(
            f"{archive} does not fit: {size(num_bytes)} to unpack, {size(free)} free in {folder.parent}; make room, or "
            "name a DATA_DIR on another disk"
        )


def check_inside(name: str, folder: Path, archive: Path) -> None:
    if "\0" in name or not (folder / name).resolve().is_relative_to(folder.resolve()):
        raise UserError(f"{archive} is refused: its entry {name!r} would be written outside of {folder}")
