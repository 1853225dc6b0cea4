"""Text that holds names of files: they may hold line breaks and, as Python's surrogates, bytes that are no UTF-8."""

import json
import re
from typing import Any

SURROGATE = re.compile("[\ud800-\udfff]")
CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def json_text(content: Any) -> str:
    """Indented JSON that can be encoded whatever its names hold: what is no UTF-8 goes out as JSON's own escapes."""
    return SURROGATE.sub(escaped, json.dumps(content, indent=2, ensure_ascii=False)) + "\n"


def one_line(text: str) -> str:
    """The text with \\n for a line break, and so on for what would break a line or draw on a terminal."""
    return CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


def utf8_only(text: str) -> str:
    """The text with \\udcff for a byte that is no UTF-8, where the reader expects UTF-8 alone."""
    return SURROGATE.sub(escaped, text)


def escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"
