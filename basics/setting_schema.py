"""What each setting is: its type, its allowed words, its bounds. config.py has its value and says what it does."""

import operator
from dataclasses import dataclass
from typing import Any, Literal

MOST = 2**31 - 1


@dataclass(frozen=True)
class Setting:
    """A setting's type, as an annotation would have it, and bounds where it is a number.

    multiple_of names the setting that must divide it. A number without a bound above has MOST: what no run needs, and
    libraries still count with.
    """

    type: Any
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    multiple_of: str | None = None

    def broken_bounds(self, value: float) -> list[str]:
        """["at least 1"], or [] where the value keeps to its bounds."""
        bounds = (
            ("at least", self.at_least, operator.ge),
            ("above", self.above, operator.gt),
            ("at most", MOST if self.at_most is None and self.below is None else self.at_most, operator.le),
            ("below", self.below, operator.lt),
        )
        return [f"{words} {bound}" for words, bound, holds in bounds if bound is not None and not holds(value, bound)]


SCHEMA: dict[str, Setting] = {
    # Data
    "DATASET": Setting(
        Literal["shapes", "flickr8k", "flickr30k", "coco", "folder", "webdataset", "cifar10", "cifar100"]
    ),
    "RAW_DIR": Setting(str | None),
    "SHARDS": Setting(str | None),
    "DATA_DIR": Setting(str),
    "FLICKR30K_REPO_ID": Setting(str),
    "VAL_FRACTION": Setting(float, at_least=0, at_most=0.5),
    "TEST_FRACTION": Setting(float, at_least=0, at_most=0.5),
    "BAD_IMAGE_LIMIT": Setting(float, at_least=0, at_most=1),
    "MAX_IMAGE_MEGAPIXELS": Setting(float, above=0, at_most=178),  # Pillow opens none with more
    "SHAPES_NUM_IMAGES": Setting(int, at_least=20, at_most=1_000_000),
    # Tokenizer
    "TOKENIZER": Setting(Literal["bpe", "teacher"]),
    "VOCAB_PATH": Setting(str),
    "MERGES_PATH": Setting(str),
    "VOCAB_SIZE": Setting(int, at_least=260, at_most=1_000_000),
    "MIN_FREQUENCY": Setting(int, at_least=1),
    "LOWERCASE": Setting(bool),
    "MAX_SEQ_LEN": Setting(int, at_least=4, at_most=4096),
    # Loading
    "NUM_WORKERS": Setting(int, at_least=0),
    "GROUP_CAPTIONS": Setting(bool),
    "AUGMENT": Setting(bool),
    "RANDAUGMENT_OPS": Setting(int, at_least=0, at_most=16),
    "RANDOM_ERASING": Setting(float, at_least=0, at_most=1),
    "AUGMENT_MIRROR": Setting(bool),
    "CACHE_FEATURES": Setting(bool),
    "AUGMENT_VIEWS": Setting(int, at_least=1, at_most=1000),
    # Encoder
    "ENCODER_MODEL_NAME": Setting(str),
    "ENCODER_TRAINABLE": Setting(int | Literal["none", "all"], at_least=1),
    "ENCODER_LEARNING_RATE": Setting(float | None, above=0),
    "ENCODER_IMAGE_SIZE": Setting(int | None, at_least=1, at_most=4096),
    "SCRATCH_IMAGE_SIZE": Setting(int, at_least=1, at_most=4096, multiple_of="SCRATCH_PATCH_SIZE"),
    "SCRATCH_PATCH_SIZE": Setting(int, at_least=1, at_most=4096),
    "SCRATCH_EMBED_DIM": Setting(int, at_least=1, at_most=65_536, multiple_of="SCRATCH_HEADS"),
    "SCRATCH_LAYERS": Setting(int, at_least=1, at_most=1000),
    "SCRATCH_HEADS": Setting(int, at_least=1, at_most=1024),
    # Decoder
    "DECODER": Setting(str),
    "DECODER_EMBED_DIM": Setting(int, at_least=1, at_most=65_536, multiple_of="DECODER_HEADS"),
    "DECODER_HEADS": Setting(int, at_least=1, at_most=1024),
    "DECODER_LAYERS": Setting(int, at_least=1, at_most=1000),
    "DECODER_FF_DIM": Setting(int, at_least=1, at_most=262_144),
    "DECODER_DROPOUT": Setting(float, at_least=0, below=1),
    "DECODER_MODEL_NAME": Setting(str | None),
    "PREFIX_TOKENS": Setting(int | None, at_least=1, at_most=4096),
    "PROMPT": Setting(str),
    "DECODER_TRAINABLE": Setting(int | Literal["none", "all"], at_least=1),
    "DECODER_FROZEN_PRECISION": Setting(Literal["fp32", "bf16"]),
    "GRADIENT_CHECKPOINTING": Setting(bool),
    "LORA_RANK": Setting(int, at_least=0, at_most=4096),
    "LORA_ALPHA": Setting(int, at_least=1, at_most=1_000_000),
    "LORA_MERGE": Setting(bool),
    "LORA_TARGETS": Setting(str | None),
    # Training
    "TASK": Setting(str),
    "LOSS": Setting(str),
    "FINETUNE_FROM": Setting(str | None),
    "NUM_EPOCHS": Setting(int | Literal["auto"], at_least=1),
    "BATCH_SIZE": Setting(int, at_least=1),
    "GRADIENT_ACCUMULATION_STEPS": Setting(int, at_least=1),
    "LEARNING_RATE": Setting(float, above=0),
    "LR_SCHEDULE": Setting(Literal["linear", "cosine", "constant"]),
    "WARMUP_STEPS": Setting(int | float, at_least=0),
    "WEIGHT_DECAY": Setting(float, at_least=0),
    "ADAM_BETA2": Setting(float, above=0, below=1),
    "GRADIENT_CLIP_NORM": Setting(float | None, above=0),
    "EMA_DECAY": Setting(float | None, above=0, below=1),
    "LABEL_SMOOTHING": Setting(float, at_least=0, below=1),
    "PRECISION": Setting(Literal["auto", "fp32", "bf16", "fp16"]),
    "DEVICE": Setting(str | None),
    "PARALLEL": Setting(Literal["ddp", "fsdp"]),
    "SEED": Setting(int, at_least=0),
    # Classification
    "MIXUP_ALPHA": Setting(float, at_least=0),
    "CUTMIX_ALPHA": Setting(float, at_least=0),
    # Self-critical training, after NUM_EPOCHS of cross-entropy
    "SCST_EPOCHS": Setting(int, at_least=0),
    "SCST_LEARNING_RATE": Setting(float, above=0),
    "SCST_SAMPLES": Setting(int, at_least=2, at_most=1000),
    "SCST_SAMPLING": Setting(Literal["sample", "beam"]),
    "SCST_BASELINE": Setting(Literal["samples", "greedy"]),
    # Distillation, while cross-entropy is trained
    "DISTILL": Setting(Literal["teacher", "momentum"] | None),
    "TEACHER_MODEL_NAME": Setting(str | None),
    "DISTILL_ALPHA": Setting(float, at_least=0, at_most=1),
    "DISTILL_TEMPERATURE": Setting(float, above=0),
    "DISTILL_TOP_K": Setting(int, at_least=1),
    "DISTILL_CACHE": Setting(bool),
    "DISTILL_CAPTIONS": Setting(float, at_least=0, at_most=1),
    "DISTILL_BEAMS": Setting(int, at_least=1, at_most=1000),
    "DISTILL_LOSS": Setting(Literal["kl", "decoupled", "hard"]),
    "DISTILL_BETA": Setting(float, at_least=0),
    "DISTILL_STANDARDIZE": Setting(bool),
    "DISTILL_FEATURES": Setting(str | None),
    "DISTILL_FEATURE_WEIGHT": Setting(float, above=0),
    # Validation
    "VALIDATION_INTERVAL": Setting(int, at_least=1),
    "BEST_METRIC": Setting(Literal["val_loss", "cider", "top1"]),
    "EARLY_STOPPING_PATIENCE": Setting(int | None, at_least=1),
    "NUM_SAMPLE_CAPTIONS": Setting(int, at_least=0),
    "NUM_VALIDATION_CAPTIONS": Setting(int, at_least=0),
    "REPORT_UTILISATION": Setting(bool),
    "CLIP_SCORE_MODEL_NAME": Setting(str | None),
    # Checkpoints
    "CHECKPOINT_DIR": Setting(str),
    "RUN_NAME": Setting(str | None),
    "RESUME_CHECKPOINT_PATH": Setting(str | None),
    "CHECKPOINT_EVERY_STEPS": Setting(int | None, at_least=1),
    "KEEP_LAST_N": Setting(int, at_least=1),
    # Captions (inference.py has a flag for each)
    "BEAM_SIZE": Setting(int, at_least=1, at_most=1000),
    "LENGTH_PENALTY": Setting(float, at_least=0),
    "TEMPERATURE": Setting(float, at_least=0),
    "TOP_K": Setting(int, at_least=0),
    "TOP_P": Setting(float, above=0, at_most=1),
    # Weights & Biases, Hugging Face Hub
    "WANDB_MODE": Setting(Literal["off", "online", "offline"]),
    "WANDB_PROJECT": Setting(str),
    "HUB_REPO_ID": Setting(str | None),
    "HUB_PRIVATE": Setting(bool),
}
