"""config.py as people edit it: its values, and what cannot be used in it, with the line where it stands.

values = config_values(problems)        # {"LEARNING_RATE": 0.001, ...}; problems gets a line for each other name
line_of("LEARNING_RATE")                # 64
"""

import ast
import difflib
import re
import sys
import traceback
from pathlib import Path
from typing import Any

from basics.setting_schema import SCHEMA
from basics.setting_values import describe_type, read_value, unknown

CONFIG_FILE = Path(__file__).parents[1] / "config.py"
NAME = re.compile(r"[A-Z][A-Z0-9_]*")


def reason_it_stops(error: Exception) -> str:
    """What is wrong with a config.py that does not run, and in which line."""
    if isinstance(error, ModuleNotFoundError) and error.name == "config":
        return f"there is no {CONFIG_FILE}, which holds all settings; put it back"
    line = getattr(error, "lineno", None)
    for frame in traceback.extract_tb(error.__traceback__):
        if Path(frame.filename).name == CONFIG_FILE.name:
            line = frame.lineno
    return f"config.py, line {line}: {getattr(error, 'msg', None) or error}"


try:
    import config
except Exception as error:  # every script imports this first, and none can go on
    sys.exit(f"error: {reason_it_stops(error)}")


def config_values(problems: list[str]) -> dict[str, Any]:
    """The value of each setting as its type; what has none is a problem of one line."""
    names = [name for name in vars(config) if NAME.fullmatch(name)]
    missing = [name for name in SCHEMA if name not in names]
    for name in (name for name in names if name not in SCHEMA):
        problem, meant = unknown(name, SCHEMA), difflib.get_close_matches(name, missing, n=1)
        if meant:  # one mistake, not two
            missing.remove(meant[0])
            problem = f"unknown setting {name}, did you mean {meant[0]}, which is missing?"
        problems.append(place_of(name) + problem)
    problems += [f"config.py lacks {name}, {describe_type(SCHEMA[name].type)}" for name in missing]
    values = {}
    for name in (name for name in names if name in SCHEMA):
        try:
            values[name] = read_value(name, getattr(config, name))
        except ValueError as error:
            problems.append(f"{place_of(name)}{error}")
    return values


def place_of(name: str) -> str:
    line = line_of(name)
    return f"config.py, line {line}: " if line else ""


def line_of(name: str) -> int | None:
    """The line of config.py that gives the name its value last."""
    lines: dict[str, int] = {}
    for node in ast.parse(CONFIG_FILE.read_text(encoding="utf-8")).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        lines |= {target.id: node.lineno for target in targets if isinstance(target, ast.Name)}
    return lines.get(name)
