"""The rules that settings of the right types must keep: bounds, and what one setting needs of another.

problems = find_problems(settings)      # all of them, a line each; [] where training can start
"""

import os
import re
import typing
from pathlib import Path
from typing import Any, Protocol

from basics.disk import size
from basics.hub_files import is_path
from basics.memory import machine_memory
from basics.setting_schema import SCHEMA

FROM_NOTHING = ("scratch", "scratch-cnn")  # the words of ENCODER_MODEL_NAME that are no model's name
LANGUAGE_MODELS = ("language_model", "language_model_cross")  # the words of DECODER that take DECODER_MODEL_NAME
UNFIT_DATASETS = {"caption": ("cifar10", "cifar100"), "classify": ("flickr8k", "flickr30k", "coco")}  # by TASK
BYTES_A_PARAMETER = 16  # of training one: itself, its gradient and two moments


class NoSetting(AttributeError):
    """A name that is no setting, or one without a value of its type."""


class Values(Protocol):
    """The settings by name, as basics.settings.Settings has them."""

    def __getattr__(self, name: str) -> Any: ...


def find_problems(settings: Values) -> list[str]:
    """All that is wrong with values whose types are right: ranges, sizes that do not divide, paths, tokens.

    A rule that asks for a setting which is not there, as its type was wrong, has nothing to say yet.
    """
    rules = (
        range_problems,
        memory_problems,
        split_problems,
        encoder_problems,
        language_model_problems,
        criterion_problems,
        classification_problems,
        distillation_problems,
        task_problems,
        data_problems,
        start_problems,
        name_problems,
        hub_problems,
    )
    problems = []
    for rule in rules:
        try:
            problems += rule(settings)
        except NoSetting:
            continue
        except OSError as error:  # of a path that no system has
            problems.append(f"{str(error.filename)[:60]!r}: {(error.strerror or '').lower()}")
    return problems


def range_problems(settings: Values) -> list[str]:
    problems = []
    for name, setting in SCHEMA.items():
        value = getattr(settings, name, None)
        if not isinstance(value, (int, float)) or isinstance(value, bool):  # none, or a word such as "all"
            continue
        problems += [f"{name} must be {broken}, got {value}" for broken in setting.broken_bounds(value)]
        if (divisor := setting.multiple_of) and (size := getattr(settings, divisor, 0)) >= 1 and value % size:
            problems.append(f"{name} ({value}) must be a multiple of {divisor} ({size})")
    return problems


def memory_problems(settings: Values) -> list[str]:
    """Whether what is built from nothing could be trained in this machine's memory at all."""
    taken = settings.FINETUNE_FROM or settings.RESUME_CHECKPOINT_PATH  # with the sizes that it has
    memory, problems = machine_memory(), []
    if memory is None or taken or range_problems(settings):
        return []
    width, inner = settings.DECODER_EMBED_DIM, settings.DECODER_FF_DIM
    parts = {"DECODER": settings.VOCAB_SIZE * width + settings.DECODER_LAYERS * (8 * width**2 + 2 * width * inner)}
    if settings.DECODER in LANGUAGE_MODELS:  # which says itself what it takes
        parts.clear()
    if settings.ENCODER_MODEL_NAME == "scratch":
        parts["SCRATCH"] = settings.SCRATCH_LAYERS * 12 * settings.SCRATCH_EMBED_DIM**2
    for name, parameters in parts.items():
        needed = parameters * BYTES_A_PARAMETER
        if needed > memory:
            problems.append(
                f"{name}_LAYERS and its widths make {parameters / 1e9:,.1f} billion parameters, which take "
                f"{size(needed)} to train; this machine has {size(memory)}"
            )
    return problems


def split_problems(settings: Values) -> list[str]:
    if settings.VAL_FRACTION + settings.TEST_FRACTION < 1:
        return []
    return ["VAL_FRACTION and TEST_FRACTION leave nothing to train on"]


def encoder_problems(settings: Values) -> list[str]:
    problems = []
    name = settings.ENCODER_MODEL_NAME
    if name in FROM_NOTHING and settings.FINETUNE_FROM is None and settings.ENCODER_TRAINABLE != "all":
        problems.append(f'ENCODER_MODEL_NAME "{name}" has no weights to keep: ENCODER_TRAINABLE must be "all"')
    if settings.CACHE_FEATURES and settings.ENCODER_TRAINABLE != "none":
        problems.append('CACHE_FEATURES keeps what a frozen encoder makes: ENCODER_TRAINABLE must be "none"')
    return problems


def language_model_problems(settings: Values) -> list[str]:
    """What a language model as decoder needs, and what needs one."""
    name, taken = settings.DECODER_MODEL_NAME, settings.FINETUNE_FROM or settings.RESUME_CHECKPOINT_PATH
    if settings.DECODER == "transformer" or settings.TASK == "classify":
        return []
    problems = []
    if settings.DECODER in LANGUAGE_MODELS and name is None and taken is None:
        problems.append(f'DECODER "{settings.DECODER}" needs DECODER_MODEL_NAME, a Hub id or a folder')
    if name and is_path(name) and not Path(name).is_dir() and taken is None:
        problems.append(f"DECODER_MODEL_NAME {name} is no folder here; expected a local folder or a Hub id")
    if name and settings.TOKENIZER == "teacher":
        problems.append('TOKENIZER "teacher" is for our own decoder: a language model has its own vocabulary')
    if settings.PARALLEL == "fsdp" and not settings.GRADIENT_CHECKPOINTING:  # blocks that run twice are not gathered
        problems.append(f'PARALLEL "fsdp" with DECODER "{settings.DECODER}" needs GRADIENT_CHECKPOINTING true')
    if settings.DECODER_FROZEN_PRECISION == "bf16" and settings.PRECISION != "bf16":
        problems.append('DECODER_FROZEN_PRECISION "bf16" needs PRECISION "bf16"')
    return problems


def criterion_problems(settings: Values) -> list[str]:
    """What validation and self-critical training need of each other."""
    problems = []
    if settings.BEST_METRIC == "cider" and settings.NUM_VALIDATION_CAPTIONS == 0:
        problems.append('BEST_METRIC "cider" needs NUM_VALIDATION_CAPTIONS above 0')
    if settings.SCST_EPOCHS and settings.BEST_METRIC != "cider":
        problems.append('SCST_EPOCHS raise CIDEr-D, not val_loss: BEST_METRIC must be "cider"')
    if settings.SCST_EPOCHS and not settings.GROUP_CAPTIONS:
        problems.append("SCST_EPOCHS go over pictures: GROUP_CAPTIONS must be true")
    if settings.WARMUP_STEPS > 1 and settings.WARMUP_STEPS % 1:
        problems.append(f"WARMUP_STEPS must be whole steps, or below 1 a share of all, got {settings.WARMUP_STEPS}")
    if settings.SCST_EPOCHS and settings.EARLY_STOPPING_PATIENCE is not None:
        problems.append("EARLY_STOPPING_PATIENCE would end the run before SCST_EPOCHS: it must be none with them")
    return problems


def classification_problems(settings: Values) -> list[str]:
    """What TASK "classify" has no use for and what only it has, where that would not be as asked."""
    if settings.TASK != "classify":
        return ['BEST_METRIC "top1" is for TASK "classify"'] * (settings.BEST_METRIC == "top1")
    problems = []
    mixed = settings.MIXUP_ALPHA or settings.CUTMIX_ALPHA
    if settings.BEST_METRIC == "cider":
        problems.append('BEST_METRIC "cider" is for captions: it must be "top1" or "val_loss" with TASK "classify"')
    for name, off in (("SCST_EPOCHS", 0), ("DISTILL_CAPTIONS", 0)):
        if getattr(settings, name) != off:
            problems.append(f'{name} is for captions: it must be {off} with TASK "classify"')
    if settings.NUM_EPOCHS == "auto":
        problems.append('NUM_EPOCHS "auto" is for captions: it must be a number with TASK "classify"')
    if settings.FINETUNE_FROM is not None:
        problems.append("FINETUNE_FROM is for captioners: name a classifier to start from as ENCODER_MODEL_NAME")
    if mixed and settings.CACHE_FEATURES:
        problems.append("MIXUP_ALPHA and CUTMIX_ALPHA mix pictures: CACHE_FEATURES must be false with them")
    looks_along = settings.AUGMENT or settings.DISTILL_FEATURES or not settings.DISTILL_CACHE
    if settings.CACHE_FEATURES and settings.DISTILL == "teacher" and looks_along:
        problems.append(
            "CACHE_FEATURES shows a teacher no pictures: with it AUGMENT must be false, DISTILL_CACHE true, "
            "DISTILL_FEATURES none"
        )
    if mixed and settings.DISTILL and settings.DISTILL_LOSS == "decoupled":
        problems.append('DISTILL_LOSS "decoupled" needs pictures of one class: MIXUP_ALPHA and CUTMIX_ALPHA must be 0')
    return problems


def distillation_problems(settings: Values) -> list[str]:
    problems = [*teacher_problems(settings), *momentum_problems(settings)]
    if (pair := settings.DISTILL_FEATURES) and not re.fullmatch(r"\s*[^=\s]+\s*=\s*[^=\s]+\s*", pair):
        problems.append(f"DISTILL_FEATURES must be 'module of ours=module of the teacher', got {pair!r}")
    return problems


def teacher_problems(settings: Values) -> list[str]:
    """What learning from another model, or taking its vocabulary, needs."""
    problems, teacher = [], settings.TEACHER_MODEL_NAME
    taught, borrowed = settings.DISTILL == "teacher", settings.TOKENIZER == "teacher"
    if taught and teacher is None:
        problems.append('DISTILL "teacher" needs TEACHER_MODEL_NAME, a Hub id, a folder or a checkpoint_*.pt')
    if taught and not (settings.DISTILL_ALPHA or settings.DISTILL_CAPTIONS or settings.DISTILL_FEATURES):
        problems.append("DISTILL_ALPHA and DISTILL_CAPTIONS are both 0: nothing would be learned from the teacher")
    if borrowed and teacher is None:
        problems.append('TOKENIZER "teacher" needs TEACHER_MODEL_NAME, whose vocabulary is taken')
    if teacher and (taught or borrowed) and is_path(teacher) and not Path(teacher).expanduser().exists():
        problems.append(f"TEACHER_MODEL_NAME {teacher} is not here; expected a folder, a checkpoint_*.pt or a Hub id")
    return problems


def momentum_problems(settings: Values) -> list[str]:
    """What learning from the moving average of the weights needs."""
    if settings.DISTILL != "momentum":
        return []
    problems = [
        f'{name} needs a teacher of its own: DISTILL must be "teacher"'
        for name in ("DISTILL_FEATURES", "DISTILL_CAPTIONS")
        if getattr(settings, name)
    ]
    if not settings.DISTILL_ALPHA:
        problems.append('DISTILL "momentum" with DISTILL_ALPHA 0 would learn nothing from the average')
    if settings.EMA_DECAY is None:
        problems.append('DISTILL "momentum" learns from the moving average of the weights: it needs EMA_DECAY')
    return problems


def task_problems(settings: Values) -> list[str]:
    """Whether the pictures of DATASET have what TASK learns; a task of one's own may learn from any."""
    others = UNFIT_DATASETS.get(settings.TASK, ())
    if settings.DATASET not in others:
        return []
    fitting = [word for word in typing.get_args(SCHEMA["DATASET"].type) if word not in others]
    return [f"DATASET must be one of {', '.join(fitting)} with TASK {settings.TASK!r}, got {settings.DATASET!r}"]


def data_problems(settings: Values) -> list[str]:
    """Whether the dataset can be found."""
    problems = []
    prepared = any((settings.data_path / name).exists() for name in ("captions.json", "dataset.json"))
    if settings.RAW_DIR is not None and not Path(settings.RAW_DIR).expanduser().is_dir():
        problems.append(f"RAW_DIR {settings.RAW_DIR} is no folder here")
    if settings.RAW_DIR is None and settings.DATASET in ("flickr8k", "coco", "folder") and not prepared:
        problems.append(
            f"DATASET {settings.DATASET!r} needs RAW_DIR, the folder where you keep it as downloaded (--raw-dir PATH)"
        )
    if settings.DATASET == "webdataset" and not (settings.RAW_DIR or settings.SHARDS or prepared):
        problems.append("DATASET 'webdataset' needs SHARDS, as in --shards shards/ (python write_shards.py makes them)")
    if settings.SHARDS and settings.DATASET == "webdataset" and settings.RAW_DIR:
        problems.append("SHARDS and RAW_DIR are both set; name the shards with one of them")
    return problems


def start_problems(settings: Values) -> list[str]:
    """Whether what a run starts from can be found."""
    problems = []
    name, origin, resume = settings.ENCODER_MODEL_NAME, settings.FINETUNE_FROM, settings.RESUME_CHECKPOINT_PATH
    if is_path(name) and not Path(name).is_dir() and origin is None:
        words = " or ".join(map(repr, FROM_NOTHING))
        problems.append(f"ENCODER_MODEL_NAME {name} is no folder here; expected a local folder, a Hub id, {words}")
    if origin and is_path(origin) and not Path(origin).expanduser().exists() and resume is None:
        problems.append(f"FINETUNE_FROM {origin} is not here; expected a best/ folder, a checkpoint_*.pt or a Hub id")
    if resume not in (None, "latest") and not Path(resume).is_file():
        problems.append(f"RESUME_CHECKPOINT_PATH {resume} does not exist; expected a checkpoint_*.pt file or 'latest'")
    return problems


def name_problems(settings: Values) -> list[str]:
    problems = []
    if settings.DEVICE is not None and not re.fullmatch(r"cpu|mps|cuda(:\d+)?", settings.DEVICE):
        problems.append(f"DEVICE must be cpu, cuda, cuda:N or mps, got {settings.DEVICE!r}")
    if settings.RUN_NAME is not None and not re.fullmatch(r"[\w.+-]*\w[\w.+-]*", settings.RUN_NAME):
        problems.append(f"RUN_NAME may hold letters, digits and . _ + - only, got {settings.RUN_NAME!r}")
    return problems


def hub_problems(settings: Values) -> list[str]:
    if settings.HUB_REPO_ID is None:
        return []
    from huggingface_hub import get_token  # only here: most runs upload nothing, and it takes its time to import
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    problems = []
    try:
        validate_repo_id(settings.HUB_REPO_ID)
    except HFValidationError as error:
        problems.append(f"HUB_REPO_ID is no valid repository name: {error}")
    if not (get_token() or os.environ.get("HF_TOKEN")):
        problems.append("HUB_REPO_ID is set but there is no Hub token: run `hf auth login` or set HF_TOKEN")
    return problems
