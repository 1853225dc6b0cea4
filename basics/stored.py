"""What files say, checked once where they are read: their JSON, and values like a pattern of what they may be.

    config = json_of(folder / "config.json")
    check(config, {"epoch": COUNT, "names": [str], "ids": Each(COUNT), "note?": (str, None)}, "config.json")

A pattern is a type, None, a Number, a dict of patterns by name (a name with ? may be missing, further names may be
there), a list of one pattern for all items, Each value of a dict, or a tuple of patterns of which one must fit.
Exported captioners have a copy of this file: it needs nothing but Python.
"""

import json
import reprlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Number:
    """A finite number within bounds; kind int: a whole one."""

    kind: type
    at_least: float
    at_most: float

    def holds(self, value: object) -> bool:
        kinds = (int,) if self.kind is int else (int, float)
        return is_a(value, kinds) and self.at_least <= value <= self.at_most  # type: ignore[operator]


@dataclass(frozen=True)
class Each:
    """A dict of text to values that are all like one pattern."""

    pattern: Any


COUNT = Number(int, 0, 2**53)
NAMES = {
    str: "text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    dict: "a mapping",
    list: "a list",
}


def json_of(path: Path) -> Any:
    """The content of a JSON file. Raises ValueError that names it."""
    return parse_json(path.read_bytes(), path.name)


def parse_json(text: str | bytes, where: str) -> Any:
    """The same of what has been read."""
    try:
        return json.loads(text.decode("utf-8") if isinstance(text, bytes) else text)
    except RecursionError:
        raise ValueError(f"{where} is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{where} is no JSON: {error}") from error


def check(value: Any, pattern: Any, where: str) -> None:
    """Raises ValueError, one line that names the place, unless value is like the pattern."""
    if isinstance(pattern, dict) and is_a(value, (dict,)):
        check_names(value, pattern, where)
    elif isinstance(pattern, Each) and is_a(value, (dict,)):
        for name, item in value.items():
            check(name, str, f"a name in {where}")
            check(item, pattern.pattern, f"{where}: {short(name)}")
    elif isinstance(pattern, list) and is_a(value, (list, tuple)):
        for number, item in enumerate(value):
            check(item, pattern[0], f"{where}[{number}]")
    elif isinstance(pattern, tuple):
        check_one_of(value, pattern, where)
    elif not fits(value, pattern):
        raise ValueError(f"{where} must be {describe(pattern)}, got {briefly(value)}")


def numbers_in(value: Any, where: str) -> Iterator[tuple[str, int | float]]:
    """(place, number) of all numbers in lists and mappings within one another; true and false are none."""
    if isinstance(value, (dict, list)):
        for name, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from numbers_in(item, f"{where}: {name}")
    elif is_a(value, (int, float)):
        yield where, value


def check_names(value: dict, pattern: dict, where: str) -> None:
    for name, expected in pattern.items():
        plain = name.removesuffix("?")
        if plain in value:
            check(value[plain], expected, f"{where}: {plain}")
        elif plain == name:
            raise ValueError(f"{where} lacks {name}")


def check_one_of(value: Any, patterns: tuple, where: str) -> None:
    """Of a mapping or a list among them what is wrong in it is said, else what all of them are."""
    for pattern in patterns:
        try:
            return check(value, pattern, where)
        except ValueError:
            if is_a(value, (dict,)) and isinstance(pattern, (dict, Each)) or is_a(value, (list,)) and is_list(pattern):
                raise
    raise ValueError(f"{where} must be {' or '.join(map(describe, patterns))}, got {briefly(value)}")


def is_list(pattern: Any) -> bool:
    return isinstance(pattern, list)


def fits(value: Any, pattern: Any) -> bool:
    if isinstance(pattern, Number):
        return pattern.holds(value)
    if pattern is None:
        return value is None
    return isinstance(pattern, type) and is_a(value, (int, float) if pattern is float else (pattern,))


def is_a(value: object, kinds: tuple[type, ...]) -> bool:
    """isinstance() that does not take true for a number."""
    return isinstance(value, kinds) and (not isinstance(value, bool) or bool in kinds)


def describe(pattern: Any) -> str:
    if isinstance(pattern, Number):
        return f"{NAMES[pattern.kind]} from {pattern.at_least:,} to {pattern.at_most:,}"
    if isinstance(pattern, type):
        return NAMES.get(pattern, f"a {pattern.__name__}")
    return "none" if pattern is None else "a list" if isinstance(pattern, list) else "a mapping"


def short(name: str) -> str:
    """A name of a file's own, which may be anything, for a line."""
    return name if name.isidentifier() and len(name) < 100 else reprlib.repr(name)


def briefly(value: Any) -> str:
    """A few characters of the value, which may be as large as it likes."""
    plain = value is None or isinstance(value, (str, bool, int, float, list, tuple, dict))
    if not plain or is_a(value, (int,)) and abs(value) > 10**30:
        return f"a {type(value).__name__}" if not plain else "a very large number"
    return reprlib.repr(value)
