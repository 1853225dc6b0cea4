"""Paths as they may be: what is no regular file, and names that would break a line or are no UTF-8.

kind = no_regular_file(path)        # "a pipe"; None where it is a regular file
f"cannot read {shown(path)}"        # a name of one line, whatever it holds
"""

import os
import stat
from pathlib import Path

KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}

LONGEST_SHOWN = 24  # characters of a name in a table


def no_regular_file(path: str | Path) -> str | None:
    """What it is, where it is no regular file: opening a pipe waits for whoever writes to it, perhaps for ever.

    Links are followed. Raises OSError where there is nothing.
    """
    return KINDS.get(stat.S_IFMT(os.stat(path).st_mode))


def is_utf8(name: str | Path) -> bool:
    """Whether the name can be written into a text file; on Linux a file may have any bytes for a name."""
    try:
        str(name).encode()
    except UnicodeEncodeError:
        return False
    return True


def shown(name: str | Path) -> str:
    """The name on one line: what cannot be printed, and what is no UTF-8, as Python would escape it."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(name))


def shown_short(name: str) -> str:
    """The same as shown(), cut to fit a column."""
    name = shown(name)
    return name if len(name) <= LONGEST_SHOWN else f"{name[: LONGEST_SHOWN - 3]}..."
