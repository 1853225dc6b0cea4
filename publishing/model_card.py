"""The README.md of a captioner's folder and Hub repository, filled from the run's settings and numbers."""

from pathlib import Path

from basics.setting_rules import LANGUAGE_MODELS
from basics.settings import Settings

SCRATCH = {"scratch": "a small ViT trained from scratch", "scratch-cnn": "a small ResNet trained from scratch"}
CARD = """---
library_name: pytorch
pipeline_tag: image-to-text
tags:
- image-captioning
- image-to-text
---

# Image captioner trained on {dataset}

A vision encoder ({encoder}) and {decoder}, over {vocabulary}
of {vocab:,} tokens. {parameters:,} parameters in all.

## Results

| | |
|---|---|
{rows}

The loss is cross-entropy in nats a token on the validation split ({dataset}). No test split was looked at.

## Use

```
python inference.py photo.jpg --checkpoint PATH_OR_ID_OF_THIS_FOLDER
```

In Python `captioner.folder.load_captioner(PATH_OR_ID)` of that project loads it; transformers' `AutoModel` does not.

## Training

Batch size {batch} x {accumulation}, learning rate {lr}, label smoothing {smoothing}, seed {seed}; every setting is in
`config.json`.{taught} The licence of the pictures and of the encoder's weights also holds for what was made from them.
"""


def model_card(
    config: dict,
    parameters: int,
    settings: Settings,
    record: dict,
    results: dict | None = None,
    findings: dict | None = None,
) -> str:
    """config: of the captioner, of so many parameters; record: the epoch's line of log.jsonl; results: of evaluate.py;

    findings: what examining a teacher found.
    """
    encoder = settings.ENCODER_MODEL_NAME.rstrip("/").rsplit("/", 1)[-1]
    return CARD.format(
        dataset=settings.DATASET,
        encoder=SCRATCH.get(encoder, encoder),
        **what_writes(settings),
        vocab=config["architecture"]["decoder_vocab_size"],
        parameters=parameters,
        rows="\n".join(result_rows(record, results)),
        batch=settings.BATCH_SIZE,
        accumulation=settings.GRADIENT_ACCUMULATION_STEPS,
        lr=settings.LEARNING_RATE,
        smoothing=settings.LABEL_SMOOTHING,
        seed=settings.SEED,
        taught=how_started(settings) + how_taught(settings, findings or {}),
    )


def result_rows(record: dict, results: dict | None) -> list[str]:
    """The table of a card: the epoch's record, then scores and their signature where there are any."""
    rows = [
        f"| validation loss | {record['val_loss']:.4f} |",
        f"| training loss | {record['train_loss']:.4f} |"
        if record.get("train_loss") is not None
        else f"| training reward (CIDEr-D of samples) | {record['train_reward']:.4f} |",
        f"| epoch | {record['epoch']} |",
        f"| optimizer steps | {record['global_step']:,} |",
    ]
    for name, value in (results["scores"] if results else {}).items():
        rows.append(f"| {name}, 95% interval | {value['score']:.4f}, {value['low']:.4f} to {value['high']:.4f} |")
    if results:
        rows.append(f"| signature of the scores | `{results['signature'].replace('|', ' ')}` |")
    return rows


def what_writes(settings: Settings) -> dict[str, str]:
    """The decoder and its vocabulary in words."""
    if settings.DECODER in LANGUAGE_MODELS:
        name = settings.DECODER_MODEL_NAME.rstrip("/").rsplit("/", 1)[-1]
        adapters = f" with low-rank adapters (rank {settings.LORA_RANK})" if settings.LORA_RANK else ""
        reads = ", which sees the picture by cross-attention" if settings.DECODER == "language_model_cross" else ""
        return {
            "decoder": f"the language model {name}{adapters}{reads}, whose licence holds too",
            "vocabulary": "its vocabulary",
        }
    return {
        "decoder": f"a Transformer decoder of {settings.DECODER_LAYERS} layers, width {settings.DECODER_EMBED_DIM}",
        "vocabulary": "a byte-level BPE vocabulary" if settings.TOKENIZER == "bpe" else "its teacher's vocabulary",
    }


def how_started(settings: Settings) -> str:
    if settings.FINETUNE_FROM is None:
        return ""
    return f" It started from the captioner {Path(settings.FINETUNE_FROM).name}, whose licences hold for it too."


def how_taught(settings: Settings, findings: dict) -> str:
    """A sentence on distillation; nothing of the teacher itself is in the model."""
    if settings.DISTILL is None:
        return ""
    if settings.DISTILL == "momentum":
        return f" It also learned from the moving average of its own weights (share {settings.DISTILL_ALPHA:g})."
    parts = []
    if settings.DISTILL_ALPHA:
        found = f", {findings['supervised']:.0%} of the targets, {findings['kept']:.0%} kept" if findings else ""
        kept = f"{settings.DISTILL_TOP_K} likeliest tokens{found}"
        parts.append(f"its predictions (share {settings.DISTILL_ALPHA:g}, {kept})")
    if settings.DISTILL_CAPTIONS:
        parts.append(f"its captions in {settings.DISTILL_CAPTIONS:.0%} of the pairs")
    if settings.DISTILL_FEATURES:
        parts.append(f"its features ({settings.DISTILL_FEATURES})")
    teacher = settings.TEACHER_MODEL_NAME.rstrip("/").removesuffix("/best").rsplit("/", 1)[-1]
    return f" It also learned from the teacher {teacher}: {', '.join(parts)}."
