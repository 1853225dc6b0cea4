"""Training speed: our loop and decoder beside transformers' VisionEncoderDecoderModel and Seq2SeqTrainer, on the CPU.

    python -m benchmarks.training --encoder FOLDER --raw-dir FLICKR8K
    python -m benchmarks.training --encoder FOLDER --raw-dir FLICKR8K --profile            # and what bounds our step
    python -m benchmarks.training --encoder FOLDER --raw-dir FLICKR8K --ema-decay 0.999  # any setting of ours

Both train a decoder of the same sizes with dropout 0.1 and AdamW on the features of the same frozen encoder, with the
same pictures, captions, vocabulary and precision. The peer takes 32 captions a step, reads and encodes the picture of
each. Ours is what train.py runs, with an image's captions side by side: from cached features in steps of 160 captions
(as in presets/flickr8k.yaml) and of 32, and from the pictures in steps of 160. The five epochs are computed from the
measured speeds and the measured seconds of building the cache. The last row compares matrix products a second in our
step, all of it counted as time, with the fastest that this machine multiplies square matrices.
"""

import argparse
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import torch

from basics.devices import pick_device, pick_precision
from basics.errors import UserError, run_script
from basics.settings import Settings, load_settings
from basics.timing import in_turn, rates
from benchmarks.peer import PeerRows, make_peer, make_trainer, need_trainer
from benchmarks.raw_data import pictures_of, write_raw
from benchmarks.side_by_side import Row, add_model_flags, command, compare, make_parser, set_up, top_operators
from dataset import ImageTextDataset, SplitPictures
from networks.encoders import load_encoder
from sources.captions import Captions
from sources.prepare import prepare
from sources.prepared import PreparedData
from sources.reading import read_captions
from tasks.registry import build_task
from tokenizer import build_tokenizer, train_tokenizer
from train import train_one_epoch
from training.feature_cache import cached_features
from training.processes import OneProcess
from training.run import start_run
from training.stopping import StopSignal
from training.tracking import Tracker
from training.utilisation import example_flops, matmul_peak, step_flops

EPOCHS = 5
PRESET_BATCH = 160  # captions a step in presets/flickr8k.yaml
PEER, CACHED, SMALL, PICTURES = "peer", "cached", "cached, small steps", "from pictures"
UNIT = "captions/s"


def parse_arguments(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = make_parser("training", __doc__, repeats=3)
    add_model_flags(parser)
    parser.add_argument("--raw-dir", required=True, help="captions and pictures in any form that train.py reads")
    parser.add_argument("--pictures", type=int, default=512, help="pictures taken, a tenth of them for validation")
    parser.add_argument("--steps", type=int, default=9, help="training steps of each side in each repeat")
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    return parser.parse_known_args(argv)


def our_settings(arguments: argparse.Namespace, folder: Path, flags: list[str]) -> Settings:
    """The peer's sizes in the names of config.py; flags are further settings, which win."""
    values = {
        "DATASET": "flickr8k",
        "RAW_DIR": folder / "raw",
        "DATA_DIR": folder / "data",
        "DEVICE": "cpu",
        "ENCODER_MODEL_NAME": arguments.encoder,
        "ENCODER_TRAINABLE": "none",
        "CACHE_FEATURES": True,
        "GROUP_CAPTIONS": True,
        "PRECISION": arguments.precision,
        "DECODER_EMBED_DIM": arguments.width,
        "DECODER_FF_DIM": 4 * arguments.width,
        "DECODER_DROPOUT": 0.1,
        "DECODER_LAYERS": arguments.layers,
        "DECODER_HEADS": arguments.heads,
        "BATCH_SIZE": PRESET_BATCH,
        "NUM_EPOCHS": EPOCHS,
        "CHECKPOINT_EVERY_STEPS": None,
    }
    return load_settings([*(f"--{name}={value}" for name, value in values.items()), *flags])


def prepare_pictures(arguments: argparse.Namespace, folder: Path, flags: list[str]) -> tuple[Settings, PreparedData]:
    """Some of the pictures as train.py prepares them, with a vocabulary trained on all captions."""
    source = read_captions(Path(arguments.raw_dir).expanduser(), folder / "source")
    write_raw(source, folder / "raw", min(arguments.pictures, len(pictures_of(source))))
    settings = our_settings(arguments, folder, flags)
    captions = [text for texts in source.captions.values() for text in texts]
    tokenizer = train_tokenizer(captions, settings.VOCAB_SIZE, settings.MIN_FREQUENCY, settings.LOWERCASE)
    tokenizer.save(settings.vocab_path, settings.merges_path)
    return settings, prepare(settings, Captions(lambda captions: build_tokenizer(settings, captions)))


class Ours:
    """A run of train.py that takes as many steps as it is told to."""

    def __init__(self, settings: Settings, folder: Path):
        self.run = start_run(build_task(settings, None, OneProcess()), folder, OneProcess())
        self.source = self.run.task.train
        self.dataset, self.num_batches = self.source.dataset, -(-self.source.num_examples // self.source.batch_size)

    def train(self, steps: int) -> None:
        """The last steps of an epoch, by the loop of train.py."""
        criterion = self.run.task.criterion(self.run)
        self.run.progress.batches_done = self.num_batches - steps
        record = train_one_epoch(self.run, criterion, Tracker(), StopSignal(self.run.processes))
        self.run.progress.end_epoch(record)

    def captions(self, steps: int) -> int:
        """In the last steps of an epoch; the very last one may have fewer."""
        return len(self.dataset) - (self.num_batches - steps) * self.run.settings.BATCH_SIZE

    def flops(self) -> float:
        """Of one caption."""
        return example_flops(self.run)


def build_cache(settings: Settings, data: PreparedData) -> float:
    """Encode the training pictures as train.py would -> seconds."""
    device = pick_device(settings.DEVICE)
    encoder, image_processor = load_encoder(settings)
    pictures, started = SplitPictures(data, "train", image_processor, settings), time.perf_counter()
    cached_features(encoder, pictures, settings, device, pick_precision(settings, device), OneProcess())
    return time.perf_counter() - started


def make_ours(settings: Settings, arguments: argparse.Namespace, folder: Path) -> dict[str, Ours]:
    """Our sides by name. Raises UserError where an epoch is too short."""
    sides = {
        CACHED: Ours(settings, folder),
        SMALL: Ours(settings.replace(BATCH_SIZE=arguments.batch_size), folder),
        PICTURES: Ours(settings.replace(CACHE_FEATURES=False), folder),
    }
    shortest = min(side.num_batches for side in sides.values())
    if arguments.steps > shortest:
        raise UserError(
            f"the pictures make an epoch of {shortest} steps, --steps is {arguments.steps}; take more --pictures or "
            "fewer --steps"
        )
    return sides


def peer_trainer(settings: Settings, dataset: ImageTextDataset, tokenizer, arguments: argparse.Namespace, folder: Path):
    peer = make_peer(
        arguments.encoder,
        tokenizer,
        width=settings.DECODER_EMBED_DIM,
        layers=settings.DECODER_LAYERS,
        heads=settings.DECODER_HEADS,
        max_seq_len=settings.MAX_SEQ_LEN,
    )
    rows = PeerRows(dataset, arguments.encoder)
    return make_trainer(
        peer, rows, steps=arguments.steps, batch_size=arguments.batch_size, precision=arguments.precision, folder=folder
    )


def make_rows(
    ours: dict[str, Ours], seconds: dict[str, list[float]], build_seconds: float, arguments: argparse.Namespace
) -> list[Row]:
    steps, small, cached = arguments.steps, arguments.batch_size, ours[CACHED]
    speed = {side: rates(one.captions(steps), seconds[side]) for side, one in ours.items()}
    peer = rates(steps * small, seconds[PEER])
    large = cached.run.settings.BATCH_SIZE
    epochs = five_epochs(len(cached.dataset), speed[CACHED], build_seconds)
    peak = matmul_peak(cached.run.device, cached.run.dtype)
    return [
        Row(f"cached features, {large} captions a step (peer {small})", UNIT, speed[CACHED], peer),
        Row(f"cached features, {small} captions a step", UNIT, speed[SMALL], peer),
        Row(f"pictures, {large} captions a step (peer {small})", UNIT, speed[PICTURES], peer),
        Row(f"{EPOCHS} epochs and building the cache (computed)", UNIT, epochs, peer),
        Row(
            f"our step, {large} captions, beside the machine's matmul peak",
            "GFLOP/s",
            rates(cached.flops() * cached.captions(steps) / 1e9, seconds[CACHED]),
            [peak / 1e9] * arguments.repeats,
        ),
    ]


def five_epochs(captions: int, speeds: list[float], build_seconds: float) -> list[float]:
    """Captions a second over EPOCHS epochs of so many captions, building the cache counted."""
    return [EPOCHS * captions / (build_seconds + EPOCHS * captions / speed) for speed in speeds]


def make_notes(ours: Ours, build_seconds: float, trainer, rows: list[Row]) -> list[str]:
    captions, pictures = len(ours.dataset), len(ours.dataset.pictures)
    vocabulary = len(ours.run.task.captioner.tokenizer)
    own, peer = (EPOCHS * captions / statistics.median(speeds) for speeds in (rows[3].ours, rows[3].peer))
    batch = next(iter(trainer.get_train_dataloader()))
    peer_flops = step_flops(lambda: (trainer.model(**batch).loss, None), trainer.model) / len(batch["labels"])
    return [
        f"data         {pictures:,} pictures, {captions:,} captions; vocabulary {vocabulary:,}",
        f"work         {ours.flops() / 1e9:.2f} GFLOP a caption from cached features, "
        f"{peer_flops / 1e9:.2f} for the peer",
        f"cache        built in {build_seconds:.1f} s, {pictures / build_seconds:.1f} pictures/s",
        f"{EPOCHS} epochs     computed: ours {own:,.0f} s with the cache, the peer {peer:,.0f} s",
    ]


def main(argv: list[str]) -> None:
    arguments, flags = parse_arguments(argv)
    need_trainer()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as name, set_up():
        folder = Path(name)
        settings, data = prepare_pictures(arguments, folder, flags)
        build_seconds = build_cache(settings, data)
        ours = make_ours(settings, arguments, folder)
        cached = ours[CACHED]
        trainer = peer_trainer(settings, cached.dataset, cached.run.task.captioner.tokenizer, arguments, folder)
        works = {side: partial(one.train, arguments.steps) for side, one in ours.items()}
        seconds = in_turn({PEER: trainer.train, **works}, arguments.repeats)
        rows = make_rows(ours, seconds, build_seconds, arguments)
        notes = make_notes(cached, build_seconds, trainer, rows)
        if arguments.profile:
            notes.append(top_operators("our steps from cached features", works[CACHED]))
    compare(rows, command("training", argv), arguments.output, notes)


if __name__ == "__main__":
    run_script(main)
