"""One checked, read-only snapshot of the settings: config.py < presets/NAME.yaml < command-line flags.

settings = load_settings(sys.argv[1:])      # raises SettingsError with every problem found, not just the first
settings.LEARNING_RATE, settings.to_dict()  # the snapshot travels with the run: checkpoint, W&B, model card
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from basics.config_file import CONFIG_FILE, config_values, line_of
from basics.errors import UserError
from basics.presets import Preset, read_preset
from basics.setting_rules import NoSetting, find_problems
from basics.setting_schema import SCHEMA
from basics.setting_values import RENAMED_VALUES, read_value, unknown

# What decides the shape of the model or the meaning of its tokens: a checkpoint's own values win over config.py.
ARCHITECTURE = (
    "ENCODER_MODEL_NAME",
    "ENCODER_IMAGE_SIZE",
    "SCRATCH_IMAGE_SIZE",
    "SCRATCH_PATCH_SIZE",
    "SCRATCH_EMBED_DIM",
    "SCRATCH_LAYERS",
    "SCRATCH_HEADS",
    "DECODER",
    "DECODER_EMBED_DIM",
    "DECODER_HEADS",
    "DECODER_LAYERS",
    "DECODER_FF_DIM",
    "DECODER_MODEL_NAME",
    "PREFIX_TOKENS",
    "PROMPT",
    "LORA_RANK",
    "LORA_ALPHA",
    "LORA_TARGETS",
    "MAX_SEQ_LEN",
    "LOWERCASE",
)

OWN_DATA = {"classify": "-classify"}  # tasks whose pictures have no captions: what their folder of data ends in
BEFORE_THEY_WERE_NAMED = {"DECODER": "transformer", "TASK": "caption", "LOSS": "cross_entropy"}  # of older checkpoints


class SettingsError(UserError):
    """Settings that cannot be used; the message lists every problem with what was expected."""

    def __init__(self, problems: list[str]):
        super().__init__(
            "cannot start: " + "; ".join(problems)
            if len(problems) == 1
            else f"cannot start, {len(problems)} problems:\n  - " + "\n  - ".join(problems)
        )


class Settings:
    """Read-only values under the names of config.py; `settings.data_path` is the folder of the prepared data."""

    def __init__(self, values: dict[str, Any]):
        self.__dict__.update(values)

    def __getattr__(self, name: str) -> Any:
        raise NoSetting(f"there is no setting {name}")

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"settings are read-only; use settings.replace({name}=...)")

    def to_dict(self) -> dict[str, Any]:
        return dict(self.__dict__)

    def replace(self, **changes: Any) -> "Settings":
        return Settings({**self.__dict__, **changes})

    @property
    def data_path(self) -> Path:
        return Path(self.DATA_DIR) / f"{self.DATASET}{OWN_DATA.get(self.TASK, '')}"

    @property
    def vocab_path(self) -> Path:
        return Path(self.VOCAB_PATH.replace("{data}", str(self.data_path)))

    @property
    def merges_path(self) -> Path:
        return Path(self.MERGES_PATH.replace("{data}", str(self.data_path)))


def constants() -> Settings:
    """What config.py says now. Raises SettingsError for its names and types; find_problems() is not asked."""
    problems: list[str] = []
    values = config_values(problems)
    if problems:
        raise SettingsError(problems)
    return Settings(values)


def up_to_date(stored: dict[str, Any]) -> dict[str, Any]:
    """The settings in a checkpoint or a captioner's folder, under the names and values of today.

    Raises ValueError for a value that its setting cannot have; names that are none today are kept as they are.
    """
    values = {name: RENAMED_VALUES.get((name, str(value)), value) for name, value in stored.items()}
    return {**BEFORE_THEY_WERE_NAMED, **{name: stored_value(name, value) for name, value in values.items()}}


def stored_value(name: str, value: Any) -> Any:
    if not isinstance(name, str):
        raise ValueError(f"settings must have names, got {name!r}")
    if name not in SCHEMA or name == "DATASET" and isinstance(value, str):  # it may be of a form that is not here
        return value
    value = read_value(name, value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        for broken in SCHEMA[name].broken_bounds(value):
            raise ValueError(f"{name} must be {broken}, got {value}")
    return value


def load_settings(argv: Iterable[str] = (), **overrides: Any) -> Settings:
    """Merge config.py, the preset, the flags in argv and overrides (values by name), and check the result."""
    return settings_and_given(argv, **overrides)[0]


def settings_and_given(argv: Iterable[str] = (), **overrides: Any) -> tuple[Settings, set[str]]:
    """The same, and the names of the settings that the flags and the preset's own file give."""
    problems: list[str] = []
    flags = parse_flags(list(argv), problems)
    name = flags.pop("PRESET", None)
    values = config_values(problems)
    places = dict.fromkeys(values, CONFIG_FILE.name)
    preset = Preset({}, {}, set()) if name is None else read_preset(name, problems)
    if preset is not None:
        values |= preset.values
        places |= preset.places
    for source in (flags, overrides):
        for name, value in source.items():
            places.pop(name, None)
            set_value(values, name, value, problems)
    if preset is not None:  # else most of what the values need of each other is missing
        problems += [located(problem, places) for problem in find_problems(Settings(values))]
    if preset is None or problems:
        raise SettingsError(problems)
    return Settings(values), {*flags, *preset.own}


def located(problem: str, places: dict[str, str]) -> str:
    """The problem, with the file and line where the setting that it begins with has its value, if in a file."""
    name = problem.partition(" ")[0]
    place = places.get(name)
    if place == CONFIG_FILE.name:
        place = f"{place}, line {line_of(name)}"
    return f"{problem} ({place})" if place else problem


def parse_flags(argv: list[str], problems: list[str]) -> dict[str, str]:
    """["--learning-rate", "3e-4", "--augment"] -> {"LEARNING_RATE": "3e-4", "AUGMENT": "true"}."""
    flags: dict[str, str] = {}
    while argv:
        flag, has_value, value = argv.pop(0).partition("=")
        name = flag[2:].replace("-", "_").upper()
        if not flag.startswith("--") or not name:
            problems.append(f"unexpected argument {flag!r}, expected --setting value")
            continue
        if not has_value:
            if argv and not argv[0].startswith("--"):
                value = argv.pop(0)
            elif name in SCHEMA and SCHEMA[name].type is bool:
                value = "true"
            elif name == "PRESET":
                value = ""  # find_preset() says which there are
            else:
                problems.append(f"{flag} needs a value" if name in SCHEMA else unknown(name, [*SCHEMA, "PRESET"]))
                continue
        flags[name] = value
    return flags


def set_value(values: dict[str, Any], name: str, value: Any, problems: list[str]) -> None:
    if name not in SCHEMA:
        problems.append(unknown(name, [*SCHEMA, "PRESET"]))
        return
    try:
        values[name] = read_value(name, value)
    except ValueError as error:
        problems.append(str(error))


def help_text(usage: str) -> str:
    """The --help page: every setting with its default and its comment in config.py, in config.py's groups."""
    lines = [
        usage,
        "",
        "Settings (defaults in config.py; --preset NAME reads presets/NAME.yaml first, or a .yaml file):",
    ]
    for line in CONFIG_FILE.read_text(encoding="utf-8").splitlines():
        if group := re.match(r"# --- (.+) ---", line):
            lines += ["", group[1]]
        elif setting := re.match(r"([A-Z][A-Z0-9_]*) = (.+?)  # (.+)", line):
            flag = "--" + setting[1].lower().replace("_", "-")
            lines.append(f"  {flag:<32}{setting[3]} (default: {setting[2]})")
    return "\n".join(lines + ["", "  --debug                         show the traceback of an error"])
