"""Captions or labels of pictures as they are printed or written, each when it is there.

form = output_form(arguments.format, arguments.output, alone=len(paths) == 1)      # raises UserError
failed = write_answers(rows, form, arguments.output, len(paths))               # rows as of answer_picture_files()
"""

import contextlib
import csv
import io
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from basics.disk import writing
from basics.errors import UserError
from basics.files import atomic_file, is_special
from basics.paths import shown
from basics.text import json_text, one_line, utf8_only
from captioner.picture_files import Found

Write = Callable[[str], None]
Say = Callable[[str, TextIO], None]  # prints text as it is, at once


@dataclass(frozen=True)
class AnswerKind:
    """What answers are called, each of which has a text and a number, and what was done to pictures to have them."""

    one: str
    many: str
    number: str
    numbers: str
    done: str
    value: Callable[[Any], float]  # the number, rounded


CAPTIONS = AnswerKind("caption", "captions", "score", "scores", "captioned", lambda caption: round(caption.score, 4))
LABELS = AnswerKind("label", "labels", "probability", "probabilities", "classified", lambda share: round(share, 6))


@dataclass(frozen=True)
class OutputForm:
    """A form of the output: the text of a picture, and what stands before the first, between two and at the end."""

    kind: AnswerKind
    row: Callable[[Found, AnswerKind], str]
    head: str = ""
    between: str = ""
    tail: str = ""


def bare_text(found: Found, kind: AnswerKind) -> str:
    """The answers to a picture, a line each; a label has its probability beside it, a caption speaks for itself."""
    if kind is CAPTIONS:
        return "".join(f"{caption}\n" for caption, _ in found.answers)
    width = max(len(shown(label)) for label, _ in found.answers)
    return "".join(f"{shown(label):<{width}}  {share:.3f}\n" for label, share in found.answers)


def named_text(found: Found, kind: AnswerKind) -> str:
    """A line break in a name is written \\n; bytes of a name that are no UTF-8 stay as they are."""
    name = one_line(str(found.path))
    if kind is CAPTIONS:
        return "".join(f"{name}\t{caption}\n" for caption, _ in found.answers)
    return "".join(f"{name}\t{shown(label)}\t{share:.3f}\n" for label, share in found.answers)


def as_json(found: Found, kind: AnswerKind) -> str:
    content = {
        "image": str(found.path),
        kind.many: [text for text, _ in found.answers],
        kind.numbers: [kind.value(number) for _, number in found.answers],
    }
    return "\n" + json_text([content])[2:-3]  # as within an array


def as_table(found: Found, kind: AnswerKind) -> str:
    """CSV with a line an answer; spreadsheet programs and csv.DictReader read it."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    for rank, (text, number) in enumerate(found.answers, 1):
        writer.writerow([utf8_only(str(found.path)), rank, utf8_only(text), kind.value(number)])
    return table.getvalue()


FORMATS = ("csv", "json", "text")
ENDINGS = {".txt": "text", ".json": "json", ".csv": "csv", "": "text"}


def output_form(name: str | None, output: str | None, alone: bool, overwrite: bool = False) -> OutputForm:
    """The form of captions as flags name it. Raises UserError."""
    return form_of(form_name(name, output, overwrite), alone, CAPTIONS)


def form_of(name: str, alone: bool, kind: AnswerKind) -> OutputForm:
    """The form of that name; a picture alone needs no name beside its answer."""
    if name == "json":
        return OutputForm(kind, as_json, head="[", between=",", tail="\n]\n")
    if name == "csv":
        return OutputForm(kind, as_table, head=f"image,rank,{kind.one},{kind.number}\n")
    return OutputForm(kind, bare_text if alone else named_text)


def form_name(name: str | None, output: str | None, overwrite: bool = False) -> str:
    """The form of that name, else by the end of the output's name.

    Raises UserError where neither says it, for a folder, and for a file with something in it unless overwrite.
    """
    path = Path(output or "captions").expanduser()
    if path.is_dir():
        raise UserError(f"--output {output} is a folder; name a file in it")
    if output and not overwrite and path.is_file() and not is_special(path) and path.stat().st_size:
        raise UserError(f"--output {output} is there already; take another name, or --overwrite to replace it")
    if name is None and path.suffix.lower() not in ENDINGS:
        raise UserError(f"--output {output} does not end in .txt, .json or .csv; say which it shall be with --format")
    return name or ENDINGS[path.suffix.lower()]


def print_at_once(text: str, file: TextIO) -> None:
    print(text, end="", file=file, flush=True)


def write_answers(
    rows: Iterable[Found], form: OutputForm, output: str | None, total: int, say: Say = print_at_once
) -> int:
    """Write each picture's answers when they are there, to the file or the screen -> how many pictures failed.

    What stops it in between, Ctrl-C say, is raised after what is there was brought to an end as of that form; before
    the first answer an older file stays.
    """
    good, failed, stopped = 0, 0, None
    with destination(output, say) as write:
        try:
            for found in rows:
                if found.error is not None:
                    failed += 1
                    say(f"error: {found.error}\n", sys.stderr)
                    continue
                write((form.between if good else form.head) + form.row(found, form.kind))
                good += 1
        except (Exception, KeyboardInterrupt) as error:
            if not good:
                raise
            stopped = error
        write(form.tail if good else form.head + form.tail)
    if output:
        say(f"{good} of {total} pictures {form.kind.done}: {output}\n", sys.stderr)
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
