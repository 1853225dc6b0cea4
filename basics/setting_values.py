"""Values of settings as they are written, in config.py, in a preset or on a command line, as their types."""

import difflib
import functools
import sys
import types
import typing
from collections.abc import Iterable
from typing import Any

from basics.setting_schema import SCHEMA

RENAMED_VALUES = {("DISTILL", "git"): "teacher"}  # a setting and its value once -> the value now


def read_value(name: str, value: Any) -> Any:
    """The value of a setting as its type, under its name of today. Raises ValueError with the line to say."""
    new = RENAMED_VALUES.get((name, str(value)))
    if new is not None:
        say_renamed(name, str(value), new)
    expected = SCHEMA[name].type
    try:
        return convert(value if new is None else new, expected)
    except ValueError:
        raise ValueError(f"{name} must be {describe_type(expected)}, got {value!r}") from None


@functools.cache  # once, however often the settings are read
def say_renamed(name: str, old: str, new: str) -> None:
    print(f"settings     {name} {old!r} is called {new!r} now", file=sys.stderr)


def unknown(name: str, known: Iterable[str]) -> str:
    nearest = difflib.get_close_matches(name, list(known), n=1)
    return f"unknown setting {name}" + (f", did you mean {nearest[0]}?" if nearest else "; see --help")


def convert(value: Any, expected: Any) -> Any:
    """The value as the expected type; text is read as on a command line ("none", "true", "3e-4").

    Raises ValueError when it does not fit.
    """
    if isinstance(expected, types.UnionType) or typing.get_origin(expected) is typing.Union:
        if value is None or str(value).lower() == "none" and not accepts_word(expected, "none"):
            if type(None) in typing.get_args(expected):
                return None
        for member in typing.get_args(expected):
            try:
                return convert(value, member)
            except ValueError:
                continue
        raise ValueError(value)
    if typing.get_origin(expected) is typing.Literal:
        if value in typing.get_args(expected):
            return value
    elif expected is bool:
        word = str(value).lower()
        if word in ("true", "yes", "on", "1", "false", "no", "off", "0"):
            return word in ("true", "yes", "on", "1")
    elif expected is str:
        if isinstance(value, str):
            return value
    elif expected in (int, float) and value is not None and not isinstance(value, bool):
        number = as_number(value)
        if number == number and (expected is float or number == int(number) if abs(number) != float("inf") else False):
            return expected(number)
    raise ValueError(value)


def as_number(value: Any) -> float:
    """NaN for what is none; infinity for whole numbers beyond all floats. Raises ValueError."""
    try:
        return float(value) if isinstance(value, (str, int, float)) else float("nan")
    except OverflowError:
        return float("inf")


def accepts_word(expected: Any, word: str) -> bool:
    return any(word in typing.get_args(m) for m in typing.get_args(expected) if typing.get_origin(m) is typing.Literal)


def describe_type(expected: Any) -> str:
    if isinstance(expected, types.UnionType) or typing.get_origin(expected) is typing.Union:
        return " or ".join(describe_type(member) for member in typing.get_args(expected))
    if typing.get_origin(expected) is typing.Literal:
        return "one of " + ", ".join(repr(value) for value in typing.get_args(expected))
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "none"}
    return names[expected]
