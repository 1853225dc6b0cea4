"""Go on where a run was stopped, or branch off from it: which checkpoint, which folder, whose settings.

resumed = find_resumed(settings, processes)           # None for a fresh run
settings = settings_for_resume(settings, resumed)     # the checkpoint's architecture, today's other settings
folder = run_folder(settings, resumed)
with run_of(folder, resumed, processes): ...          # which no other run may change
"""

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import torch

from basics.checkpoint_file import STEP_FILE, numbered, read_checkpoint
from basics.errors import UserError
from basics.launched import launched
from basics.locks import locked
from basics.setting_rules import classification_problems
from basics.settings import ARCHITECTURE, Settings, SettingsError
from captioner.folder import description_in, trained_weights
from captioner.rebuilt import check_description
from classifier.folder import check_checkpoint
from networks.attention import measure_attention
from networks.encoder import Encoder, ImageProcessor, example_pixels
from training.processes import Processes

IN_THE_MIDDLE = ("BATCH_SIZE", "GROUP_CAPTIONS", "SEED", "GRADIENT_ACCUMULATION_STEPS")  # decide what a position means
KEPT = (*ARCHITECTURE, "FINETUNE_FROM", "TASK")  # of a run that goes on


@dataclass(frozen=True)
class Resumed:
    """The checkpoint that a run goes on from, and its content."""

    path: Path
    checkpoint: dict


def find_resumed(settings: Settings, processes: Processes) -> Resumed | None:
    """Raises UserError where RESUME_CHECKPOINT_PATH names no checkpoint that can be used."""
    restarts = max(processes.gather(launched().restarts))  # of machines only that of the lost process counts
    path = processes.from_main(find_resume_path(after_restart(settings, restarts)) if processes.is_main else None)
    if path is None:
        return None
    checkpoint = read_checkpoint(path)
    if "encoder_files" in checkpoint:  # of a captioner, which is built as its settings say
        check_description(path, description_in(checkpoint), trained_weights(checkpoint))
    elif "classifier" in checkpoint:
        check_checkpoint(checkpoint, path)
    return Resumed(path, checkpoint)


def find_resume_path(settings: Settings) -> Path | None:
    """The file RESUME_CHECKPOINT_PATH means: None, itself, or the newest step of RUN_NAME or of the newest run."""
    resume = settings.RESUME_CHECKPOINT_PATH
    if resume is None:
        return None
    if resume != "latest":
        return Path(resume)
    parent = Path(settings.CHECKPOINT_DIR)
    folders = [parent / settings.RUN_NAME] if settings.RUN_NAME else [p for p in parent.glob("*") if p.is_dir()]
    newest = [files[-1] for folder in folders if (files := numbered(folder, STEP_FILE))]
    if not newest:
        where = folders[0] if settings.RUN_NAME else parent
        raise UserError(
            f"RESUME_CHECKPOINT_PATH is 'latest', but {where} holds no checkpoint_step_*.pt; "
            "start without it, or name a file"
        )
    return max(newest, key=lambda path: path.stat().st_mtime)


def after_restart(settings: Settings, restarts: int) -> Settings:
    """Where torchrun has started all processes again, the run goes on from its latest checkpoint, if it has one.

    Raises UserError where a restart could not find it.
    """
    most = launched().most_restarts
    if most and settings.RUN_NAME is None:
        raise UserError("torchrun --max-restarts needs a --run-name, by which a restart finds its checkpoints")
    if not restarts or not numbered(Path(settings.CHECKPOINT_DIR) / str(settings.RUN_NAME), STEP_FILE):
        return settings
    print(f"restart      {restarts} of at most {most}")
    return settings.replace(RESUME_CHECKPOINT_PATH="latest")


@contextlib.contextmanager
def run_of(folder: Path, resumed: Resumed | None, processes: Processes) -> Iterator[None]:
    """Within, the folder is this run's alone. Raises UserError where it cannot be, or not all processes see it."""
    lock = locked(folder / "run.lock", otherwise="take another --run-name, or wait for its end")
    with lock if processes.is_main else contextlib.nullcontext():
        if processes.is_main:
            check_folder(folder, resumed)
        processes.wait()
        if not folder.is_dir():
            raise UserError(
                f"{folder} is not there for process {processes.share.index} on {socket.gethostname()}; CHECKPOINT_DIR "
                "must be on a disk that all machines see"
            )
        yield


def run_folder(settings: Settings, resumed: Resumed | None) -> Path:
    """That of RUN_NAME, of the checkpoint, or one named by the time."""
    name = settings.RUN_NAME or f"{settings.DATASET}-{datetime.now():%Y%m%d-%H%M%S}"
    return resumed.path.parent if resumed and settings.RUN_NAME is None else Path(settings.CHECKPOINT_DIR) / name


def check_folder(folder: Path, resumed: Resumed | None) -> None:
    """Raises UserError where an older run's files would be overwritten."""
    steps = numbered(folder, STEP_FILE)
    if resumed and folder.resolve() == resumed.path.parent.resolve():
        if steps and number_of(steps[-1]) > resumed.checkpoint["global_step"]:
            raise UserError(
                f"{folder} goes on after {resumed.path.name} ({steps[-1].name}); resume the latest, or branch off "
                "with another --run-name"
            )
        return
    there = [*steps, *folder.glob("log.jsonl")]
    if resumed is None:  # a branch that came to nothing has left the best/ it brought along
        there += folder.glob("best")
    if there:
        raise UserError(
            f"{folder} already holds a run ({there[0].name}); take another --run-name, or continue it with "
            "--resume-checkpoint-path latest if it has checkpoints"
        )


def number_of(path: Path) -> int:
    return int(path.stem.removeprefix("checkpoint_step_"))


def settings_for_resume(settings: Settings, resumed: Resumed) -> Settings:
    """The checkpoint's architecture, today's other settings; every difference is printed."""
    path, checkpoint = resumed.path, resumed.checkpoint
    old = checkpoint["config"]
    if settings.NUM_EPOCHS == "auto":  # as it was decided when the run began
        settings = settings.replace(NUM_EPOCHS=old["NUM_EPOCHS"])
    changed = {name: old[name] for name in settings.to_dict() if name in old and old[name] != getattr(settings, name)}
    changed.pop("RESUME_CHECKPOINT_PATH", None)
    in_the_middle = checkpoint["progress"]["batches_done"] > 0
    for name in IN_THE_MIDDLE:
        if in_the_middle and name in changed:
            raise UserError(
                f"{path} stops in the middle of an epoch, where {name} must stay {old[name]} "
                f"(now {getattr(settings, name)}); change it at the end of an epoch"
            )
    phases = [checkpoint["epoch"] < epochs for epochs in (old["NUM_EPOCHS"], settings.NUM_EPOCHS)]
    if in_the_middle and settings.NUM_EPOCHS <= checkpoint["epoch"] and not settings.SCST_EPOCHS:
        raise UserError(
            f"{path} stops in the middle of epoch {checkpoint['epoch'] + 1}, which NUM_EPOCHS {settings.NUM_EPOCHS} "
            f"leaves out; go on to its end with {checkpoint['epoch'] + 1} or more"
        )
    if in_the_middle and phases[0] != phases[1]:
        raise UserError(
            f"{path} stops in the middle of epoch {checkpoint['epoch'] + 1}, which NUM_EPOCHS {settings.NUM_EPOCHS} "
            f"would move across the start of self-critical training; keep {old['NUM_EPOCHS']} until its end"
        )
    print(f"resume       {path} (epoch {checkpoint['epoch'] + 1}, step {checkpoint['global_step']:,})")
    for name, value in changed.items():
        if name not in KEPT:
            print(f"             {name} is now {getattr(settings, name)!r}, was {value!r}")
    kept = keep_architecture(settings, old, KEPT)
    if problems := classification_problems(kept):  # of the TASK that it brings
        raise SettingsError(problems)
    return kept


def keep_architecture(settings: Settings, old: dict, names: tuple[str, ...] = ARCHITECTURE) -> Settings:
    """The settings with what the old ones say of the model's shape and its tokens; every difference is printed."""
    kept = {name: old[name] for name in names if name in old and old[name] != getattr(settings, name)}
    for name, value in kept.items():
        print(f"             {name} stays {value!r} as it was trained, not {getattr(settings, name)!r}")
    return settings.replace(**kept)


def settle_attention(
    encoder: Encoder, image_processor: ImageProcessor, dtype: torch.dtype, resumed: Resumed | None, processes: Processes
) -> None:
    """A run computes as it did before; a new one in all processes with what the first has measured."""
    if resumed:
        encoder.attention = resumed.checkpoint.get("attention", {})
        return
    pixels = example_pixels(image_processor).to(next(encoder.parameters()).device)
    found = measure_attention(encoder, pixels, dtype) if processes.is_main else {}
    encoder.attention = processes.from_main(found)
