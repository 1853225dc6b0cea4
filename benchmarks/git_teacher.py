"""A GIT teacher where none can be downloaded: GIT around a frozen encoder, trained on prepared captions.

    python -m benchmarks.git_teacher --data-dir data/flickr8k --encoder FOLDER --image-size 260 --output teacher

A task of train.py: its loop, checkpoints and log lie in <--output>-run, and the same command goes on where it was
stopped. The encoder's features come from the cache that train.py makes and reads, so no picture is encoded twice. Each
image is once in a batch, with all its captions in WordPieces of their own; --captions mixes in those of another
captioner, which a run with DISTILL_CAPTIONS leaves in --data-dir/teacher/captions-*.jsonl. The averaged weights of the
epoch with the lowest validation loss are kept in --output, which networks.git.load_git reads; at the end they caption
the validation pictures.
"""

import argparse
import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

import train
from basics.checkpoint_file import STEP_FILE, numbered
from basics.devices import Batch, autocast, pick_device, pick_precision
from basics.errors import UserError, run_script
from basics.settings import Settings
from dataset import ImageTextDataset, PairLoader, SplitPictures
from distillation.teacher import wordpieces
from losses.criterion import Criterion
from networks.decoding_options import DecodingOptions
from networks.encoders import load_encoder
from networks.git import GitParts, build_git, git_logits, load_git, save_git, train_wordpiece
from networks.parameters import ParameterGroup, TrainableModel, merged, parameter_groups
from scoring.metrics import score_captions
from sources.prepared import PreparedData, is_prepared, read_prepared
from tasks.registry import TASKS
from training.feature_cache import cached_features
from training.optimizer import learning_rate_factor
from training.processes import Processes
from training.reporting import print_device
from training.resume import Resumed
from training.run import Run, Validation
from training.stopping import StopSignal

CAPTIONS_PER_IMAGE = 5  # what makes --batch-images a number of captions
WARMUP = 0.05  # share of all steps
MIXED_IN = 0.5  # share of captions shown that are those of --captions
NAME = "git-teacher"  # of the task


def read_data(data_dir: Path) -> PreparedData:
    """Raises UserError where there is none, or nothing to train or to validate on."""
    if not is_prepared(data_dir):
        raise UserError(f"{data_dir} holds no prepared data; expected what prepare_dataset.py writes, as data/flickr8k")
    data = read_prepared(data_dir)
    if empty := [split for split in ("train", "val") if not data.splits.get(split)]:
        raise UserError(f"{data_dir} has no pictures in {empty[0]}, which a teacher needs")
    return data


def read_caption_lines(path: Path, names: list[str]) -> list[str]:
    """The caption of each named picture in a .jsonl of {"image", "caption"}. Raises UserError where one has none."""
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        captions = {line["image"]: line["caption"] for line in lines}
        return [captions[name] for name in names]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f'--captions {path}: {error}; expected a line {{"image": ..., "caption": ...}} for each training picture'
        ) from None


class TrainableGit(TrainableModel):
    """GIT as the loop trains it, from cached features."""

    def __init__(self, git: nn.Module):
        super().__init__()
        self.git = git

    def forward(self, features: Tensor, tokens: Tensor, image_index: Tensor) -> Tensor:
        """Features (U, S, E), captions (B, T) and the image (B,) of each -> logits (B, T, V)."""
        return git_logits(self.git, features.unsqueeze(1), tokens, image_index)

    def parameter_groups(self) -> list[ParameterGroup]:
        return merged(parameter_groups("decoder", self))


class GitLoss:
    """Cross-entropy of the next WordPiece, a Criterion."""

    name = "loss"

    def __init__(self, label_smoothing: float = 0.0):
        self.label_smoothing = label_smoothing

    def count(self, batch: Batch) -> int:
        return int(batch["target_mask"].sum())

    def record(self, mean: float) -> dict[str, float | None]:
        return {"train_loss": mean}

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, int]:
        num_images, num_captions = len(batch["images"]), len(batch["target_tokens"])
        even = torch.arange(num_images, device=batch["images"].device).repeat_interleave(num_captions // num_images)
        logits = model(batch["images"], batch["decoder_input_tokens"], batch.get("image_index", even))
        mask = batch["target_mask"]
        targets = batch["target_tokens"][mask]
        smoothing = self.label_smoothing
        loss = F.cross_entropy(logits[mask].float(), targets, label_smoothing=smoothing, reduction="sum")
        return loss, len(targets)


@dataclass
class GitTeaching:
    """The Task: a GIT, its data, and the folder that its best weights go to."""

    settings: Settings
    device: torch.device
    dtype: torch.dtype
    git: GitParts
    model: TrainableGit
    train: PairLoader
    val: PairLoader
    output: Path
    parts: dict

    val_criterion = GitLoss()

    @property
    def num_epochs(self) -> int:
        return self.settings.NUM_EPOCHS

    def schedule(self, step: int, steps_per_epoch: int) -> float:
        steps = self.num_epochs * steps_per_epoch
        return learning_rate_factor(step, int(WARMUP * steps), steps, "cosine")

    def criterion(self, run: Run) -> Criterion:
        return GitLoss(self.settings.LABEL_SMOOTHING)

    def validate(self, run: Run, record: dict, stop: StopSignal) -> Validation:
        tokens = self.val.dataset.tokens
        nats = record["val_loss"] * sum(len(row) - 1 for row in tokens) / len(tokens)
        return Validation(summary=f"{nats:.3f} nats a caption")

    def save_best(self, run: Run, record: dict) -> None:
        if run.processes.is_main:
            save_git(self.git, self.output)

    def finish(self, run: Run) -> str:
        """Caption the validation pictures with the best weights."""
        if not run.processes.is_main:
            return ""
        best, dataset = load_git(self.output, self.device), self.val.dataset
        found = caption_split(best, dataset, self.settings, self.device, self.dtype)
        scores = score_captions(found, dataset.references).mean
        total = sum(p.numel() for p in best.model.parameters())
        print(
            f"greedy       CIDEr-D {scores['CIDEr-D']:.4f}  BLEU-4 {scores['BLEU-4']:.4f}  "
            f"{len(set(found)):,} distinct captions of {len(found):,}  {total:,} parameters"
        )
        print(f"saved        {self.output}")
        return f"python train.py --preset flickr8k-distill --raw-dir PATH --teacher-model-name {self.output}"


def build_teaching(
    arguments: argparse.Namespace, settings: Settings, resumed: Resumed | None, processes: Processes
) -> GitTeaching:
    """As tasks.registry wants it, with the arguments bound."""
    data_dir = Path(arguments.data_dir)  # any folder, not only those that DATASET names
    settings = settings.replace(DATA_DIR=str(data_dir.parent), DATASET=data_dir.name)
    data, device = read_data(data_dir), pick_device(None)
    dtype = pick_precision(settings, device)
    torch.manual_seed(settings.SEED)
    encoder, image_processor = load_encoder(settings)
    tokenizer = train_wordpiece(data.captions_of("train"), arguments.vocab_size)
    git = build_git(
        encoder,
        image_processor,
        tokenizer,
        hidden_size=arguments.hidden_size,
        layers=arguments.layers,
        heads=arguments.heads,
        intermediate_size=4 * arguments.hidden_size,
        dropout=arguments.dropout,
        max_positions=settings.MAX_SEQ_LEN,
    )
    model = TrainableGit(git.model).to(device)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    frozen = sum(p.numel() for p in model.parameters()) - trained
    print(f"teacher      {trained:,} parameters trained, {frozen:,} frozen; {len(tokenizer):,} WordPieces")
    print_device(device, dtype)
    mixed_in = read_caption_lines(Path(arguments.captions), data.splits["train"]) if arguments.captions else None
    loaders = []
    for split, captions in (("train", mixed_in), ("val", None)):
        pictures = SplitPictures(data, split, image_processor, settings)
        features = cached_features(encoder, pictures, settings, device, dtype, processes)
        dataset = ImageTextDataset(pictures, wordpieces(tokenizer), settings, features=features, mixed_in=captions)
        loader = PairLoader(dataset, settings, tokenizer.pad_token_id, shuffle=split == "train", share=processes.share)
        loaders.append(loader)
    return GitTeaching(settings, device, dtype, git, model, *loaders, Path(arguments.output), {})


def caption_split(
    parts: GitParts, dataset: ImageTextDataset, settings: Settings, device: torch.device, dtype: torch.dtype
) -> list[str]:
    """A greedy caption of every picture, from its features."""
    captions, size = [], settings.BATCH_SIZE // CAPTIONS_PER_IMAGE
    for start in tqdm(range(0, len(dataset.pictures), size), desc="captioning", leave=False, disable=None):
        numbers = list(range(start, min(start + size, len(dataset.pictures))))
        with autocast(device, dtype):
            rows = parts.caption_pixels(dataset.images(numbers).unsqueeze(1), DecodingOptions(settings.MAX_SEQ_LEN))
        captions += [row[0][0] for row in rows]
    return captions


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.git_teacher",
        description=__doc__,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data-dir", required=True, help="prepared data, as prepare_dataset.py writes it")
    parser.add_argument("--encoder", required=True, help="folder or Hub id of a vision encoder, which stays frozen")
    parser.add_argument("--image-size", type=int, help="whole pictures squashed to this side; else as the encoder does")
    parser.add_argument("--output", required=True, help="folder that the best model is written to")
    numbers = {
        "epochs": 10,
        "hidden-size": 384,
        "layers": 3,
        "heads": 6,
        "batch-images": 32,
        "learning-rate": 6e-4,
        "dropout": 0.1,
        "vocab-size": 6000,
        "seed": 42,
        "views": 4,
        "label-smoothing": 0.1,
        "ema-decay": 0.999,
        "max-seq-len": 40,
        "num-workers": 1,
    }
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=type(default), default=default, help=f"default {default}")
    parser.add_argument("--captions", help="another captioner's, a .jsonl, half of the captions shown")
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument("--mirror", action=argparse.BooleanOptionalAction, default=True, help="mirror half the views")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser.parse_args(argv)


def flags_of(arguments: argparse.Namespace) -> list[str]:
    """The arguments as flags of train.py; views as in presets/flickr8k.yaml, which then shares the cache."""
    output = Path(arguments.output)
    values = {
        "TASK": NAME,
        "CHECKPOINT_DIR": output.parent,
        "RUN_NAME": f"{output.name}-run",
        "ENCODER_MODEL_NAME": arguments.encoder,
        "ENCODER_IMAGE_SIZE": arguments.image_size,
        "ENCODER_TRAINABLE": "none",
        "CACHE_FEATURES": True,
        "GROUP_CAPTIONS": True,
        "AUGMENT": arguments.views > 1,
        "AUGMENT_MIRROR": arguments.mirror,
        "AUGMENT_VIEWS": arguments.views,
        "DISTILL_CAPTIONS": MIXED_IN if arguments.captions else 0,
        "NUM_WORKERS": arguments.num_workers,
        "PRECISION": arguments.precision,
        "NUM_EPOCHS": arguments.epochs,
        "BATCH_SIZE": CAPTIONS_PER_IMAGE * arguments.batch_images,
        "LEARNING_RATE": arguments.learning_rate,
        "WEIGHT_DECAY": 0.05,
        "EMA_DECAY": arguments.ema_decay,
        "LABEL_SMOOTHING": arguments.label_smoothing,
        "MAX_SEQ_LEN": arguments.max_seq_len,
        "SEED": arguments.seed,
    }
    if numbered(output.parent / values["RUN_NAME"], STEP_FILE):
        values["RESUME_CHECKPOINT_PATH"] = "latest"
    return [f"--{name.lower().replace('_', '-')}={value}" for name, value in values.items()]


def main(argv: list[str]) -> int:
    arguments = parse_arguments(argv)
    read_data(Path(arguments.data_dir))  # says so before anything else where there is none
    TASKS[NAME] = partial(build_teaching, arguments)
    return train.main(flags_of(arguments))


if __name__ == "__main__":
    run_script(main)
