"""One checked, read-only snapshot of the settings: config.py < presets/NAME.yaml < command-line flags.

settings = load_settings(sys.argv[1:])      # raises SettingsError with every problem found, not just the first
settings.LEARNING_RATE, settings.to_dict()  # the snapshot travels with the run: checkpoint, W&B, model card
"""

import difflib
import os
import re
import types
import typing
from pathlib import Path

import yaml

import config
from basics.errors import UserError
from basics.hub_files import is_path

PRESET_DIR = Path(__file__).parents[1] / "presets"
CONFIG_FILE = Path(config.__file__)
TYPES = typing.get_type_hints(config)  # {"LEARNING_RATE": float, ...}, in the order of config.py

# What decides the shape of the model or the meaning of its tokens: a checkpoint's own values win over config.py.
ARCHITECTURE = (
    "ENCODER_MODEL_NAME",
    "ENCODER_IMAGE_SIZE",
    "SCRATCH_IMAGE_SIZE",
    "SCRATCH_PATCH_SIZE",
    "SCRATCH_EMBED_DIM",
    "SCRATCH_LAYERS",
    "SCRATCH_HEADS",
    "DECODER_EMBED_DIM",
    "DECODER_HEADS",
    "DECODER_LAYERS",
    "DECODER_FF_DIM",
    "MAX_SEQ_LEN",
    "LOWERCASE",
)

AT_LEAST = {
    "SHAPES_NUM_IMAGES": 20,
    "VOCAB_SIZE": 260,
    "MIN_FREQUENCY": 1,
    "MAX_SEQ_LEN": 4,
    "NUM_WORKERS": 0,
    "AUGMENT_VIEWS": 1,
    "SCRATCH_IMAGE_SIZE": 1,
    "SCRATCH_PATCH_SIZE": 1,
    "SCRATCH_EMBED_DIM": 1,
    "SCRATCH_LAYERS": 1,
    "SCRATCH_HEADS": 1,
    "DECODER_EMBED_DIM": 1,
    "DECODER_HEADS": 1,
    "DECODER_LAYERS": 1,
    "DECODER_FF_DIM": 1,
    "NUM_EPOCHS": 1,
    "BATCH_SIZE": 1,
    "GRADIENT_ACCUMULATION_STEPS": 1,
    "WARMUP_STEPS": 0,
    "WEIGHT_DECAY": 0,
    "VALIDATION_INTERVAL": 1,
    "EARLY_STOPPING_PATIENCE": 1,
    "NUM_SAMPLE_CAPTIONS": 0,
    "NUM_VALIDATION_CAPTIONS": 0,
    "SCST_EPOCHS": 0,
    "SCST_SAMPLES": 2,
    "CHECKPOINT_EVERY_STEPS": 1,
    "KEEP_LAST_N": 1,
    "BEAM_SIZE": 1,
    "LENGTH_PENALTY": 0,
    "TEMPERATURE": 0,
    "TOP_K": 0,
    "SEED": 0,
    "VAL_FRACTION": 0,
    "TEST_FRACTION": 0,
    "BAD_IMAGE_LIMIT": 0,
    "DECODER_DROPOUT": 0,
    "LABEL_SMOOTHING": 0,
    "ENCODER_TRAINABLE": 1,
    "ENCODER_IMAGE_SIZE": 1,
    "DISTILL_ALPHA": 0,
    "DISTILL_TOP_K": 1,
    "DISTILL_CAPTIONS": 0,
    "DISTILL_BEAMS": 1,
}
ABOVE = {
    "LEARNING_RATE": 0,
    "SCST_LEARNING_RATE": 0,
    "EMA_DECAY": 0,
    "ENCODER_LEARNING_RATE": 0,
    "GRADIENT_CLIP_NORM": 0,
    "TOP_P": 0,
    "ADAM_BETA2": 0,
    "DISTILL_TEMPERATURE": 0,
    "DISTILL_FEATURE_WEIGHT": 0,
}
AT_MOST = {
    "VAL_FRACTION": 0.5,
    "TEST_FRACTION": 0.5,
    "BAD_IMAGE_LIMIT": 1,
    "TOP_P": 1,
    "SEED": 2**31 - 1,
    "DISTILL_ALPHA": 1,
    "DISTILL_CAPTIONS": 1,
}
BELOW = {"DECODER_DROPOUT": 1, "EMA_DECAY": 1, "LABEL_SMOOTHING": 1, "ADAM_BETA2": 1}
MULTIPLE_OF = {
    "DECODER_EMBED_DIM": "DECODER_HEADS",
    "SCRATCH_EMBED_DIM": "SCRATCH_HEADS",
    "SCRATCH_IMAGE_SIZE": "SCRATCH_PATCH_SIZE",
}


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

    def __init__(self, values: dict):
        self.__dict__.update(values)

    def __setattr__(self, name, value):
        raise AttributeError(f"settings are read-only; use settings.replace({name}=...)")

    def to_dict(self) -> dict:
        return dict(self.__dict__)

    def replace(self, **changes) -> "Settings":
        return Settings({**self.__dict__, **changes})

    @property
    def data_path(self) -> Path:
        return Path(self.DATA_DIR) / self.DATASET

    @property
    def vocab_path(self) -> Path:
        return Path(self.VOCAB_PATH.replace("{data}", str(self.data_path)))

    @property
    def merges_path(self) -> Path:
        return Path(self.MERGES_PATH.replace("{data}", str(self.data_path)))


def constants() -> Settings:
    """What config.py says now, unchecked."""
    return Settings({name: getattr(config, name) for name in TYPES})


def load_settings(argv: list[str] = (), **overrides) -> Settings:
    """Merge config.py, the preset, the flags in argv and overrides (values by name), and check the result."""
    problems: list[str] = []
    flags = parse_flags(list(argv), problems)
    preset = flags.pop("PRESET", None)
    values = constants().to_dict()
    for source in (read_preset(preset, problems) if preset else {}, flags, overrides):
        for name, value in source.items():
            set_value(values, name, value, problems)
    settings = Settings(values)
    problems += find_problems(settings)
    if problems:
        raise SettingsError(problems)
    return settings


def parse_flags(argv: list[str], problems: list[str]) -> dict:
    """["--learning-rate", "3e-4", "--augment"] -> {"LEARNING_RATE": "3e-4", "AUGMENT": "true"}."""
    flags = {}
    while argv:
        flag, has_value, value = argv.pop(0).partition("=")
        name = flag[2:].replace("-", "_").upper()
        if not flag.startswith("--") or not name:
            problems.append(f"unexpected argument {flag!r}, expected --setting value")
            continue
        if not has_value:
            if argv and not argv[0].startswith("--"):
                value = argv.pop(0)
            elif TYPES.get(name) is bool:
                value = "true"
            else:
                problems.append(f"{flag} needs a value" if name in TYPES else unknown(name))
                continue
        flags[name] = value
    return flags


def read_preset(preset: str, problems: list[str]) -> dict:
    """A preset is a YAML file of settings, named by file path or by its name in presets/."""
    path = Path(preset) if preset.endswith((".yaml", ".yml")) else PRESET_DIR / f"{preset}.yaml"
    known = ", ".join(sorted(p.stem for p in PRESET_DIR.glob("*.yaml")))
    if not path.is_file():
        problems.append(f"no preset {preset!r} at {path}; known presets: {known}")
        return {}
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        problems.append(f"preset {path} is no valid YAML: {' '.join(str(error).split())}")
        return {}
    if not isinstance(content, dict):
        problems.append(f"preset {path} must hold lines like 'LEARNING_RATE: 0.0003'")
        return {}
    return {str(name).replace("-", "_").upper(): value for name, value in content.items()}


def set_value(values: dict, name: str, value, problems: list[str]) -> None:
    if name not in TYPES:
        problems.append(unknown(name))
        return
    try:
        values[name] = convert(value, TYPES[name])
    except ValueError:
        problems.append(f"{name} must be {describe(TYPES[name])}, got {value!r}")


def unknown(name: str) -> str:
    nearest = difflib.get_close_matches(name, [*TYPES, "PRESET"], n=1)
    return f"unknown setting {name}" + (f", did you mean {nearest[0]}?" if nearest else "; see --help")


def convert(value, expected):
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
        number = float(value) if isinstance(value, (str, int, float)) else float("nan")
        if number == number and (expected is float or number == int(number) if abs(number) != float("inf") else False):
            return expected(number)
    raise ValueError(value)


def accepts_word(expected, word: str) -> bool:
    return any(word in typing.get_args(m) for m in typing.get_args(expected) if typing.get_origin(m) is typing.Literal)


def describe(expected) -> str:
    if isinstance(expected, types.UnionType) or typing.get_origin(expected) is typing.Union:
        return " or ".join(describe(member) for member in typing.get_args(expected))
    if typing.get_origin(expected) is typing.Literal:
        return "one of " + ", ".join(repr(value) for value in typing.get_args(expected))
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "none"}
    return names[expected]


def find_problems(settings: Settings) -> list[str]:
    """All that is wrong with values whose types are right: ranges, sizes that do not divide, paths, tokens."""
    return [*range_problems(settings), *path_problems(settings), *hub_problems(settings)]


def range_problems(settings: Settings) -> list[str]:
    values, problems = settings.to_dict(), []
    checks = (
        (AT_LEAST, "at least", lambda value, bound: value >= bound),
        (ABOVE, "above", lambda value, bound: value > bound),
        (AT_MOST, "at most", lambda value, bound: value <= bound),
        (BELOW, "below", lambda value, bound: value < bound),
    )
    for bounds, words, holds in checks:
        for name, bound in bounds.items():
            value = values[name]
            if isinstance(value, (int, float)) and not holds(value, bound):
                problems.append(f"{name} must be {words} {bound}, got {value}")
    for name, divisor in MULTIPLE_OF.items():
        if values[divisor] >= 1 and values[name] % values[divisor]:
            problems.append(f"{name} ({values[name]}) must be a multiple of {divisor} ({values[divisor]})")
    if settings.VAL_FRACTION + settings.TEST_FRACTION >= 1:
        problems.append("VAL_FRACTION and TEST_FRACTION leave nothing to train on")
    from_scratch = settings.ENCODER_MODEL_NAME == "scratch" and settings.FINETUNE_FROM is None
    if from_scratch and settings.ENCODER_TRAINABLE != "all":
        problems.append('ENCODER_MODEL_NAME "scratch" has no weights to keep: ENCODER_TRAINABLE must be "all"')
    if settings.CACHE_FEATURES and settings.ENCODER_TRAINABLE != "none":
        problems.append('CACHE_FEATURES keeps what a frozen encoder makes: ENCODER_TRAINABLE must be "none"')
    return problems + criterion_problems(settings) + distill_problems(settings)


def criterion_problems(settings: Settings) -> list[str]:
    """What validation and self-critical training need of each other."""
    problems = []
    if settings.BEST_METRIC == "cider" and settings.NUM_VALIDATION_CAPTIONS == 0:
        problems.append('BEST_METRIC "cider" needs NUM_VALIDATION_CAPTIONS above 0')
    if settings.SCST_EPOCHS and settings.BEST_METRIC != "cider":
        problems.append('SCST_EPOCHS raise CIDEr-D, not val_loss: BEST_METRIC must be "cider"')
    if settings.SCST_EPOCHS and not settings.GROUP_CAPTIONS:
        problems.append("SCST_EPOCHS go over pictures: GROUP_CAPTIONS must be true")
    if settings.SCST_EPOCHS and settings.EARLY_STOPPING_PATIENCE is not None:
        problems.append("EARLY_STOPPING_PATIENCE would end the run before SCST_EPOCHS: it must be none with them")
    return problems


def distill_problems(settings: Settings) -> list[str]:
    problems, teacher = [], settings.TEACHER_MODEL_NAME
    if settings.DISTILL == "git" and teacher is None:
        problems.append('DISTILL "git" needs TEACHER_MODEL_NAME, a Hub id, a folder or a checkpoint_*.pt')
    if settings.DISTILL == "git" and not any(
        (settings.DISTILL_ALPHA, settings.DISTILL_CAPTIONS, settings.DISTILL_FEATURES)
    ):
        problems.append("DISTILL_ALPHA and DISTILL_CAPTIONS are both 0: nothing would be learned from the teacher")
    if (pair := settings.DISTILL_FEATURES) and not re.fullmatch(r"\s*[^=\s]+\s*=\s*[^=\s]+\s*", pair):
        problems.append(f"DISTILL_FEATURES must be 'module of ours=module of the teacher', got {pair!r}")
    if settings.DISTILL == "momentum":
        for name in ("DISTILL_FEATURES", "DISTILL_CAPTIONS"):
            if getattr(settings, name):
                problems.append(f'{name} needs a teacher of its own: DISTILL must be "git"')
        if not settings.DISTILL_ALPHA:
            problems.append('DISTILL "momentum" with DISTILL_ALPHA 0 would learn nothing from the average')
    if settings.DISTILL == "momentum" and settings.EMA_DECAY is None:
        problems.append('DISTILL "momentum" learns from the moving average of the weights: it needs EMA_DECAY')
    if settings.TOKENIZER == "teacher" and teacher is None:
        problems.append('TOKENIZER "teacher" needs TEACHER_MODEL_NAME, whose vocabulary is taken')
    wanted = teacher if settings.DISTILL == "git" or settings.TOKENIZER == "teacher" else None
    if wanted and is_path(wanted) and not Path(wanted).expanduser().exists():
        problems.append(f"TEACHER_MODEL_NAME {teacher} is not here; expected a folder, a checkpoint_*.pt or a Hub id")
    return problems


def path_problems(settings: Settings) -> list[str]:
    problems = []
    prepared = (settings.data_path / "captions.json").is_file()
    if settings.RAW_DIR is not None and not Path(settings.RAW_DIR).expanduser().is_dir():
        problems.append(f"RAW_DIR {settings.RAW_DIR} is no folder here")
    if settings.RAW_DIR is None and settings.DATASET in ("flickr8k", "coco", "folder") and not prepared:
        problems.append(
            f"DATASET {settings.DATASET!r} needs RAW_DIR, the folder where you keep it as downloaded (--raw-dir PATH)"
        )
    name, origin, resume = settings.ENCODER_MODEL_NAME, settings.FINETUNE_FROM, settings.RESUME_CHECKPOINT_PATH
    if is_path(name) and not Path(name).is_dir() and origin is None:
        problems.append(f"ENCODER_MODEL_NAME {name} is no folder here; expected a local folder, a Hub id or 'scratch'")
    if origin and is_path(origin) and not Path(origin).expanduser().exists() and resume is None:
        problems.append(f"FINETUNE_FROM {origin} is not here; expected a best/ folder, a checkpoint_*.pt or a Hub id")
    if resume not in (None, "latest") and not Path(resume).is_file():
        problems.append(f"RESUME_CHECKPOINT_PATH {resume} does not exist; expected a checkpoint_*.pt file or 'latest'")
    if settings.DEVICE is not None and not re.fullmatch(r"cpu|mps|cuda(:\d+)?", settings.DEVICE):
        problems.append(f"DEVICE must be cpu, cuda, cuda:N or mps, got {settings.DEVICE!r}")
    if settings.RUN_NAME is not None and not re.fullmatch(r"[\w.+-]*\w[\w.+-]*", settings.RUN_NAME):
        problems.append(f"RUN_NAME may hold letters, digits and . _ + - only, got {settings.RUN_NAME!r}")
    return problems


def hub_problems(settings: Settings) -> list[str]:
    if settings.HUB_REPO_ID is None:
        return []
    from huggingface_hub import get_token
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    problems = []
    try:
        validate_repo_id(settings.HUB_REPO_ID)
    except HFValidationError as error:
        problems.append(f"HUB_REPO_ID is no valid repository name: {error}")
    if not (get_token() or os.environ.get("HF_TOKEN")):
        problems.append("HUB_REPO_ID is set but there is no Hub token: run `hf auth login` or set HF_TOKEN")
    return problems


def help_text(usage: str) -> str:
    """The --help page: every setting with its default and its comment in config.py, in config.py's groups."""
    lines = [usage, "", "Settings (defaults in config.py; --preset NAME reads presets/NAME.yaml first):"]
    for line in CONFIG_FILE.read_text(encoding="utf-8").splitlines():
        if group := re.match(r"# --- (.+) ---", line):
            lines += ["", group[1]]
        elif setting := re.match(r"([A-Z][A-Z0-9_]*): .+? = (.+?)  # (.+)", line):
            flag = "--" + setting[1].lower().replace("_", "-")
            lines.append(f"  {flag:<32}{setting[3]} (default: {setting[2]})")
    return "\n".join(lines + ["", "  --debug                         show the traceback of an error"])
