"""Resumable checkpoints: one dict of tensors and plain types, whole on disk or not there at all.

    path = save_checkpoint(run)                 # checkpoint_step_00000120.pt in the run's folder
    restore(run, find_resumed(settings))        # weights, optimizer, schedule, RNG and data position, bit for bit

Keys: epoch, global_step, model_state_dict, optimizer_state_dict, scheduler_state_dict, scaler, average, best_val_loss,
config, tokenizer, architecture, encoder_files, rng, rng_of_others (of all processes but the first), progress (data
position and history among it). Files are read with weights_only=True, so a pickle that would run code is refused.
"""

import random
import re
import shutil
from pathlib import Path

import numpy as np
import torch

from basics.checkpoint_file import BEST_FILE, STEP_FILE, numbered
from basics.disk import WriteError, free_bytes, size
from basics.errors import UserError, reason_of
from basics.files import atomic_file, recover_folder
from basics.stored import COUNT, check, json_of
from networks.rebuild import check_stored
from training.optimizer import restore_optimizer
from training.resume import Resumed
from training.run import Run, seed_apart

MOMENTS = ("exp_avg", "exp_avg_sq")  # of Adam, shaped as their parameter
MT_SIZE = 624  # numbers in the state of a Mersenne Twister


def make_checkpoint(run: Run) -> dict:
    """Everything that continuing the run exactly takes; of several processes the main one has it whole."""
    progress, whole = run.progress.to_dict(), run.processes.whole
    rng, *others = run.processes.gather(rng_state())
    return {
        "epoch": progress["epoch"],
        "global_step": progress["global_step"],
        "model_state_dict": whole(run.model.state_dict()),
        "optimizer_state_dict": whole(run.optimizer.state_dict()),
        "scheduler_state_dict": run.scheduler.state_dict(),
        "scaler": run.scaler.state_dict(),
        "average": whole(run.average.state_dict()),
        "best_val_loss": progress["best_val_loss"],
        "config": run.settings.to_dict(),
        **run.task.parts,
        "rng": rng,
        "rng_of_others": others,
        "progress": progress,
        "torch_version": torch.__version__.split("+")[0],
    }


def save_checkpoint(run: Run, is_best: bool = False) -> Path:
    """Write the run's state under its step number, and a new best under its epoch and val_loss too.

    The best comes first: killed between the two, the run resumes before its validation and writes both again.
    """
    state, progress = make_checkpoint(run), run.progress
    if is_best:
        name = f"checkpoint_epoch_{progress.epoch}_val_{progress.best_val_loss:.4f}.pt"
        write_checkpoint(run, state, name, BEST_FILE)
    return write_checkpoint(run, state, f"checkpoint_step_{progress.global_step:08d}.pt", STEP_FILE)


def write_checkpoint(run: Run, state: dict, name: str, pattern: re.Pattern) -> Path:
    """Write one file and drop all but the KEEP_LAST_N newest of its kind; several processes write it once."""
    if not run.processes.is_main:
        return run.folder / name
    try:
        with atomic_file(run.folder / name) as file:
            torch.save(state, file)
    except WriteError as error:
        good = numbered(run.folder, STEP_FILE)
        raise WriteError(
            f"{error}; a checkpoint takes {size(checkpoint_bytes(run))}, the last good one is "
            f"{good[-1] if good else 'none yet'}; make room, then go on with --resume-checkpoint-path latest"
        ) from error
    for path in numbered(run.folder, pattern)[: -run.settings.KEEP_LAST_N]:
        path.unlink()
    return run.folder / name


def checkpoint_bytes(run: Run) -> int:
    """About what a checkpoint takes: the weights, two moments of those that are trained, and their average."""
    trained = sum(p.nbytes for p in run.model.parameters() if p.requires_grad)
    averaged = trained if run.settings.EMA_DECAY is not None else 0
    return sum(p.nbytes for p in run.model.parameters()) + 2 * trained + averaged


def check_room(run: Run) -> None:
    """Raises UserError where the disk has no room for a checkpoint and best/; says where it may get tight."""
    free, one = free_bytes(run.folder), checkpoint_bytes(run)
    if free < 2 * one:
        raise UserError(
            f"{run.folder} needs {size(2 * one)} for a checkpoint and best/, {size(free)} are free; make room, or name "
            "a CHECKPOINT_DIR on another disk"
        )
    most = (2 * run.settings.KEEP_LAST_N + 2) * one  # of each kind, and while one is replaced
    if free < most:
        print(f"note         {run.folder} may take {size(most)}, {size(free)} are free: lower KEEP_LAST_N or make room")


def restore(run: Run, resumed: Resumed) -> None:
    """Put `run` where the checkpoint left off. Raises UserError when they do not belong together."""
    path, checkpoint = resumed.path, resumed.checkpoint
    progress = checkpoint["progress"]
    if progress["batches_done"] and progress["num_pairs"] != run.progress.num_pairs:
        raise UserError(
            f"{path} stops in the middle of an epoch of {progress['num_pairs']:,} training pairs, now there are "
            f"{run.progress.num_pairs:,}; put the data back as it was, or start a new run"
        )
    if progress["batches_done"] and progress.get("order", run.progress.order) != run.progress.order:
        raise UserError(
            f"{path} stops in the middle of an epoch of other pictures, or of the same in another order; name the "
            "same data again (RAW_DIR, SHARDS), or start a new run"
        )
    try:
        restore_state(run, checkpoint)
    except Exception as error:  # torch, numpy and random each raise what they like
        raise UserError(f"{path} does not fit the model of these settings: {reason_of(error)}") from error
    if run.folder.resolve() != path.parent.resolve() and run.progress.best_epoch:
        brought = run.processes.from_main(run.processes.is_main and bring_best(run, path.parent / "best"))
        if not brought:
            run.progress.forget_best()


def restore_state(run: Run, checkpoint: dict) -> None:
    """Raises anything where something of it does not fit: the run must not go on then."""
    progress = checkpoint["progress"]
    if len(progress["history"]) != progress["epoch"] or progress["best_epoch"] > progress["epoch"]:
        raise ValueError(f"it has records of {len(progress['history'])} epochs after {progress['epoch']}")
    weights, optimizer, average = (checkpoint[name] for name in ("model_state_dict", "optimizer_state_dict", "average"))
    for name, tensor in [*weights.items(), *moments(optimizer)]:
        check_stored(name, tensor)
    run.model.load_state_dict(placed(run, weights, run.model.state_dict()))
    restore_optimizer(run.optimizer, run.scheduler, placed_moments(run, optimizer), checkpoint["scheduler_state_dict"])
    run.average.load_state_dict({**average, "values": placed(run, average["values"], run.average.values)})
    run.scaler.load_state_dict(checkpoint["scaler"])
    run.progress.load_dict({**progress, "num_pairs": run.progress.num_pairs, "order": run.progress.order})
    states = [checkpoint["rng"], *checkpoint.get("rng_of_others", [])]
    if len(states) == run.processes.share.count:
        restore_rng(states[run.processes.share.index])
    else:  # no longer the same processes
        restore_rng(states[0])
        seed_apart(run, progress["global_step"])


def placed(run: Run, tensors: dict, like: dict) -> dict:
    """What this process keeps of whole tensors, by name."""
    return {n: run.processes.placed(tensor, like[n]) if n in like else tensor for n, tensor in tensors.items()}


def placed_moments(run: Run, state: dict) -> dict:
    """The same of an optimizer's state dict, whose tensors have the numbers of their parameters."""
    own = [parameter for group in run.optimizer.param_groups for parameter in group["params"]]
    like = dict(zip((number for group in state["param_groups"] for number in group["params"]), own))
    parts = {n: placed(run, values, dict.fromkeys(MOMENTS, like.get(n))) for n, values in state["state"].items()}
    return {**state, "state": parts}


def moments(state: dict) -> list[tuple[str, torch.Tensor]]:
    return [
        (f"the optimizer's {name}", value)
        for values in state["state"].values()
        for name, value in values.items()
        if isinstance(value, torch.Tensor)
    ]


def bring_best(run: Run, best: Path) -> bool:
    """A branch may find nothing better than the best so far; False where that is of an epoch it never had."""
    recover_folder(best)
    name = "training.json" if (best / "training.json").is_file() else "config.json"  # of a classifier, of a captioner
    try:
        config = json_of(best / name)
        check(config, {"epoch?": COUNT}, name)
    except (OSError, ValueError):
        config = {"epoch": None}
    if config.get("epoch", run.progress.best_epoch) == run.progress.best_epoch:  # older runs did not say
        shutil.copytree(best, run.folder / "best", dirs_exist_ok=True)
        return True
    print(f"             {best} is no longer that of epoch {run.progress.best_epoch}: the next validation is the best")
    return False


def rng_state() -> dict:
    """States of every global generator a model or library may draw from, as plain types and tensors."""
    numpy = np.random.get_state(legacy=False)
    version, internal, gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "mps": torch.mps.get_rng_state() if torch.backends.mps.is_available() else None,
        "numpy": [
            numpy["bit_generator"],
            torch.from_numpy(numpy["state"]["key"].astype(np.int64)),
            numpy["state"]["pos"],
            numpy["has_gauss"],
            numpy["gauss"],
        ],
        "python": [version, list(internal), gauss],
    }


def restore_rng(state: dict) -> None:
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    if torch.backends.mps.is_available() and state.get("mps") is not None:  # older checkpoints lack it
        torch.mps.set_rng_state(state["mps"])
    name, keys, position, *rest = state["numpy"]
    if keys.shape != (MT_SIZE,) or not 0 <= position <= MT_SIZE:  # numpy would read past its end
        raise ValueError(f"the state of numpy's generator is none: {list(keys.shape)} keys, position {position}")
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, *rest))
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
