"""What a run records besides its checkpoints: log.jsonl, loss.png and, where asked for, Weights & Biases.

    with setup_wandb(settings, run_dir) as tracker:     # wandb.finish() whatever happens inside
        tracker.log_step(step, {"loss": loss, "learning_rate": learning_rate})
        tracker.log_epoch(record, step)
        tracker.log_captions([(path, caption, references), ...], step)
    write_log(run_dir / "log.jsonl", history)           # history: one record an epoch
    plot_losses(run_dir / "loss.png", history)

Before training a W&B that cannot start is an error; after that it may break without stopping the run.
"""

import io
import json
import math
import os
import secrets
import sys
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING

from basics.errors import UserError, first_line
from basics.files import write_atomically
from basics.settings import Settings
from sources.images import load_image
from sources.shards.picture import Picture

if TYPE_CHECKING:  # only where a run logs there
    import wandb

ID_FILE = "wandb_id.txt"  # in the run's folder: a resumed run goes on as the same W&B run
INIT_TIMEOUT = 30.0  # seconds to reach W&B before training
PICTURE_SIZE = 384  # longest side of logged sample pictures, pixels
MAX_MARKERS = 30  # epochs up to which loss.png marks each point


class Tracker:
    """The door to tracking; by itself, as WANDB_MODE "off" has it, it takes everything and keeps nothing."""

    def log_step(self, step: int, values: dict[str, float]) -> None:
        pass

    def log_epoch(self, record: dict, step: int) -> None:
        pass

    def log_captions(self, rows: list[tuple[Picture, str, list[str]]], step: int) -> None:
        pass

    def warn(self, warnings: list[str]) -> None:
        pass

    def finish(self, failed: bool = False) -> None:
        pass

    def __enter__(self) -> "Tracker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish(failed=kind is not None)


class WandbTracker(Tracker):
    """A started W&B run. The first error of wandb is reported, and nothing more is logged."""

    def __init__(self, run: "wandb.Run", url: str | None, folder: Path):
        self.run, self.url = run, url  # None: offline
        self.send_by_hand = f"to send it: wandb sync {folder}"
        self.broken = False

    def log_step(self, step: int, values: dict[str, float]) -> None:
        self.log({f"train/{name}": value for name, value in values.items()}, step)

    def log_epoch(self, record: dict, step: int) -> None:
        self.log({f"epoch/{name}": value for name, value in record.items() if isinstance(value, (int, float))}, step)

    def warn(self, warnings: list[str]) -> None:
        """A W&B alert each: on the run's page, and by mail or Slack where its owner wants that."""
        for warning in warnings if not self.broken else []:
            try:
                self.run.alert("Warning of a validation", warning, level="WARN")
            except Exception as error:
                self.give_up(error)

    def log_captions(self, rows: list[tuple[Picture, str, list[str]]], step: int) -> None:
        """Pictures with captions below. Not a wandb.Table: offline, its pictures stay outside of the run's folder."""
        try:
            pictures = [picture(*row) for row in rows]
        except Exception as error:
            self.give_up(error)
            return
        self.log({"samples": pictures}, step)

    def log(self, values: dict, step: int) -> None:
        if self.broken:
            return
        try:
            self.run.log(values, step=step)
        except Exception as error:
            self.give_up(error)

    def give_up(self, error: Exception) -> None:
        if not self.broken:
            print(f"W&B          stopped logging, training goes on: {first_line(error)}", file=sys.stderr)
        self.broken = True

    def finish(self, failed: bool = False) -> None:
        """End the W&B run; online this sends what has not been sent yet. Ctrl-C leaves it on the disk."""
        if self.url:
            print("W&B          sending what is left (Ctrl-C to keep it for later)", flush=True)
        try:
            self.run.finish(exit_code=int(failed))
            self.print_place()
        except (Exception, KeyboardInterrupt) as error:
            print(f"W&B          not finished: {first_line(error)}; {self.send_by_hand}", file=sys.stderr)

    def print_place(self) -> None:
        print(f"W&B          {self.url or 'offline; ' + self.send_by_hand}")


def setup_wandb(settings: Settings, run_dir: Path) -> Tracker:
    """Start (or go on with) the W&B run of run_dir as WANDB_MODE says and print where it is.

    Raises UserError where "online" has no API key or no connection.
    """
    if settings.WANDB_MODE == "off":
        return Tracker()
    import wandb  # takes a second, and is off unless asked for

    try:
        wandb.setup(settings=wandb.Settings(silent=True))  # also the lines wandb prints outside of a run
        if settings.WANDB_MODE == "online" and not has_key(wandb):
            raise wandb.errors.UsageError("no API key")  # on a terminal wandb.init() would ask and wait
        run = wandb.init(
            project=settings.WANDB_PROJECT,
            name=Path(run_dir).name,
            id=run_id(run_dir),
            resume="allow",
            dir=str(run_dir),
            mode=settings.WANDB_MODE,
            config=settings.to_dict(),
            settings=wandb.Settings(silent=True, console="off", init_timeout=INIT_TIMEOUT),
        )
    except Exception as error:
        raise UserError(
            f"W&B cannot start: {first_line(error)}; run `wandb login`, check the connection, or train "
            "with --wandb-mode offline (or off)"
        ) from error
    folder = Path(run_dir) / "wandb" / Path(run.settings.sync_dir).name
    tracker = WandbTracker(run, run.url if settings.WANDB_MODE == "online" else None, folder)
    tracker.print_place()
    return tracker


def has_key(wandb: ModuleType) -> bool:
    return bool(wandb.api.api_key or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"))


def run_id(run_dir: Path) -> str:
    """The W&B id kept in run_dir, a new one the first time."""
    path = Path(run_dir) / ID_FILE
    if not path.is_file():
        write_atomically(path, secrets.token_hex(4) + "\n")
    return path.read_text(encoding="utf-8").strip()


def picture(path: Picture, caption: str, references: list[str]) -> "wandb.Image":
    """A wandb.Image, made small: samples are logged at every validation."""
    import wandb  # takes a second, and is off unless asked for

    image = load_image(path)
    image.thumbnail((PICTURE_SIZE, PICTURE_SIZE))
    return wandb.Image(image, caption=f"{caption}\nreference: {references[0]}\n{path.name}")


def write_log(path: Path, history: list[dict]) -> None:
    """One JSON line an epoch, rewritten whole, so that after a resume no epoch is there twice."""
    write_atomically(path, "".join(json.dumps(valid_json(record), allow_nan=False) + "\n" for record in history))


def valid_json(record: dict) -> dict:
    """NaN and infinities are no JSON: null."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in record.items()
    }


def plot_losses(path: Path, history: list[dict]) -> None:
    """Draw train and validation loss by epoch; the lowest validation loss is marked with its value."""
    from matplotlib.figure import Figure  # without pyplot: no display, no global state
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(7, 4.2), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    train, validation = points(history, "train_loss"), points(history, "val_loss")
    marker = "o" if len(history) <= MAX_MARKERS else None
    if train:
        axes.plot(*zip(*train), color="tab:blue", marker=marker, markersize=4, label="train")
    if validation:
        axes.plot(*zip(*validation), color="tab:orange", marker=marker, markersize=4, label="validation")
        epoch, loss = min(validation, key=lambda point: point[1])
        axes.plot(
            epoch,
            loss,
            color="tab:red",
            marker="*",
            markersize=13,
            linestyle="none",
            zorder=3,
            label=f"lowest: {loss:.3f} (epoch {epoch})",
        )
    axes.set(xlabel="epoch", ylabel="cross-entropy, nats a target")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if train or validation:
        axes.legend(frameon=False)
    content = io.BytesIO()
    figure.savefig(content, format="png")
    write_atomically(path, content.getvalue())


def points(history: list[dict], name: str) -> list[tuple[int, float]]:
    """(epoch, value) where there is a finite one: not every epoch is validated."""
    return [(r["epoch"], r[name]) for r in history if r.get(name) is not None and math.isfinite(r[name])]
