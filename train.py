"""Train an image captioner: edit config.py, then

    python train.py                                               # the drawn shapes, minutes on a CPU
    python train.py --preset flickr8k --raw-dir PATH              # real photographs
    python train.py --resume-checkpoint-path latest               # continue where the last run stopped
    python train.py --help                                        # every setting

Reads the prepared data (prepared first where needed); writes checkpoints/<run>/: checkpoint_*.pt, best/ (the captioner
to use), evaluation.json (its captions and scores on the validation split), log.jsonl and loss.png.
"""

import math
import shlex
import time
from collections.abc import Iterator
from itertools import islice

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from basics.checkpoint_file import STEP_FILE, numbered, read_checkpoint
from basics.devices import autocast
from basics.errors import UserError, run_script
from basics.files import write_atomically
from basics.settings import help_text, load_settings
from captioner.folder import load_captioner, save_captioner
from dataset import ImageTextDataset, make_loader, start_epoch, to_device
from distillation.criteria import caption_criterion
from losses.cross_entropy import CaptionLoss
from losses.self_critical import ScstLoss
from networks.decoding_options import DecodingOptions
from prepare_dataset import prepare
from publishing.hub_upload import make_uploader
from publishing.model_card import model_card
from scoring.collapse import collapse_warnings, measure_collapse
from scoring.evaluation import caption_all, evaluate_pixels, evaluation_record, json_text
from scoring.evaluation_report import format_evaluation
from sources.pictures import Pictures, spread
from tokenizer import build_tokenizer
from training.checkpoint import find_resume_path, restore, save_checkpoint
from training.feature_cache import cached_features
from training.reporting import progress_bar, report_best, report_epoch, report_utilisation
from training.run import Run, choose_folder, keep_architecture, load_origin, settings_for_resume, start_run
from training.stopping import Stopped, StopSignal
from training.tracking import setup_wandb

USAGE = "python train.py [--preset NAME] [--setting VALUE ...]"


def train_one_epoch(run: Run, loader: DataLoader, criterion, tracker, stop: StopSignal) -> dict:
    """Train from the run's position to the end of its epoch -> the epoch's record; train_loss is in nats a token.

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
        learning_rate = run.scheduler.get_last_lr()[0]  # the decoder's; the encoder may have its own
        stop_if_not_finite(run, loss_sum, norm, learning_rate)
        run.scaler.step(run.optimizer)
        run.scaler.update()
        run.scheduler.step()
        run.average.update(run.model)
        run.optimizer.zero_grad(set_to_none=True)

        # record
        progress.count(loss_sum, num_tokens, len(window))
        progress.seconds += time.perf_counter() - started  # loading included
        started = time.perf_counter()
        tracker.log_step(progress.global_step, {criterion.name: loss_sum / num_tokens, "learning_rate": learning_rate})
        bar.set_postfix({criterion.name: f"{loss_sum / num_tokens:.3f}"}, lr=f"{learning_rate:.1e}", refresh=False)
        bar.update(sum(len(batch["target_tokens"]) for batch in window))
        if settings.CHECKPOINT_EVERY_STEPS and progress.global_step % settings.CHECKPOINT_EVERY_STEPS == 0:
            save_checkpoint(run)
        stop.check()
    bar.close()
    return {
        "epoch": progress.epoch + 1,
        "global_step": progress.global_step,
        **criterion.record(progress.loss_sum / progress.num_tokens),
        "val_loss": None,
        "learning_rate": run.scheduler.get_last_lr()[0],
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


def fit(run: Run, train_loader: DataLoader, val_loader: DataLoader, tracker, uploader, stop: StopSignal) -> None:
    """Train and validate epoch by epoch until NUM_EPOCHS and SCST_EPOCHS are done or patience runs out."""
    settings, progress = run.settings, run.progress
    evaluate(run, val_loader, CaptionLoss(), stop, num_batches=2)  # what breaks here would break after a whole epoch
    last = settings.NUM_EPOCHS + settings.SCST_EPOCHS
    while progress.epoch < last and not out_of_patience(run):
        criterion = start_criterion(run, train_loader.dataset)
        record = train_one_epoch(run, train_loader, criterion, tracker, stop)
        is_best, rows = False, []
        if (progress.epoch + 1) % settings.VALIDATION_INTERVAL == 0 or progress.epoch + 1 == last:
            save_checkpoint(run)  # a stop during validation loses nothing
            with run.average.applied(run.model):
                record |= evaluate(run, val_loader, CaptionLoss(), stop)
                measures, rows = validate_captions(run, val_loader.dataset, stop)
                record |= measures
                if run.teaching:
                    taught = run.teaching.warnings(record["val_loss"], val_loader.dataset)
                    record["warnings"] = record.get("warnings", []) + taught
                is_best = progress.note_validation(record, settings.BEST_METRIC)
                if is_best:
                    card = model_card(run.model, settings, record)
                    save_captioner(run.captioner, run.folder / "best", record["epoch"], {"README.md": card})
        progress.end_epoch(record)
        if is_best:
            uploader.upload(run.folder / "best", f"Epoch {record['epoch']}, val_loss {record['val_loss']:.4f}")
        save_checkpoint(run, is_best)
        report_epoch(run, record, is_best, rows, tracker)
        if out_of_patience(run):
            print(f"no better {settings.BEST_METRIC} for {progress.validations_since_best} validations: stopping early")


def start_criterion(run: Run, dataset: ImageTextDataset):
    """Cross-entropy for NUM_EPOCHS, then self-critical training, which goes on from the averaged weights."""
    if run.progress.epoch < run.settings.NUM_EPOCHS:
        return caption_criterion(run)
    first = run.progress.history[-1]["train_loss"] is not None  # of these epochs: the one before had a loss
    if first and run.progress.batches_done == 0:
        run.average.restart(run.model)
    return ScstLoss(dataset.references, run.tokenizer, run.settings)


def out_of_patience(run: Run) -> bool:
    patience = run.settings.EARLY_STOPPING_PATIENCE
    return patience is not None and run.progress.validations_since_best >= patience


def validate_captions(run: Run, dataset: ImageTextDataset, stop: StopSignal) -> tuple[dict, list]:
    """Greedy captions of NUM_VALIDATION_CAPTIONS pictures -> collapse measures, and rows of a few to look at."""

    def read(part: list[int]) -> Tensor:
        stop.check()
        return dataset.images(part)

    settings, total = run.settings, len(dataset.names)
    numbers = spread(settings.NUM_VALIDATION_CAPTIONS, total)
    shown = spread(settings.NUM_SAMPLE_CAPTIONS, total)
    wanted = list(dict.fromkeys([*numbers, *shown]))
    if not wanted:
        return {}, []
    with autocast(run.device, run.dtype):
        found = dict(zip(wanted, caption_all(run.captioner, read, wanted, greedy(run), settings.BATCH_SIZE)))
    rows = [(dataset.path(i), found[i][0], dataset.references[i]) for i in shown]
    if not numbers:
        return {}, rows
    texts, finished = [found[i][0] for i in numbers], [found[i][1].finished for i in numbers]
    measures = measure_collapse(texts, finished, [dataset.references[i] for i in numbers])
    return measures | {"warnings": collapse_warnings(measures)}, rows


def greedy(run: Run) -> DecodingOptions:
    return DecodingOptions(max_seq_len=run.settings.MAX_SEQ_LEN)


def finish(run: Run, val_dataset: ImageTextDataset, uploader) -> None:
    """Score best/ on the validation split as evaluate.py does, complete its card."""
    best, settings = run.folder / "best", run.settings
    captioner = load_captioner(best, run.device)
    options = DecodingOptions(settings.MAX_SEQ_LEN, settings.BEAM_SIZE, length_penalty=settings.LENGTH_PENALTY)
    pictures = Pictures("val", [val_dataset.path(i) for i in range(len(val_dataset.names))], val_dataset.references, [])

    def read(numbers: list[int]) -> Tensor:
        return val_dataset.pixels(numbers, [0] * len(numbers))  # not cached features, which are rounded

    evaluation = evaluate_pixels(captioner, read, pictures, options, run.dtype, str(best))
    results = evaluation_record(evaluation)
    write_atomically(run.folder / "evaluation.json", json_text(results))
    record = run.progress.history[run.progress.best_epoch - 1]
    findings = run.teaching.findings if run.teaching else None
    write_atomically(best / "README.md", model_card(captioner.model, settings, record, results, findings))
    uploader.upload(best, "Model card with the final numbers")
    print(format_evaluation(evaluation))


def main(argv: list[str]) -> int | None:
    if "--help" in argv or "-h" in argv:
        print(help_text(USAGE))
        return 0
    settings = load_settings(argv)
    resume = find_resume_path(settings)
    checkpoint = read_checkpoint(resume) if resume else None
    if checkpoint:
        settings = settings_for_resume(settings, checkpoint, resume)
    origin = load_origin(settings, checkpoint, resume)
    if origin:
        settings = keep_architecture(settings, origin.config["settings"])
    folder = choose_folder(settings, resume, checkpoint)

    data = prepare(settings)
    captions = data.captions_of("train")
    tokenizer = origin.tokenizer if origin else build_tokenizer(settings, captions)
    run = start_run(settings, tokenizer, len(captions), folder, origin)
    del origin  # the run has a copy of its decoder
    train_set, val_set = (ImageTextDataset(data, s, tokenizer, run.image_processor, settings) for s in ("train", "val"))
    if settings.CACHE_FEATURES:
        for dataset in (train_set, val_set):
            dataset.features = cached_features(
                run.model.encoder, run.image_processor, dataset, settings, run.device, run.dtype
            )
    train_loader = make_loader(train_set, settings, tokenizer.pad_id, shuffle=True)
    val_loader = make_loader(val_set, settings, tokenizer.pad_id, shuffle=False)
    if settings.DISTILL == "git":
        from distillation.setup import prepare_teaching  # takes its time to import

        run.teaching = prepare_teaching(run, train_set, val_set)
    if checkpoint:
        restore(run, checkpoint, resume)

    uploader = make_uploader(settings)
    try:
        with setup_wandb(settings, folder) as tracker, StopSignal() as stop:
            before = run.progress.epoch  # epochs that another process, perhaps on another machine, has trained
            fit(run, train_loader, val_loader, tracker, uploader, stop)
        finish(run, val_set, uploader)
        report_utilisation(run, train_loader, run.progress.history[before:])
        report_best(run, val_set.path(0))
    except Stopped as signal_name:
        path = save_checkpoint(run)
        print(
            f"stopped by {signal_name} at step {run.progress.global_step:,}; continue with\n"
            f"    python train.py {shlex.join([*argv, '--resume-checkpoint-path', str(path)])}"
        )
    finally:
        print(uploader.close(), end="")
    return 0


if __name__ == "__main__":
    run_script(main)
