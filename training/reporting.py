"""What a run says while it goes: a progress bar, one line an epoch, warnings, a few samples, the end."""

import shlex
from datetime import timedelta
from pathlib import Path

import torch
import transformers
from tqdm import tqdm

from basics.disk import size
from basics.memory import own_memory
from basics.progress_bar import progress_bar
from training.run import Run, Validation
from training.tracking import Tracker, plot_losses, write_log
from training.utilisation import example_flops, matmul_peak

SCORES = {"val_loss": "val_loss {:.4f}", "cider": "CIDEr-D {:.3f}", "top1": "top-1 {:.1%}"}  # by BEST_METRIC


def print_device(device: torch.device, dtype: torch.dtype) -> None:
    """What computes: a record of a run without it explains nothing."""
    print(
        f"device       {device}, {str(dtype).removeprefix('torch.')}, torch {torch.__version__}, transformers "
        f"{transformers.__version__}"
    )
    if device.type == "cpu" and dtype == torch.float16:
        print("note         PRECISION fp16 is slower than fp32 on a CPU; bf16 is faster where the CPU has it")


def epoch_bar(run: Run) -> tqdm:
    """Of the epoch's examples; advance() moves it to where the run stands."""
    return progress_bar(
        total=run.task.train.num_examples,
        initial=examples_done(run),
        unit=" examples",
        desc=f"epoch {run.progress.epoch + 1}/{run.task.num_epochs}",
        interval=0.2,
    )


def advance(bar: tqdm, run: Run, loss_name: str, loss: float, learning_rate: float) -> None:
    bar.set_postfix({loss_name: f"{loss:.3f}"}, lr=f"{learning_rate:.1e}", refresh=False)
    bar.update(examples_done(run) - bar.n)


def examples_done(run: Run) -> int:
    source = run.task.train
    return min(run.progress.batches_done * source.batch_size, source.num_examples)


def report_epoch(run: Run, record: dict, is_best: bool, found: Validation, tracker: Tracker) -> None:
    """Write log.jsonl and loss.png, tell the tracker, print; several processes do it once."""
    if not run.processes.is_main:
        return
    write_log(run.folder / "log.jsonl", run.progress.history)
    plot_losses(run.folder / "loss.png", run.progress.history)
    tracker.log_epoch(record, record["global_step"])
    tracker.warn(record.get("warnings", []))
    print(
        f"epoch {record['epoch']:>3}/{run.task.num_epochs}  {progress_made(record)}"
        + judgement(record, run.settings.BEST_METRIC, is_best)
        + f"  lr {record['learning_rate']:.1e}  {record['examples_per_second']:,.0f} examples/s"
        f"  {timedelta(seconds=round(record['seconds']))}"
    )
    if found.summary:
        print(f"    {found.summary}")
    for warning in record.get("warnings", []):
        print(f"    warning: {warning}")
    for path, caption, references in found.samples:
        print(f"    {path.name[:28]:<28}  {caption}\n    {'':<28}  reference: {references[0]}")
    if found.samples:
        tracker.log_captions(found.samples, record["global_step"])


def progress_made(record: dict) -> str:
    if record["train_loss"] is None:
        return f"train_reward {record['train_reward']:.4f}"
    return f"train_loss {record['train_loss']:.4f}"


def judgement(record: dict, metric: str, is_best: bool) -> str:
    """What validation found, "best" beside the measure that BEST_METRIC chooses by; nothing without a validation."""
    if record["val_loss"] is None:
        return ""
    score = "" if metric == "val_loss" else f"  {SCORES[metric].format(record[metric])}"
    return f"  val_loss {record['val_loss']:.4f}{score}{' best' if is_best else '     '}"


def report_utilisation(run: Run, records: list[dict]) -> None:
    """Say what share of the machines' speed in matrix products the fastest of these epochs with a loss used.

    The fastest, as the peak is measured now: other work beside some epochs says nothing about the machine.
    """
    speeds = [record["examples_per_second"] for record in records if record["train_loss"] is not None]
    if not (speeds and run.settings.REPORT_UTILISATION):
        return
    done, peak = max(speeds) * example_flops(run), run.processes.sum(matmul_peak(run.device, run.dtype))
    print(
        f"utilisation  {done / peak:.0%} of the machine's matrix products in {str(run.dtype).removeprefix('torch.')}: "
        f"{done / 1e9:,.0f} of {peak / 1e9:,.0f} GFLOP/s at {max(speeds):,.0f} examples/s"
    )


def say_final(best: Path, how: str = "") -> None:
    """What the scores that follow are of, and how to have those of pictures that nothing was chosen by."""
    print(f"final        best/ on the validation pictures, which chose its epoch too{how}")
    print(f"             unseen ones: python evaluate.py --checkpoint {shlex.quote(str(best))} --split test")


def report_end(run: Run, next_command: str) -> None:
    """Say where the best model is and what to type next."""
    progress, metric = run.progress, run.settings.BEST_METRIC
    greedily = " greedily" * (metric == "cider")
    measure = SCORES[metric].format(getattr(progress, f"best_{metric}")) + greedily
    if own := own_memory():
        print(f"memory       {size(own)} at the end, without the files that are mapped")
    print(f"best         epoch {progress.best_epoch}, {measure}: {run.best}")
    print(f"next         {next_command}")
