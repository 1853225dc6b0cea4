"""Text, JSON and tables from others: what they say, or an error that names the file and the line."""

import contextlib
import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from basics.errors import UserError, reason_of
from basics.paths import no_regular_file
from sources.images import IMAGE_SUFFIXES


def text_of(path: Path) -> str:
    if kind := no_regular_file(path):
        raise UserError(f"{path} is {kind}, expected a file")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise UserError(f"{path}, line {line}: not UTF-8; save it as UTF-8") from None


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    """(number, text) of each line that is not empty; only a line feed ends one, as captions may hold U+2028."""
    for number, line in enumerate(text_of(path).split("\n"), 1):
        if line.strip():
            yield number, line


@contextlib.contextmanager
def at(place: str, expected: str = "") -> Iterator[None]:
    """What is malformed inside is a UserError that begins with the place, a file and what in it."""
    try:
        yield
    except (csv.Error, ValueError, LookupError, TypeError, AttributeError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else reason_of(error)
        raise UserError(f"{place}: " + (f"expected {expected} ({reason})" if expected else reason)) from error


def texts_in(value: Any) -> list[str]:
    """One caption or a list of them as a list. Raises TypeError."""
    if isinstance(value, list):
        return value
    if isinstance(value, str):
        return [value]
    raise TypeError(f"expected a caption or a list of captions, got {str(value)[:60]}")


def table_rows(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """(number of its last line, fields) of each row that is not empty; between tabs a quote is like other characters.

    Raises UserError where a quote is never closed, or by another row's quote.
    """
    text, tabs, first = text_of(path), delimiter == "\t", 1
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=delimiter,
        quoting=csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL,
        strict=True,
    )
    while True:
        with at(f"{path}, line {first}"):
            row = next(reader, None)
            if row is None:
                return
            refuse_swallowed_rows(row, delimiter)
        first = reader.line_num + 1
        if any(part.strip() for part in row):
            yield reader.line_num, [without_quotes(part) for part in row] if tabs else row


def refuse_swallowed_rows(row: list[str], delimiter: str) -> None:
    """Raises ValueError where a quoted field holds lines that look like rows with a picture of their own."""
    for line in (line for field in row for line in field.split("\n")[1:]):
        for part in line.split(delimiter)[:-1] + line.split(delimiter)[1:]:
            if Path(part.strip()).suffix.lower() in IMAGE_SUFFIXES:
                raise ValueError(f"a quote that is not closed before the row of {part.strip()}; close it, or double it")


def without_quotes(field: str) -> str:
    """A field of a tab-separated table that is quoted whole, as spreadsheet programs write those with commas."""
    inside = field[1:-1]
    if len(field) > 1 and field[0] == field[-1] == '"' and '"' not in inside.replace('""', ""):
        return inside.replace('""', '"')
    return field


def column(header: list[str], names: tuple[str, ...], path: Path) -> int:
    """The place of the first column that has one of the names. Raises UserError when none has."""
    for i, title in enumerate(header):
        if title.strip().lower() in names:
            return i
    found = f"has the columns {', '.join(header)[:200]}" if header else "is empty"
    raise UserError(f"{path} {found}; expected one named {' or '.join(names)}")
