"""The README.md of a classifier's folder and Hub repository, filled from the run's settings and numbers."""

from basics.settings import Settings
from classifier.folder import Classifier
from networks.small_resnet import SmallResNetConfig
from publishing.model_card import SCRATCH, how_taught, result_rows

CARD = """---
library_name: {library}
pipeline_tag: image-classification
tags:
- image-classification
---

# Image classifier trained on {dataset}

{encoder}, {parameters:,} parameters, for {count:,} classes: {classes}.

## Results

| | |
|---|---|
{rows}

The loss is cross-entropy in nats a picture on the validation split ({dataset}). No test split was looked at.

## Use

```
python inference.py photo.jpg --checkpoint PATH_OR_ID_OF_THIS_FOLDER
```
{elsewhere}
## Training

Batch size {batch} x {accumulation}, learning rate {lr}, label smoothing {smoothing}, seed {seed}; every setting is in
`training.json`.{taught} The licences of the pictures and of the encoder's weights hold for what was made from them.
"""
ELSEWHERE = """
Without that project, with transformers:

```python
from transformers import pipeline

print(pipeline("image-classification", model=PATH_OR_ID_OF_THIS_FOLDER)("photo.jpg"))
```
"""


def classifier_card(
    classifier: Classifier,
    parameters: int,
    settings: Settings,
    record: dict,
    results: dict | None = None,
    findings: dict | None = None,
) -> str:
    """record: the epoch's line of log.jsonl; results: of evaluate.py; findings: what examining a teacher found."""
    encoder, classes = settings.ENCODER_MODEL_NAME.rstrip("/").rsplit("/", 1)[-1], classifier.classes
    ours = classifier.model.encoder.backbone.config.model_type == SmallResNetConfig.model_type
    return CARD.format(
        library="pytorch" if ours else "transformers",
        dataset=settings.DATASET,
        encoder=SCRATCH.get(encoder, encoder),
        parameters=parameters,
        count=len(classes),
        classes=", ".join(classes[:20]) + ", ..." * (len(classes) > 20),
        rows="\n".join(result_rows(record, results)),
        elsewhere="" if ours else ELSEWHERE,
        batch=settings.BATCH_SIZE,
        accumulation=settings.GRADIENT_ACCUMULATION_STEPS,
        lr=settings.LEARNING_RATE,
        smoothing=settings.LABEL_SMOOTHING,
        seed=settings.SEED,
        taught=taught_by(settings, findings or {}),
    )


def taught_by(settings: Settings, findings: dict) -> str:
    """A sentence on distillation; nothing of the teacher itself is in the model."""
    if settings.DISTILL != "teacher":
        return how_taught(settings, {})
    teacher = settings.TEACHER_MODEL_NAME.rstrip("/").removesuffix("/best").rsplit("/", 1)[-1]
    found = f", top-1 {findings['top1']:.1%}" if findings else ""
    answers = f"its answers (share {settings.DISTILL_ALPHA:g}, {settings.DISTILL_LOSS})"
    parts = [answers] if settings.DISTILL_ALPHA else []
    parts += [f"its features ({settings.DISTILL_FEATURES})"] if settings.DISTILL_FEATURES else []
    return f" It also learned from the teacher {teacher}{found}: {' and '.join(parts)}."
