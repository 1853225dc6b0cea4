"""Presets: flat YAML files of settings, each of which may start from another by its line BASE.

preset = read_preset("flickr8k", problems)      # or "mine.yaml"; problems gets a line for each thing that is wrong
preset.values["LEARNING_RATE"], preset.places["LEARNING_RATE"]      # 0.001, "presets/flickr8k.yaml, line 24"
"""

import difflib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from basics.errors import reason_of
from basics.setting_schema import SCHEMA
from basics.setting_values import read_value, unknown

PRESET_DIR = Path(__file__).parents[1] / "presets"
PRESET_BYTES = 100_000  # those of this project have under 2,000
BASE = "BASE"  # no setting: the preset whose values these replace
LONGEST_NAME, LONGEST_CIRCLE = 100, 300  # characters that a message repeats


class PresetLine(NamedTuple):
    name: str
    value: Any
    place: str  # "mine.yaml, line 3"


@dataclass(frozen=True)
class Preset:
    """Values by setting, those of its base among them; where each stands; which settings its own file names."""

    values: dict[str, Any]
    places: dict[str, str]
    own: set[str]


def read_preset(name: str, problems: list[str]) -> Preset | None:
    """By its name in presets/ or the path of a .yaml or .yml file; None where a file of it cannot be used at all."""
    try:
        chain = preset_chain(name)
    except OSError as error:  # of a path that no system has, or that may not be read
        problems.append(f"cannot read preset {str(error.filename)[:LONGEST_NAME]}: {(error.strerror or '').lower()}")
        return None
    except ValueError as error:
        problems.append(str(error))
        return None
    preset = Preset({}, {}, {line.name for line in chain[0]} - {BASE})
    for line in (line for lines in reversed(chain) for line in lines if line.name != BASE):
        try:
            preset.values[line.name] = value_of(line)
            preset.places[line.name] = line.place
        except ValueError as error:
            problems.append(f"{line.place}: {error}")
    return preset


def value_of(line: PresetLine) -> Any:
    """The value as its setting's type. Raises ValueError with what is wrong."""
    if line.name == "PRESET":
        raise ValueError("unknown setting PRESET; BASE names the preset that this one starts from")
    if line.name not in SCHEMA:
        raise ValueError(unknown(line.name, [*SCHEMA, BASE]))
    return read_value(line.name, line.value)


def preset_chain(name: str) -> list[list[PresetLine]]:
    """The lines of the preset's own file, then of its base's, and so on. Raises ValueError, OSError."""
    path: Path | None = find_preset(name)
    paths, chain = [], []
    while path is not None:
        paths.append(path)
        chain.append(preset_lines(path))
        path = base_of(chain[-1], paths)
    return chain


def base_of(lines: list[PresetLine], paths: list[Path]) -> Path | None:
    """The file that the last of these paths starts from, None where it has no BASE. Raises ValueError."""
    base = next((line for line in lines if line.name == BASE), None)
    if base is None:
        return None
    if not base.value or not isinstance(base.value, str):
        raise ValueError(
            f"{base.place}: BASE must be a preset's name or the path of a .yaml file, got {base.value!r:.60}"
        )
    path = find_preset(base.value, paths[-1].parent, f"{base.place}: BASE: ")
    resolved = [earlier.resolve() for earlier in paths]
    if path.resolve() in resolved:
        circle = " -> ".join(map(place_in, [*paths[resolved.index(path.resolve()) :], path]))
        raise ValueError(f"{base.place}: BASE leads in a circle, {circle[:LONGEST_CIRCLE]}")
    return path


def find_preset(name: str, beside: Path = Path(), prefix: str = "") -> Path:
    """presets/NAME.yaml, or the path of a .yaml file seen from `beside`. Raises ValueError where there is none."""
    known = {path.stem: path for path in sorted(PRESET_DIR.glob("*.yaml"), key=lambda path: path.stem)}
    if name in known:
        return known[name]
    wrong = f"no preset {name[:LONGEST_NAME]!r}" if name else "--preset needs a name"
    if name.endswith((".yaml", ".yml")):
        path = beside / os.path.expanduser(name)
        if path.is_file():
            return path
        name, wrong = path.stem, f"no preset at {str(path)[:LONGEST_NAME]}"
    nearest = difflib.get_close_matches(name[:LONGEST_NAME], known, n=1)
    wrong += f", did you mean {nearest[0]}" if nearest else ""
    raise ValueError(f"{prefix}{wrong}; known presets: {', '.join(known)}")


def preset_lines(path: Path) -> list[PresetLine]:
    """The settings in the file, by their names in config.py. Raises ValueError where it is no preset."""
    try:
        pairs = flat_yaml(path)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: no UTF-8, no such date, more digits than a number has
        raise ValueError(f"preset {place_in(path)} is no valid YAML: {reason_of(error)}") from None
    if pairs is None:
        raise ValueError(f"preset {place_in(path)} must hold lines like 'LEARNING_RATE: 0.0003'")
    lines: list[PresetLine] = []
    stands: dict[str, int] = {}
    for key, value, number in pairs:
        name, place = str(key).replace("-", "_").upper(), f"{place_in(path)}, line {number}"
        if name in stands:
            raise ValueError(f"{place}: {name} stands in line {stands[name]} too")
        stands[name] = number
        lines.append(PresetLine(name, value, place))
    return lines


def flat_yaml(path: Path) -> list[tuple[Any, Any, int]] | None:
    """Names, values and the lines that they stand in; None where it is no plain list of these.

    Lists, mappings and aliases within are refused before they are built: a few of them may stand for gigabytes.
    """
    if path.stat().st_size > PRESET_BYTES:
        return None
    text, depth = path.read_text(encoding="utf-8"), 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > 1 or isinstance(event, yaml.AliasEvent):
            return None
    loader = yaml.SafeLoader(text)
    root = loader.get_single_node()
    if not isinstance(root, yaml.MappingNode) or root.tag != loader.DEFAULT_MAPPING_TAG:
        return None
    build = loader.construct_object
    return [(build(name), build(value), name.start_mark.line + 1) for name, value in root.value]


def place_in(path: Path) -> str:
    """The file as messages name it: those of this project from its root."""
    return f"presets/{path.name}" if path.parent == PRESET_DIR else str(path)
