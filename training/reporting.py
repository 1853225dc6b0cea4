"""What a run says while it goes: a progress bar, one line an epoch, a few captions, the collapse alarm."""

import sys
from datetime import timedelta
from pathlib import Path

from torch.utils.data import DataLoader
from tqdm import tqdm

from scoring.collapse import format_collapse
from training.run import Run
from training.tracking import plot_losses, write_log
from training.utilisation import matmul_peak, pair_flops


def progress_bar(run: Run, loader: DataLoader) -> tqdm:
    total, done = len(loader.dataset), run.progress.batches_done * run.settings.BATCH_SIZE
    quiet = 0.2 if sys.stderr.isatty() else 30  # seconds between updates: a log file is not a screen
    return tqdm(
        total=total,
        initial=min(done, total),
        unit=" examples",
        leave=False,
        dynamic_ncols=True,
        desc=f"epoch {run.progress.epoch + 1}/{last_epoch(run)}",
        mininterval=quiet,
        delay=quiet,
    )


def last_epoch(run: Run) -> int:
    return run.settings.NUM_EPOCHS + run.settings.SCST_EPOCHS


def report_epoch(run: Run, record: dict, is_best: bool, rows: list[tuple[Path, str, list[str]]], tracker) -> None:
    """Write log.jsonl and loss.png, tell the tracker, print; rows: pictures, captions, references."""
    write_log(run.folder / "log.jsonl", run.progress.history)
    plot_losses(run.folder / "loss.png", run.progress.history)
    tracker.log_epoch(record, record["global_step"])
    tracker.warn(record.get("warnings", []))
    validated = record["val_loss"] is not None
    print(
        f"epoch {record['epoch']:>3}/{last_epoch(run)}  {progress_made(record)}"
        + (f"  val_loss {record['val_loss']:.4f}{' best' if is_best else '     '}" if validated else "")
        + f"  lr {record['learning_rate']:.1e}  {record['examples_per_second']:,.0f} examples/s"
        f"  {timedelta(seconds=round(record['seconds']))}"
    )
    if "distinct" in record:
        print(f"    {format_collapse(record)}")
    for warning in record.get("warnings", []):
        print(f"    warning: {warning}")
    for path, caption, references in rows:
        print(f"    {path.name[:28]:<28}  {caption}\n    {'':<28}  reference: {references[0]}")
    if rows:
        tracker.log_captions(rows, record["global_step"])


def progress_made(record: dict) -> str:
    if record["train_loss"] is None:
        return f"train_reward {record['train_reward']:.4f}"
    return f"train_loss {record['train_loss']:.4f}"


def report_utilisation(run: Run, loader: DataLoader, records: list[dict]) -> None:
    """Say what share of the machine's speed in matrix products the last of these epochs of cross-entropy used."""
    speeds = [record["examples_per_second"] for record in records if record["train_loss"] is not None]
    if not speeds:
        return
    done, peak = speeds[-1] * pair_flops(run, loader), matmul_peak(run.device, run.dtype)
    print(
        f"utilisation  {done / peak:.0%} of the machine's matrix products in {str(run.dtype).removeprefix('torch.')}: "
        f"{done / 1e9:,.0f} of {peak / 1e9:,.0f} GFLOP/s at {speeds[-1]:,.0f} examples/s"
    )


def report_best(run: Run, picture: Path) -> None:
    """Say where the captioner is and what to type next."""
    best = run.folder / "best"
    print(f"best         epoch {run.progress.best_epoch}, val_loss {run.progress.best_val_loss:.4f}: {best}")
    print(f"next         python inference.py {picture} --checkpoint {best}")
