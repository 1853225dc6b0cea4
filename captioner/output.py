"""Captions of pictures as they are printed or written, each when it is there.

form = output_form(arguments.format, arguments.output, alone=len(paths) == 1)      # raises UserError
failed = write_captions(rows, form, arguments.output, len(paths))              # rows as of caption_picture_files()
"""

import contextlib
import csv
import io
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TextIO

from basics.disk import writing
from basics.errors import UserError
from basics.files import atomic_file, is_special
from basics.text import json_text, one_line, utf8_only
from captioner.picture_files import Found

Write = Callable[[str], None]
Say = Callable[[str, TextIO], None]  # prints text as it is, at once


@dataclass(frozen=True)
class OutputForm:
    """A form of the output: the text of a picture, and what stands before the first, between two and at the end."""

    row: Callable[[Found], str]
    head: str = ""
    between: str = ""
    tail: str = ""


def bare_text(found: Found) -> str:
    """The captions of a picture, a line each."""
    return "".join(f"{caption}\n" for caption, _ in found.captions)


def named_text(found: Found) -> str:
    """A line break in a name is written \\n; bytes of a name that are no UTF-8 stay as they are."""
    return "".join(f"{one_line(str(found.path))}\t{caption}\n" for caption, _ in found.captions)


def as_json(found: Found) -> str:
    content = {
        "image": str(found.path),
        "captions": [text for text, _ in found.captions],
        "scores": [round(caption.score, 4) for _, caption in found.captions],
    }
    return "\n" + json_text([content])[2:-3]  # as within an array


def as_table(found: Found) -> str:
    """CSV with a line a caption; spreadsheet programs and csv.DictReader read it."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    for rank, (text, caption) in enumerate(found.captions, 1):
        writer.writerow([utf8_only(str(found.path)), rank, text, round(caption.score, 4)])
    return table.getvalue()


FORMATS = {
    "text": OutputForm(named_text),
    "json": OutputForm(as_json, head="[", between=",", tail="\n]\n"),
    "csv": OutputForm(as_table, head="image,rank,caption,score\n"),
}
ENDINGS = {".txt": "text", ".json": "json", ".csv": "csv", "": "text"}


def output_form(name: str | None, output: str | None, alone: bool, overwrite: bool = False) -> OutputForm:
    """The form of that name, else by the end of the output's name; a picture alone needs none beside its caption.

    Raises UserError where neither says it, for a folder, and for a file with something in it unless overwrite.
    """
    path = Path(output or "captions").expanduser()
    if path.is_dir():
        raise UserError(f"--output {output} is a folder; name a file in it")
    if output and not overwrite and path.is_file() and not is_special(path) and path.stat().st_size:
        raise UserError(f"--output {output} is there already; take another name, or --overwrite to replace it")
    if name is None and path.suffix.lower() not in ENDINGS:
        raise UserError(f"--output {output} does not end in .txt, .json or .csv; say which it shall be with --format")
    name = name or ENDINGS[path.suffix.lower()]
    return OutputForm(bare_text) if alone and name == "text" else FORMATS[name]


def print_at_once(text: str, file: TextIO) -> None:
    print(text, end="", file=file, flush=True)


def write_captions(
    rows: Iterable[Found], form: OutputForm, output: str | None, total: int, say: Say = print_at_once
) -> int:
    """Write each picture's captions when they are there, to the file or the screen -> how many pictures failed.

    What stops it in between, Ctrl-C say, is raised after what is there was brought to an end as of that form; before
    the first caption an older file stays.
    """
    good, failed, stopped = 0, 0, None
    with destination(output, say) as write:
        try:
            for found in rows:
                if found.error is not None:
                    failed += 1
                    say(f"error: {found.error}\n", sys.stderr)
                    continue
                write((form.between if good else form.head) + form.row(found))
                good += 1
        except (Exception, KeyboardInterrupt) as error:
            if not good:
                raise
            stopped = error
        write(form.tail if good else form.head + form.tail)
    if output:
        say(f"{good} of {total} pictures captioned: {output}\n", sys.stderr)
    if stopped:
        raise stopped
    return failed


@contextlib.contextmanager
def destination(output: str | None, say: Say) -> Iterator[Write]:
    """What writes text to the file, which takes its place at the end, or to the screen."""
    if not output:
        yield lambda text: say(text, sys.stdout)
        return
    path = Path(output).expanduser()
    with atomic_file(path, buffering=0) as file:

        def write(text: str) -> None:
            with writing(path):
                write_whole(file, text.encode("utf-8", "surrogateescape"))

        yield write


def write_whole(file: BinaryIO, content: bytes) -> None:
    """All of it at once, or none: what a full disk has cut short is taken back, and the file stays as it was."""
    start, left = file.tell() if file.seekable() else None, memoryview(content)
    try:
        while left:
            left = left[file.write(left) :]
        file.flush()
    except OSError:
        if start is not None:
            file.seek(start)
            file.truncate()
        raise
