"""Unpack archives from others: nothing lands outside the folder, and half an archive is not mistaken for a whole."""

import os
import shutil
import tarfile
import zipfile
from pathlib import Path

from tqdm import tqdm

from errors import UserError

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack into folder (kept when it is there already, as that was whole). Raises UserError for unsafe archives."""
    if folder.is_dir():
        return folder
    fresh = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    try:
        (unpack_zip if archive.name.endswith(".zip") else unpack_tar)(archive, fresh)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        shutil.rmtree(fresh, ignore_errors=True)
        raise UserError(f"{archive} cannot be unpacked: {error}; download it again") from error
    except UserError:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    os.replace(fresh, folder)
    return folder


def unpack_zip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as content:
        members = content.infolist()
        for member in members:
            check_inside(member.filename, folder, archive)
        for member in tqdm(members, desc=f"unpacking {archive.name}", unit=" files", leave=False, disable=None):
            content.extract(member, folder)  # zipfile writes symbolic links as plain files


def unpack_tar(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as content:
        for member in tqdm(content, desc=f"unpacking {archive.name}", unit=" files", leave=False, disable=None):
            check_inside(member.name, folder, archive)
            content.extract(member, folder, filter="data")  # no links out, no devices, no special permissions


def check_inside(name: str, folder: Path, archive: Path) -> None:
    if not (folder / name).resolve().is_relative_to(folder.resolve()):
        raise UserError(f"{archive} is refused: its entry {name!r} would be written outside of {folder}")
