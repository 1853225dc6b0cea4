"""Train an image captioner: edit config.py, then

    python train.py                                               # the drawn shapes, minutes on a CPU
    python train.py --preset flickr8k --raw-dir PATH              # real photographs
    python train.py --resume-checkpoint-path latest               # continue where the last run stopped
    python train.py --help                                        # every setting

Reads the prepared data (prepared first where needed); writes checkpoints/<run>/: checkpoint_*.pt, best/ (the captioner
to use), log.jsonl and loss.png.
"""

import math
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from bundle import Captioner, load_captioner, save_captioner
from checkpoint import STEP_FILE, find_resume_path, numbered, read_checkpoint, restore, save_checkpoint
from dataset import ImageTextDataset, make_loader, start_epoch
from decoding import DecodingOptions
from errors import UserError, run_script
from files import write_atomically
from hub import make_uploader
from loss import CaptionLoss
from model_card import model_card
from optimization import autocast
from prepare_dataset import prepare
from run import Run, choose_folder, settings_for_resume, start_run
from settings import Settings, help_text, load_settings
from stopping import Stopped, StopSignal
from tokenizer import CaptionTokenizer, build_tokenizer
from tracking import plot_losses, setup_wandb, write_log

USAGE = "python train.py [--preset NAME] [--setting VALUE ...]"


def train_one_epoch(run: Run, loader: DataLoader, criterion, tracker, stop: StopSignal) -> dict:
    """Train from the run's position to the end of its epoch -> the epoch's record, train_loss in nats a token.

    Raises Stopped between two steps, UserError when the loss is no longer finite.
    """
    settings, progress = run.settings, run.progress
    start_epoch(loader, progress.epoch, progress.batches_done)
    run.model.train()
    bar = progress_bar(run, loader)
    started = time.perf_counter()
    for window in windows(loader, settings.GRADIENT_ACCUMULATION_STEPS):
        # forward and backward: the mean over all tokens of the window, whatever its batches hold
        num_tokens = sum(int(batch["target_mask"].sum()) for batch in window)
        loss_sum = 0.0
        for batch in window:
            with autocast(run.device, run.dtype):
                loss, _ = criterion(run.model, to_device(batch, run.device))
            run.scaler.scale(loss / num_tokens).backward()
            loss_sum += loss.item()

        # clip and step
        run.scaler.unscale_(run.optimizer)
        limit = settings.GRADIENT_CLIP_NORM or math.inf
        norm = nn.utils.clip_grad_norm_((p for p in run.model.parameters() if p.grad is not None), limit).item()
        learning_rate = run.scheduler.get_last_lr()[-1]
        stop_if_not_finite(run, loss_sum, norm, learning_rate)
        run.scaler.step(run.optimizer)
        run.scaler.update()
        run.scheduler.step()
        run.optimizer.zero_grad(set_to_none=True)

        # record
        progress.count(loss_sum, num_tokens, len(window))
        progress.seconds += time.perf_counter() - started  # loading included
        started = time.perf_counter()
        tracker.log_step(progress.global_step, loss_sum / num_tokens, learning_rate)
        bar.set_postfix(loss=f"{loss_sum / num_tokens:.3f}", lr=f"{learning_rate:.1e}", refresh=False)
        bar.update(sum(len(batch["target_tokens"]) for batch in window))
        if settings.CHECKPOINT_EVERY_STEPS and progress.global_step % settings.CHECKPOINT_EVERY_STEPS == 0:
            save_checkpoint(run)
        stop.check()
    bar.close()
    return {
        "epoch": progress.epoch + 1,
        "global_step": progress.global_step,
        "train_loss": progress.loss_sum / progress.num_tokens,
        "val_loss": None,
        "learning_rate": run.scheduler.get_last_lr()[-1],
        "seconds": round(progress.seconds, 1),
        "examples_per_second": round(progress.num_pairs / progress.seconds, 1),
    }


@torch.inference_mode()
def evaluate(run: Run, loader: DataLoader, criterion, stop: StopSignal, num_batches: int | None = None) -> dict:
    """Mean validation loss, each token weighing the same -> {"val_loss"} in nats a token; restores train mode."""
    was_training = run.model.training
    run.model.eval()
    start_epoch(loader, 0, 0)
    loss_sum, num_tokens = 0.0, 0
    for batch in islice(loader, num_batches):
        stop.check()
        with autocast(run.device, run.dtype):
            loss, count = criterion(run.model, to_device(batch, run.device))
        loss_sum, num_tokens = loss_sum + loss.item(), num_tokens + count
    run.model.train(was_training)
    return {"val_loss": loss_sum / num_tokens}


def windows(loader: DataLoader, size: int) -> Iterator[list[dict]]:
    """The batches of each optimizer step; the last step of an epoch may have fewer."""
    batches = iter(loader)
    while window := list(islice(batches, size)):
        yield window


def to_device(batch: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}


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


def progress_bar(run: Run, loader: DataLoader) -> tqdm:
    total, done = len(loader.dataset), run.progress.batches_done * run.settings.BATCH_SIZE
    quiet = 0.2 if sys.stderr.isatty() else 30  # seconds between updates: a log file is not a screen
    return tqdm(
        total=total, initial=min(done, total), unit=" examples", leave=False, dynamic_ncols=True,
        desc=f"epoch {run.progress.epoch + 1}/{run.settings.NUM_EPOCHS}", mininterval=quiet, delay=quiet,
    )  # fmt: skip


def fit(run: Run, train_loader: DataLoader, val_loader: DataLoader, tracker, uploader, stop: StopSignal) -> None:
    """Train and validate epoch by epoch until NUM_EPOCHS or until patience runs out."""
    settings, progress = run.settings, run.progress
    criterion, val_criterion = CaptionLoss(settings.LABEL_SMOOTHING), CaptionLoss()
    evaluate(run, val_loader, val_criterion, stop, num_batches=2)  # what breaks here would break after a whole epoch
    while progress.epoch < settings.NUM_EPOCHS and not out_of_patience(run):
        record = train_one_epoch(run, train_loader, criterion, tracker, stop)
        is_best = False
        if (progress.epoch + 1) % settings.VALIDATION_INTERVAL == 0 or progress.epoch + 1 == settings.NUM_EPOCHS:
            save_checkpoint(run)  # a stop during validation loses nothing
            record |= evaluate(run, val_loader, val_criterion, stop)
            is_best = progress.note_validation(record["val_loss"])
        progress.end_epoch(record)
        if is_best:
            save_captioner(run.captioner, run.folder / "best", settings, record)
            uploader.upload(run.folder / "best", f"Epoch {record['epoch']}, val_loss {record['val_loss']:.4f}")
        save_checkpoint(run, is_best)
        report_epoch(run, record, is_best, val_loader.dataset, tracker)


def out_of_patience(run: Run) -> bool:
    patience = run.settings.EARLY_STOPPING_PATIENCE
    return patience is not None and run.progress.validations_since_best >= patience


def report_epoch(run: Run, record: dict, is_best: bool, val_dataset: ImageTextDataset, tracker) -> None:
    write_log(run.folder / "log.jsonl", run.progress.history)
    plot_losses(run.folder / "loss.png", run.progress.history)
    tracker.log_epoch(record, record["global_step"])
    validated = record["val_loss"] is not None
    print(
        f"epoch {record['epoch']:>3}/{run.settings.NUM_EPOCHS}  train_loss {record['train_loss']:.4f}"
        + (f"  val_loss {record['val_loss']:.4f}{' best' if is_best else '     '}" if validated else "")
        + f"  lr {record['learning_rate']:.1e}  {record['examples_per_second']:,.0f} examples/s"
        f"  {timedelta(seconds=round(record['seconds']))}"
    )
    if validated and run.settings.NUM_SAMPLE_CAPTIONS:
        rows = sample_captions(run, val_dataset)
        for path, caption, references in rows:
            print(f"    {path.name[:28]:<28}  {caption}\n    {'':<28}  reference: {references[0]}")
        tracker.log_captions(rows, record["global_step"])
    if out_of_patience(run):
        print(f"no better val_loss for {run.progress.validations_since_best} validations: stopping early")


def sample_captions(run: Run, dataset: ImageTextDataset) -> list[tuple[Path, str, list[str]]]:
    """Greedy captions of the same few pictures each time, spread over the split: (path, caption, references)."""
    count = min(run.settings.NUM_SAMPLE_CAPTIONS, len(dataset.names))
    numbers = [i * len(dataset.names) // count for i in range(count)]
    captions = greedy_captions(run.captioner, dataset, numbers, run.settings)
    return [(dataset.path(i), caption, dataset.references[i]) for i, caption in zip(numbers, captions)]


def greedy_captions(
    captioner: Captioner, dataset: ImageTextDataset, numbers: list[int], settings: Settings
) -> list[str]:
    options = DecodingOptions(max_seq_len=settings.MAX_SEQ_LEN)
    captions = []
    for start in range(0, len(numbers), settings.BATCH_SIZE):
        pixels = dataset.pixels(numbers[start : start + settings.BATCH_SIZE])
        captions += [row[0][0] for row in captioner.caption_pixels(pixels, options)]
    return captions


def finish(run: Run, val_dataset: ImageTextDataset, uploader) -> None:
    """Use what was made: caption validation pictures with best/, complete its card, say what to type next."""
    best, count = run.folder / "best", min(run.settings.NUM_EXACT_CAPTIONS, len(val_dataset.names))
    if count:
        captioner = load_captioner(best, run.device)
        captions = greedy_captions(captioner, val_dataset, list(range(count)), run.settings)
        exact = sum(is_exact(captions[i], val_dataset.references[i], run.tokenizer) for i in range(count))
        print(f"exact        {exact} of {count} greedy validation captions ({exact / count:.1%}) equal a reference")
        record = run.progress.history[run.progress.best_epoch - 1] | {"exact": exact, "captioned": count}
        write_atomically(best / "README.md", model_card(captioner.model, run.settings, record))
        uploader.upload(best, "Model card with the final numbers")
    print(f"best         epoch {run.progress.best_epoch}, val_loss {run.progress.best_val_loss:.4f}: {best}")
    print(f"next         python inference.py {val_dataset.path(0)} --checkpoint {best}")


def is_exact(caption: str, references: list[str], tokenizer: CaptionTokenizer) -> bool:
    return caption in [tokenizer.decode(tokenizer.encode(reference)) for reference in references]


def main(argv: list[str]) -> int | None:
    if "--help" in argv or "-h" in argv:
        print(help_text(USAGE))
        return 0
    settings = load_settings(argv)
    resume = find_resume_path(settings)
    checkpoint = read_checkpoint(resume) if resume else None
    if checkpoint:
        settings = settings_for_resume(settings, checkpoint, resume)
    folder = choose_folder(settings, resume, checkpoint)

    data = prepare(settings)
    captions = data.captions_of("train")
    tokenizer = build_tokenizer(settings, captions)
    run = start_run(settings, tokenizer, len(captions), folder)
    train_set, val_set = (ImageTextDataset(data, s, tokenizer, run.image_processor, settings) for s in ("train", "val"))
    train_loader = make_loader(train_set, settings, tokenizer.pad_id, shuffle=True)
    val_loader = make_loader(val_set, settings, tokenizer.pad_id, shuffle=False)
    if checkpoint:
        restore(run, checkpoint, resume)

    uploader = make_uploader(settings)
    try:
        with setup_wandb(settings, folder) as tracker, StopSignal() as stop:
            fit(run, train_loader, val_loader, tracker, uploader, stop)
        finish(run, val_set, uploader)
    except Stopped as signal_name:
        path = save_checkpoint(run)
        print(
            f"stopped by {signal_name} at step {run.progress.global_step:,}; continue with\n"
            f"    python train.py {' '.join(argv)} --resume-checkpoint-path {path}"
        )
    finally:
        print(uploader.close(), end="")
    return 0


if __name__ == "__main__":
    run_script(main)
