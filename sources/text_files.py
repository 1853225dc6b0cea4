"""Text and tables from others: UTF-8 or an error that names the line."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from basics.errors import UserError


def text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise UserError(f"{path}, line {line}: not UTF-8; save it as UTF-8") from None


def table_rows(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """(line number, fields) of each row that is not empty."""
    reader = csv.reader(io.StringIO(text_of(path), newline=""), delimiter=delimiter)
    for row in reader:
        if any(part.strip() for part in row):
            yield reader.line_num, row


def column(header: list[str], names: tuple[str, ...], path: Path) -> int:
    """The place of the first column that has one of the names. Raises UserError when none has."""
    for i, title in enumerate(header):
        if title.strip().lower() in names:
            return i
    raise UserError(f"{path} has the columns {', '.join(header)}; expected one named {' or '.join(names)}")
