"""Training speed of classifiers: our loop beside transformers' Trainer, the same network, pictures and precision.

    python -m benchmarks.classifying --raw-dir CIFAR10
    python -m benchmarks.classifying --raw-dir CIFAR10 --models scratch-cnn --batch-size 64 --precision fp32

The peer is what transformers' example of image classification does (examples/pytorch/image-classification): Trainer,
which reads a picture, crops, mirrors and normalizes it with torchvision, one by one. Here its crop is ours, and it has
our light jitter, by torchvision too. Both are asked for so many steps with this machine's threads, in turn; of each
turn the first steps are not counted, nor what comes before them.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2
from transformers import PreTrainedModel, TrainerCallback

from basics.errors import UserError, run_script
from basics.settings import Settings, load_settings
from benchmarks.peer import make_trainer, need_trainer
from benchmarks.side_by_side import Row, command, compare, make_parser, set_up
from benchmarks.training import Ours
from dataset import SplitPictures
from networks.classifiers import scratch_network

WARM = 3  # steps that do not count
PATCHES = {"scratch-cnn": 2, "scratch": 4}  # SCRATCH_PATCH_SIZE, and what there is to measure


class PeerPictures(Dataset):
    """Labelled pictures as the example has them: from the file each time, augmented one by one."""

    def __init__(self, pictures: SplitPictures, labels: list[int], side: int):
        self.pictures, self.labels = pictures, labels
        self.transform = v2.Compose(
            [
                v2.RandomResizedCrop(side, scale=(0.8, 1.0), ratio=(0.9, 1.1)),
                v2.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2),
                v2.RandomHorizontalFlip(),
                v2.ToImage(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize([0.5] * 3, [0.5] * 3),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        with Image.open(self.pictures.path(index)) as image:
            pixels = self.transform(image.convert("RGB"))
        return {"pixel_values": pixels, "labels": torch.tensor(self.labels[index])}


def collate(rows: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def label_loss(outputs: dict[str, Tensor], labels: Tensor, num_items_in_batch: object = None) -> Tensor:
    return F.cross_entropy(outputs["logits"], labels)


class Clock(TrainerCallback):
    """Seconds from the end of the WARMth step to that of the last."""

    def on_step_end(self, args, state, control, **more) -> None:
        if state.global_step == WARM:
            self.started = time.perf_counter()
        self.seconds = time.perf_counter() - self.started if state.global_step > WARM else 0.0


def peer_seconds(
    network: PreTrainedModel, rows: PeerPictures, arguments: argparse.Namespace, folder: str
) -> Callable[[], float]:
    """A run of Trainer -> the seconds of its steps after the first."""
    trainer = make_trainer(
        network,
        rows,
        steps=WARM + arguments.steps,
        batch_size=arguments.batch_size,
        precision=arguments.precision,
        folder=folder,
        kind="",
        collate=collate,
        compute_loss_func=label_loss,
    )
    trainer.add_callback(clock := Clock())

    def train() -> float:
        trainer.train()
        return clock.seconds

    return train


def our_seconds(ours: Ours, steps: int) -> Callable[[], float]:
    """As peer_seconds(), by the loop of train.py."""

    def train() -> float:
        ours.train(WARM)
        started = time.perf_counter()
        ours.train(steps)
        return time.perf_counter() - started

    return train


def our_settings(model: str, arguments: argparse.Namespace, folder: Path) -> Settings:
    values = {
        "TASK": "classify",
        "DATASET": "cifar10",
        "RAW_DIR": Path(arguments.raw_dir).expanduser().resolve(),
        "DATA_DIR": folder / "data",
        "DEVICE": "cpu",
        "ENCODER_MODEL_NAME": model,
        "SCRATCH_IMAGE_SIZE": 32,
        "SCRATCH_PATCH_SIZE": PATCHES[model],
        "SCRATCH_EMBED_DIM": 256 if model == "scratch-cnn" else 192,
        "AUGMENT": True,
        "AUGMENT_MIRROR": True,
        "PRECISION": arguments.precision,
        "BATCH_SIZE": arguments.batch_size,
        "NUM_SAMPLE_CAPTIONS": 0,
    }
    return load_settings([f"--{name}={value}" for name, value in values.items()], CHECKPOINT_EVERY_STEPS=None)


def measure(model: str, arguments: argparse.Namespace, folder: Path) -> Row:
    """Pictures a second of both in each repeat, in turn."""
    settings = our_settings(model, arguments, folder)
    ours = Ours(settings, folder / model)
    if (shortest := ours.num_batches - 1) < max(arguments.steps, WARM):  # the last batch may be smaller
        raise UserError(f"the pictures make an epoch of {shortest} whole steps, --steps is {arguments.steps}")
    pictures, labels = ours.dataset.pictures, ours.dataset.labels.tolist()
    network = scratch_network(settings, ours.run.task.classifier.classes)
    rows = PeerPictures(pictures, labels, settings.SCRATCH_IMAGE_SIZE)
    works = {
        "ours": our_seconds(ours, arguments.steps),
        "peer": peer_seconds(network, rows, arguments, str(folder / f"{model}-peer")),
    }
    amounts = {"ours": ours.captions(arguments.steps), "peer": arguments.steps * arguments.batch_size}
    speeds: dict[str, list[float]] = {side: [] for side in works}
    for _ in range(arguments.repeats):
        for side, work in works.items():
            speeds[side].append(amounts[side] / work())
    return Row(f"{model}, {arguments.precision}, batch {arguments.batch_size}", "pictures/s", **speeds)


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    parser = make_parser("classifying", __doc__, repeats=3)
    parser.add_argument("--raw-dir", required=True, help="CIFAR-10, as class folders or as downloaded")
    parser.add_argument("--models", nargs="+", choices=PATCHES, default=[*PATCHES])
    parser.add_argument("--steps", type=int, default=30, help="training steps of each side in each repeat")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    return parser.parse_args(argv)


def main(argv: list[str]) -> None:
    arguments = parse_arguments(argv)
    need_trainer()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as name, set_up():
        rows = [measure(model, arguments, Path(name)) for model in arguments.models]
    note = (
        f"measured     {arguments.steps} steps after {WARM} that do not count, in turn; reading and augmenting included"
    )
    compare(rows, command("classifying", argv), arguments.output, [note])


if __name__ == "__main__":
    run_script(main)
