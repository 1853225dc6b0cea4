"""Train an image captioner, or a classifier (--task classify): edit config.py, then

    python train.py                                               # the drawn shapes, minutes on a CPU
    python train.py --preset flickr8k --raw-dir PATH              # real photographs
    python train.py --resume-checkpoint-path latest               # continue where the last run stopped
    python train.py --help                                        # every setting

Reads the prepared data (prepared first where needed); writes checkpoints/<run>/: checkpoint_*.pt, best/ (the model to
use), evaluation.json (what best/ says of the validation split, and its scores), log.jsonl and loss.png.
"""

import basics.starting  # noqa: F401  # first of all: for the seconds that the others take

# isort: split
import math
import shlex
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch

from basics.checkpoint_file import STEP_FILE, numbered
from basics.devices import Batch, autocast, to_device
from basics.errors import UserError, run_script
from basics.launched import launched
from basics.setting_effects import without_effect
from basics.settings import Settings, help_text, settings_and_given
from losses.criterion import Criterion
from publishing.hub_upload import NoUpload, make_uploader
from sources.source import Source
from tasks.registry import build_task
from training.checkpoint import check_room, restore, save_checkpoint
from training.joining import joined
from training.optimizer import clip_gradients
from training.processes import Processes
from training.reporting import advance, epoch_bar, report_end, report_epoch, report_utilisation
from training.resume import Resumed, find_resumed, run_folder, run_of, settings_for_resume
from training.run import Run, Validation, start_run
from training.stopping import Stopped, StopSignal
from training.tracking import Tracker, setup_wandb

USAGE = "python train.py [--preset NAME] [--setting VALUE ...]"


def train_one_epoch(run: Run, criterion: Criterion, tracker: Tracker, stop: StopSignal) -> dict:
    """Train from the run's position to the end of its epoch -> the epoch's record; train_loss is in nats a target.

    Raises Stopped between two steps, UserError when the loss is no longer finite.
    """
    settings, progress, processes = run.settings, run.progress, run.processes
    batches = run.task.train.batches(progress.epoch, progress.batches_done)
    run.model.train()
    bar = epoch_bar(run)
    started = time.perf_counter()
    for window in windows(batches, settings.GRADIENT_ACCUMULATION_STEPS):
        # forward and backward: the mean over all targets of the window, whatever its batches hold
        num_targets = processes.sum(sum(criterion.count(batch) for batch in window))
        loss_sum = 0.0
        for batch in window:
            with autocast(run.device, run.dtype):
                loss, _ = criterion(run.parallel_model, to_device(batch, run.device))
            # times the processes, over which gradients are averaged
            run.scaler.scale(loss * processes.share.count / num_targets).backward()
            loss_sum += loss.item()
        loss_sum = processes.sum(loss_sum)

        # clip and step
        run.scaler.unscale_(run.optimizer)
        norm = clip_gradients(run.model, settings.GRADIENT_CLIP_NORM or math.inf)
        learning_rate = float(run.scheduler.get_last_lr()[0])  # of what reads the encoder, which may have its own
        stop_if_not_finite(run, loss_sum, norm, learning_rate)
        run.scaler.step(run.optimizer)
        run.scaler.update()
        run.scheduler.step()
        run.average.update(run.model)
        run.optimizer.zero_grad(set_to_none=True)

        # record
        progress.count(loss_sum, num_targets, len(window))
        progress.seconds += time.perf_counter() - started  # loading included
        started = time.perf_counter()
        mean = loss_sum / num_targets
        tracker.log_step(progress.global_step, {criterion.name: mean, "learning_rate": learning_rate})
        advance(bar, run, criterion.name, mean, learning_rate)
        if settings.CHECKPOINT_EVERY_STEPS and progress.global_step % settings.CHECKPOINT_EVERY_STEPS == 0:
            save_checkpoint(run)
        stop.check()
    bar.close()
    return {
        "epoch": progress.epoch + 1,
        "global_step": progress.global_step,
        **criterion.record(progress.loss_sum / progress.num_tokens),
        "val_loss": None,
        "learning_rate": float(run.scheduler.get_last_lr()[0]),
        "seconds": round(progress.seconds, 1),
        "examples_per_second": round(progress.num_pairs / progress.seconds, 1),
    }


@torch.inference_mode()
def evaluate(
    run: Run, source: Source, criterion: Criterion, stop: StopSignal, num_batches: int | None = None
) -> dict[str, float]:
    """Mean validation loss, each target weighing the same -> {"val_loss"} in nats a target; restores train mode."""
    was_training = run.model.training
    run.model.eval()
    loss_sum, num_targets = 0.0, 0
    for batch in islice(source.batches(), num_batches):
        stop.check()
        with autocast(run.device, run.dtype):
            loss, count = criterion(run.model, to_device(batch, run.device))
        loss_sum, num_targets = loss_sum + loss.item(), num_targets + count
    run.model.train(was_training)
    return {"val_loss": run.processes.sum(loss_sum) / run.processes.sum(num_targets)}


def windows(batches: Iterator[Batch], size: int) -> Iterator[list[Batch]]:
    """The batches of each optimizer step; the last step of an epoch may have fewer."""
    while window := list(islice(batches, size)):
        yield window


def stop_if_not_finite(run: Run, loss_sum: float, norm: float, learning_rate: float) -> None:
    """Checked before the step, so no checkpoint holds broken weights. The fp16 scaler handles its own overflows."""
    if math.isfinite(loss_sum) and (math.isfinite(norm) or run.scaler.is_enabled()):
        return
    what = "the loss" if not math.isfinite(loss_sum) else "the gradient"
    good = numbered(run.folder, STEP_FILE)
    raise UserError(
        f"{what} is no longer finite at step {run.progress.global_step + 1} (epoch {run.progress.epoch + 1}), learning "
        f"rate {learning_rate:.2e}; last good checkpoint: {good[-1] if good else 'none yet'}. Try a lower "
        "LEARNING_RATE, more WARMUP_STEPS or PRECISION fp32"
    )


def fit(run: Run, tracker: Tracker, uploader: NoUpload, stop: StopSignal) -> None:
    """Train and validate epoch by epoch until all are done or patience runs out."""
    task, progress, settings = run.task, run.progress, run.settings
    evaluate(run, task.val, task.val_criterion, stop, num_batches=2)  # what breaks here would break after an epoch
    while progress.epoch < task.num_epochs and not out_of_patience(run):
        record, found, is_best = train_one_epoch(run, task.criterion(run), tracker, stop), Validation(), False
        if record["epoch"] % settings.VALIDATION_INTERVAL == 0 or record["epoch"] == task.num_epochs:
            save_checkpoint(run)  # a stop during validation loses nothing
            found, is_best = validate(run, record, stop)
        progress.end_epoch(record)
        if is_best:
            uploader.upload(run.best, f"Epoch {record['epoch']}, val_loss {record['val_loss']:.4f}")
        save_checkpoint(run, is_best)
        report_epoch(run, record, is_best, found, tracker)
        if out_of_patience(run):
            print(f"no better {settings.BEST_METRIC} for {progress.validations_since_best} validations: stopping early")
    if not progress.best_epoch:  # a branch without epochs of its own, whose source has a best/ of later ones
        validate(run, progress.history[-1], stop)
        save_checkpoint(run)


def validate(run: Run, record: dict, stop: StopSignal) -> tuple[Validation, bool]:
    """Complete the epoch's record with the averaged weights -> what was found, and whether they are the new best/."""
    task = run.task
    with run.average.applied(run.model):
        record |= evaluate(run, task.val, task.val_criterion, stop)
        found = task.validate(run, record, stop)
        record |= found.record
        is_best = run.progress.note_validation(record, run.settings.BEST_METRIC)
        if is_best:
            task.save_best(run, record)
    return found, is_best


def out_of_patience(run: Run) -> bool:
    patience = run.settings.EARLY_STOPPING_PATIENCE
    return patience is not None and run.progress.validations_since_best >= patience


def main(argv: list[str]) -> int:
    if "--help" in argv or "-h" in argv:
        print(help_text(USAGE))
        return 0
    with joined() as processes:
        settings, given = settings_and_given(argv)
        for line in without_effect(settings, given):
            print(f"note         {line}")
        processes.check(settings)
        resumed = find_resumed(settings, processes)
        if resumed:
            settings = settings_for_resume(settings, resumed)
        folder = processes.from_main(run_folder(settings, resumed))
        with run_of(folder, resumed, processes):
            train(settings, folder, resumed, processes, argv)
    return 0


def train(settings: Settings, folder: Path, resumed: Resumed | None, processes: Processes, argv: list[str]) -> None:
    """A run from its start, or from where the checkpoint left off, to its end or a stop signal."""
    task = build_task(settings, resumed, processes)  # source, tokenizer, model, loaders
    run = start_run(task, folder, processes)
    if resumed:
        restore(run, resumed)
    check_room(run)

    uploader = make_uploader(settings) if processes.is_main else NoUpload()
    try:
        with (
            setup_wandb(run.settings, folder) if processes.is_main else Tracker() as tracker,
            StopSignal(run.processes) as stop,
        ):
            before = run.progress.epoch  # epochs that another process, perhaps on another machine, has trained
            try:
                fit(run, tracker, uploader, stop)
            except Stopped as signal_name:
                save_and_say(run, str(signal_name), argv)
                return
        next_command = task.finish(run)
        uploader.upload(run.best, "Model card with the final numbers")
        report_utilisation(run, run.progress.history[before:])
        report_end(run, next_command)
    finally:
        print(uploader.close(), end="")


def save_and_say(run: Run, signal_name: str, argv: list[str]) -> None:
    """Before anything is sent: who stops a run may not wait for long."""
    path = save_checkpoint(run)
    print(
        f"stopped by {signal_name} at step {run.progress.global_step:,}; continue with\n"
        f"    {launched().command} train.py {shlex.join([*argv, '--resume-checkpoint-path', str(path)])}"
    )


if __name__ == "__main__":
    run_script(main)
