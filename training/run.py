"""A run: what training changes or needs, made fresh from the settings or put back where a checkpoint left off."""

import math
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import torch
import transformers

from basics.checkpoint_file import STEP_FILE, numbered
from basics.devices import make_scaler, pick_device, pick_precision
from basics.errors import UserError
from basics.settings import ARCHITECTURE, Settings
from captioner.folder import Captioner, captioner_config, captioner_from_checkpoint, load_captioner
from model import ImageToTextModel
from networks.encoder import VisionEncoder, describe_encoder, load_encoder, token_shape
from tokenizer import CaptionTokenizer
from training.ema import WeightAverage
from training.optimizer import make_optimizer, make_scheduler
from training.progress import Progress

IN_THE_MIDDLE = ("BATCH_SIZE", "GROUP_CAPTIONS", "SEED", "GRADIENT_ACCUMULATION_STEPS")  # decide what a position means
KEPT = (*ARCHITECTURE, "FINETUNE_FROM")  # of a run that goes on


@dataclass
class Run:
    """All that training changes or needs; checkpoint.py saves it and puts it back."""

    settings: Settings
    folder: Path
    model: ImageToTextModel
    tokenizer: CaptionTokenizer
    image_processor: object
    encoder_files: dict[str, str]
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LambdaLR
    scaler: torch.amp.GradScaler
    average: WeightAverage
    device: torch.device
    dtype: torch.dtype
    progress: Progress
    teaching: object = None  # teaching.Teaching: what DISTILL "git" learns from

    @property
    def captioner(self) -> Captioner:
        config = captioner_config(self.model, self.tokenizer, self.settings.to_dict(), self.progress.epoch)
        return Captioner(self.model, self.tokenizer, self.image_processor, config)


def start_run(
    settings: Settings, tokenizer: CaptionTokenizer, num_pairs: int, folder: Path, origin: Captioner | None = None
) -> Run:
    """A fresh run over num_pairs training pairs: model, optimizer and schedule as settings and seed make them.

    origin: the captioner whose weights it starts from.
    """
    batches = math.ceil(num_pairs / settings.BATCH_SIZE)
    steps = math.ceil(batches / settings.GRADIENT_ACCUMULATION_STEPS)  # of an epoch
    device = pick_device(settings.DEVICE)
    dtype = pick_precision(settings, device)
    torch.manual_seed(settings.SEED)
    if origin:
        encoder, image_processor = origin.model.encoder, origin.image_processor
        encoder.set_trainable(settings.ENCODER_TRAINABLE)
    else:
        encoder, image_processor = load_encoder(settings)
    num_image_tokens, encoder_embed_dim = token_shape(encoder, image_processor)
    model = make_model(encoder, encoder_embed_dim, tokenizer, settings).to(device)
    if origin:
        model.load_state_dict(origin.model.state_dict())
    if settings.DISTILL == "git" and settings.DISTILL_FEATURES:
        from distillation.feature_distill import add_feature_loss  # the teacher takes its time to import

        add_feature_loss(model, image_processor, settings, device)
    optimizer = make_optimizer(model, settings)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    frozen = sum(p.numel() for p in model.parameters()) - trained
    print(f"tokenizer    {len(tokenizer):,} tokens, {vocabulary_source(settings)} (hash {tokenizer.hash})")
    print(
        f"model        {trained:,} parameters trained, {frozen:,} frozen; encoder "
        f"{settings.ENCODER_MODEL_NAME}, {num_image_tokens} image tokens"
    )
    print(
        f"device       {device}, {str(dtype).removeprefix('torch.')}, torch {torch.__version__}, transformers "
        f"{transformers.__version__}"
    )
    return Run(
        settings,
        folder,
        model,
        tokenizer,
        image_processor,
        describe_encoder(encoder, image_processor),
        optimizer,
        make_scheduler(optimizer, settings, settings.NUM_EPOCHS * steps, settings.SCST_EPOCHS * steps),
        make_scaler(device, dtype),
        WeightAverage(model, settings.EMA_DECAY),
        device,
        dtype,
        Progress(num_pairs=num_pairs),
    )


def make_model(
    encoder: VisionEncoder, encoder_embed_dim: int, tokenizer: CaptionTokenizer, settings: Settings
) -> ImageToTextModel:
    """A fresh decoder over the encoder, as the settings have it."""
    return ImageToTextModel(
        encoder,
        encoder_embed_dim,
        decoder_vocab_size=len(tokenizer),
        decoder_embed_dim=settings.DECODER_EMBED_DIM,
        decoder_heads=settings.DECODER_HEADS,
        decoder_layers=settings.DECODER_LAYERS,
        decoder_ff_dim=settings.DECODER_FF_DIM,
        decoder_max_seq_len=settings.MAX_SEQ_LEN,
        decoder_dropout=settings.DECODER_DROPOUT,
        decoder_pad_idx=tokenizer.pad_id,
    )


def vocabulary_source(settings: Settings) -> str | Path:
    taken = settings.TEACHER_MODEL_NAME if settings.TOKENIZER == "teacher" else None
    return settings.FINETUNE_FROM or taken or settings.vocab_path


def choose_folder(settings: Settings, resume: Path | None, checkpoint: dict | None) -> Path:
    """The run's folder. Raises UserError where an older run's files would be overwritten."""
    name = settings.RUN_NAME or f"{settings.DATASET}-{datetime.now():%Y%m%d-%H%M%S}"
    folder = resume.parent if resume and settings.RUN_NAME is None else Path(settings.CHECKPOINT_DIR) / name
    steps = numbered(folder, STEP_FILE)
    if resume and folder.resolve() == resume.parent.resolve():
        if steps and number_of(steps[-1]) > checkpoint["global_step"]:
            raise UserError(
                f"{folder} goes on after {resume.name} ({steps[-1].name}); resume the latest, or branch off "
                "with another --run-name"
            )
        return folder
    there = [*steps, *folder.glob("log.jsonl")]
    if resume is None:  # a branch that came to nothing has left the best/ it brought along
        there += folder.glob("best")
    if there:
        raise UserError(
            f"{folder} already holds a run ({there[0].name}); take another --run-name, or continue it with "
            "--resume-checkpoint-path latest if it has checkpoints"
        )
    return folder


def number_of(path: Path) -> int:
    return int(STEP_FILE.fullmatch(path.name)[1])


def settings_for_resume(settings: Settings, checkpoint: dict, path: Path) -> Settings:
    """The checkpoint's architecture, today's other settings; every difference is printed."""
    old = checkpoint["config"]
    changed = {name: old[name] for name in settings.to_dict() if name in old and old[name] != getattr(settings, name)}
    changed.pop("RESUME_CHECKPOINT_PATH", None)
    in_the_middle = checkpoint["progress"]["batches_done"] > 0
    for name in IN_THE_MIDDLE:
        if in_the_middle and name in changed:
            raise UserError(
                f"{path} stops in the middle of an epoch, where {name} must stay {old[name]} "
                f"(now {getattr(settings, name)}); change it at the end of an epoch"
            )
    phases = [checkpoint["epoch"] < epochs for epochs in (old["NUM_EPOCHS"], settings.NUM_EPOCHS)]
    if in_the_middle and phases[0] != phases[1]:
        raise UserError(
            f"{path} stops in the middle of epoch {checkpoint['epoch'] + 1}, which NUM_EPOCHS {settings.NUM_EPOCHS} "
            f"would move across the start of self-critical training; keep {old['NUM_EPOCHS']} until its end"
        )
    print(f"resume       {path} (epoch {checkpoint['epoch'] + 1}, step {checkpoint['global_step']:,})")
    for name, value in changed.items():
        if name not in KEPT:
            print(f"             {name} is now {getattr(settings, name)!r}, was {value!r}")
    return keep_architecture(settings, old, KEPT)


def keep_architecture(settings: Settings, old: dict, names: tuple[str, ...] = ARCHITECTURE) -> Settings:
    """The settings with what the old ones say of the model's shape and its tokens; every difference is printed."""
    kept = {name: old[name] for name in names if name in old and old[name] != getattr(settings, name)}
    for name, value in kept.items():
        print(f"             {name} stays {value!r} as it was trained, not {getattr(settings, name)!r}")
    return settings.replace(**kept)


def load_origin(settings: Settings, checkpoint: dict | None, resume: Path | None) -> Captioner | None:
    """The captioner that training starts from, None without FINETUNE_FROM; a run that goes on no longer needs it.

    Raises UserError where it cannot be loaded.
    """
    if settings.FINETUNE_FROM is None:
        return None
    if checkpoint:
        return captioner_from_checkpoint(checkpoint, resume)
    origin = load_captioner(settings.FINETUNE_FROM)
    print(f"finetune     {settings.FINETUNE_FROM}")
    trainable = origin.config["settings"].get("ENCODER_TRAINABLE")
    if trainable != settings.ENCODER_TRAINABLE:
        print(f"             ENCODER_TRAINABLE is now {settings.ENCODER_TRAINABLE!r}, was {trainable!r}")
    return origin
