"""The checksums of a captioner's folder, by which a changed byte in any of its files is found before it is used.

write_checksums(folder, leave_out={"README.md"})        # checksums.json: {"config.json": "<SHA-256>", ...}
check_checksums(folder)                                 # folders from before have none
"""

import json
from pathlib import Path

from basics.errors import UserError
from basics.files import file_hash, write_atomically
from basics.stored import Each, check, json_of

CHECKSUMS = "checksums.json"


def write_checksums(folder: Path, leave_out: set[str]) -> None:
    """Of all files but those that people may edit."""
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - leave_out
    sums = {name: file_hash(folder / name) for name in sorted(names)}
    write_atomically(folder / CHECKSUMS, json.dumps(sums, indent=2))


def check_checksums(folder: Path, names: list[str]) -> None:
    """Raises UserError for the first file of those names that is not as it was saved."""
    if not (folder / CHECKSUMS).is_file():
        return
    try:
        sums = json_of(folder / CHECKSUMS)
        check(sums, Each(str), CHECKSUMS)
    except ValueError as error:
        raise UserError(f"{folder} is damaged: {error}") from error
    for name in names:
        if sums.get(name) != file_hash(folder / name):
            raise UserError(
                f"{folder} is damaged: {name} is not the file that was saved; take another copy, or delete "
                f"{CHECKSUMS} there if you changed it yourself"
            )
