"""A GIT teacher for distill.py where none can be downloaded: GIT around a frozen encoder, trained on prepared captions.

    python -m benchmarks.git_teacher --data-dir data/flickr8k --encoder FOLDER --image-size 260 --output teacher

The encoder's features come from the cache that train.py makes and reads, so no picture is encoded twice. Each image is
once in a batch, with all its captions in WordPieces of their own; --captions mixes in those of another captioner, which
a run with DISTILL_CAPTIONS leaves in --data-dir/teacher/captions-*.jsonl. The averaged weights of the epoch with the
lowest validation loss are kept in --output, which git_model.load_git reads; at the end they caption the validation
pictures.
"""

import argparse
import json
import math
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from tqdm import tqdm

from basics.devices import autocast, pick_device, pick_precision
from basics.errors import UserError, run_script
from basics.settings import Settings, load_settings
from dataset import ImageTextDataset, make_loader, start_epoch, to_device
from distillation.teacher import wordpieces
from networks.decoding_options import DecodingOptions
from networks.encoder import load_encoder
from networks.git import GitParts, build_git, caption_logits, load_git, save_git, train_wordpiece
from prepare_dataset import PreparedData, is_prepared, read_prepared
from scoring.metrics import score_captions
from training.ema import WeightAverage
from training.feature_cache import cached_features
from training.optimizer import make_optimizer, make_scheduler

CAPTIONS_PER_IMAGE = 5  # what makes --batch-images a number of captions
WARMUP = 0.05  # share of all steps
MIXED_IN = 0.5  # share of captions shown that are those of --captions


def read_data(data_dir: Path) -> PreparedData:
    """Raises UserError where there is none, or nothing to train or to validate on."""
    if not is_prepared(data_dir):
        raise UserError(f"{data_dir} holds no prepared data; expected what prepare_dataset.py writes, as data/flickr8k")
    data = read_prepared(data_dir)
    if empty := [split for split in ("train", "val") if not data.splits.get(split)]:
        raise UserError(f"{data_dir} has no pictures in {empty[0]}, which a teacher needs")
    return data


def make_settings(arguments: argparse.Namespace, num_captions: int) -> Settings:
    """The arguments in the names of config.py; views as in presets/flickr8k.yaml, which then shares the cache."""
    batch_size = CAPTIONS_PER_IMAGE * arguments.batch_images
    steps = arguments.epochs * math.ceil(num_captions / batch_size)
    settings = load_settings(
        ENCODER_MODEL_NAME=arguments.encoder,
        ENCODER_IMAGE_SIZE=arguments.image_size,
        ENCODER_TRAINABLE="none",
        CACHE_FEATURES=True,
        GROUP_CAPTIONS=True,
        AUGMENT=arguments.views > 1,
        AUGMENT_MIRROR=arguments.mirror,
        AUGMENT_VIEWS=arguments.views,
        NUM_WORKERS=arguments.num_workers,
        PRECISION=arguments.precision,
        NUM_EPOCHS=arguments.epochs,
        BATCH_SIZE=batch_size,
        LEARNING_RATE=arguments.learning_rate,
        LR_SCHEDULE="cosine",
        WARMUP_STEPS=int(WARMUP * steps),
        WEIGHT_DECAY=0.05,
        ADAM_BETA2=0.98,
        EMA_DECAY=arguments.ema_decay,
        LABEL_SMOOTHING=arguments.label_smoothing,
        DECODER_DROPOUT=arguments.dropout,
        DECODER_EMBED_DIM=arguments.hidden_size,
        DECODER_HEADS=arguments.heads,
        DECODER_LAYERS=arguments.layers,
        MAX_SEQ_LEN=arguments.max_seq_len,
        SEED=arguments.seed,
    )
    data_dir = Path(arguments.data_dir)  # any folder, not only those that DATASET names
    return settings.replace(DATA_DIR=str(data_dir.parent), DATASET=data_dir.name)


def make_parts(settings: Settings, captions: list[str], vocab_size: int) -> GitParts:
    torch.manual_seed(settings.SEED)
    encoder, image_processor = load_encoder(settings)
    tokenizer = train_wordpiece(captions, vocab_size)
    return build_git(
        encoder,
        image_processor,
        tokenizer,
        hidden_size=settings.DECODER_EMBED_DIM,
        layers=settings.DECODER_LAYERS,
        heads=settings.DECODER_HEADS,
        intermediate_size=4 * settings.DECODER_EMBED_DIM,
        dropout=settings.DECODER_DROPOUT,
        max_positions=settings.MAX_SEQ_LEN,
    )


def make_datasets(
    parts: GitParts, data: PreparedData, settings: Settings, device: torch.device, dtype: torch.dtype
) -> list[ImageTextDataset]:
    """Train and val, which read cached features."""
    datasets, encoder, tokenizer = [], parts.model.git.image_encoder.encoder, wordpieces(parts.tokenizer)
    for split in ("train", "val"):
        dataset = ImageTextDataset(data, split, tokenizer, parts.image_processor, settings)
        dataset.features = cached_features(encoder, parts.image_processor, dataset, settings, device, dtype)
        datasets.append(dataset)
    return datasets


def read_captions(path: Path, names: list[str]) -> list[str]:
    """The caption of each named picture in a .jsonl of {"image", "caption"}. Raises UserError where one has none."""
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        captions = {line["image"]: line["caption"] for line in lines}
        return [captions[name] for name in names]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f'--captions {path}: {error}; expected a line {{"image": ..., "caption": ...}} for each training picture'
        ) from None


def batch_loss(model: nn.Module, batch: dict, label_smoothing: float = 0.0) -> tuple[Tensor, int]:
    """batch of dataset.collate_fn -> (nats of its N real targets, N)."""
    num_images, num_captions = len(batch["images"]), len(batch["target_tokens"])
    index = batch["image_index"]
    if index is None:
        index = torch.arange(num_images, device=batch["images"].device).repeat_interleave(num_captions // num_images)
    logits = caption_logits(model, batch["images"].unsqueeze(1), batch["decoder_input_tokens"], index)
    mask = batch["target_mask"]
    targets = batch["target_tokens"][mask]
    loss = F.cross_entropy(logits[mask].float(), targets, label_smoothing=label_smoothing, reduction="sum")
    return loss, len(targets)


def train_epoch(model, loader: DataLoader, optimizer, scheduler, average, settings, device, dtype, epoch) -> float:
    """One pass over the captions -> their mean loss in nats a token. Raises UserError when it is no longer finite."""
    model.train()
    start_epoch(loader, epoch, 0)
    total, num_tokens = 0.0, 0
    title = f"epoch {epoch + 1}/{settings.NUM_EPOCHS}"
    for batch in (bar := tqdm(loader, desc=title, leave=False, disable=None, unit=" steps")):
        with autocast(device, dtype):
            loss, count = batch_loss(model, to_device(batch, device), settings.LABEL_SMOOTHING)
        (loss / count).backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), settings.GRADIENT_CLIP_NORM)
        if not math.isfinite(loss.item() + norm.item()):
            raise UserError(f"the loss is no longer finite in epoch {epoch + 1}; try a lower --learning-rate")
        optimizer.step()
        scheduler.step()
        average.update(model)
        optimizer.zero_grad(set_to_none=True)
        total, num_tokens = total + loss.item(), num_tokens + count
        bar.set_postfix(loss=f"{total / num_tokens:.3f}", refresh=False)
    return total / num_tokens


@torch.inference_mode()
def validate(model: nn.Module, loader: DataLoader, device: torch.device, dtype: torch.dtype) -> tuple[float, float]:
    """Mean loss in (nats a token, nats a caption)."""
    model.eval()
    start_epoch(loader, 0, 0)
    total, num_tokens, num_captions = 0.0, 0, 0
    for batch in loader:
        with autocast(device, dtype):
            loss, count = batch_loss(model, to_device(batch, device))
        total, num_tokens = total + loss.item(), num_tokens + count
        num_captions += len(batch["target_tokens"])
    return total / num_tokens, total / num_captions


def fit(parts: GitParts, train_set, val_set, settings: Settings, device, dtype, output: Path) -> None:
    """Train NUM_EPOCHS; the best so far is always whole in output."""
    pad_id = parts.tokenizer.pad_token_id
    train_loader = make_loader(train_set, settings, pad_id, shuffle=True)
    val_loader = make_loader(val_set, settings, pad_id, shuffle=False)
    optimizer = make_optimizer(parts.model, settings)
    scheduler = make_scheduler(optimizer, settings, settings.NUM_EPOCHS * len(train_loader))
    average, best = WeightAverage(parts.model, settings.EMA_DECAY), math.inf
    for epoch in range(settings.NUM_EPOCHS):
        started = time.perf_counter()
        loss = train_epoch(parts.model, train_loader, optimizer, scheduler, average, settings, device, dtype, epoch)
        with average.applied(parts.model):
            a_token, a_caption = validate(parts.model, val_loader, device, dtype)
            is_best = a_token < best
            if is_best:
                best = a_token
                save_git(parts, output)
        print(
            f"epoch {epoch + 1:>3}/{settings.NUM_EPOCHS}  train_loss {loss:.4f}  val_loss {a_token:.4f} nats a token, "
            f"{a_caption:.3f} a caption{' best' if is_best else ''}  {time.perf_counter() - started:.0f} s",
            flush=True,
        )


def caption_split(parts: GitParts, dataset: ImageTextDataset, settings: Settings, device, dtype) -> list[str]:
    """A greedy caption of every picture, from its features."""
    captions, size = [], settings.BATCH_SIZE // CAPTIONS_PER_IMAGE
    for start in tqdm(range(0, len(dataset.names), size), desc="captioning", leave=False, disable=None):
        numbers = list(range(start, min(start + size, len(dataset.names))))
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


def main(argv: list[str]) -> None:
    arguments = parse_arguments(argv)
    data = read_data(Path(arguments.data_dir))
    captions = data.captions_of("train")
    mixed_in = read_captions(Path(arguments.captions), data.splits["train"]) if arguments.captions else None
    settings, output = make_settings(arguments, len(captions)), Path(arguments.output)
    device = pick_device(None)
    dtype = pick_precision(settings, device)
    parts = make_parts(settings, captions, arguments.vocab_size)
    parts.model.to(device)
    trained = sum(p.numel() for p in parts.model.parameters() if p.requires_grad)
    total = sum(p.numel() for p in parts.model.parameters())
    pieces = len(parts.tokenizer)
    print(f"teacher      {trained:,} parameters trained, {total - trained:,} frozen; {pieces:,} WordPieces")
    train_set, val_set = make_datasets(parts, data, settings, device, dtype)
    if mixed_in:
        train_set.mix_in(mixed_in, MIXED_IN, wordpieces(parts.tokenizer))
    fit(parts, train_set, val_set, settings, device, dtype, output)

    parts = load_git(output)
    parts.model.to(device)
    found = caption_split(parts, val_set, settings, device, dtype)
    scores = score_captions(found, val_set.references).mean
    print(
        f"greedy       CIDEr-D {scores['CIDEr-D']:.4f}  BLEU-4 {scores['BLEU-4']:.4f}  "
        f"{len(set(found)):,} distinct captions of {len(found):,}  {total:,} parameters"
    )
    print(f"saved        {output}")


if __name__ == "__main__":
    run_script(main)
