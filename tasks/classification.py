"""Classification as a task of train.py: labelled pictures in, an image classifier out.

task = build_classification(settings, resumed, processes)       # pictures, classes, model, loaders: in that order
"""

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from basics.devices import autocast, pick_device, pick_precision
from basics.errors import UserError
from basics.files import write_atomically
from basics.setting_rules import FROM_NOTHING
from basics.settings import Settings
from basics.text import json_text
from classifier.folder import (
    Classifier,
    classifier_from_checkpoint,
    classifier_parts,
    load_classifier,
    save_classifier,
    training_config,
)
from dataset import SplitPictures
from distillation.label_teacher import LabelTeacher, answers_found, look_along, look_once
from distillation.labels import LabelDistillLoss, LabelFeatureLoss, LabelMomentumLoss, Teach, add_label_feature_loss
from losses.criterion import Criterion
from losses.labels import LabelLoss
from networks.classifier import ImageClassifier
from networks.classifiers import build_classifier
from networks.parameters import count_parameters
from publishing.classifier_card import classifier_card
from scoring.confusion_picture import plot_confusion
from scoring.label_evaluation import label_record, score_label_evaluation
from scoring.label_report import format_label_evaluation
from scoring.labels import score_labels
from sources.classes.kind import Classes, classes_of
from sources.pictures import Pictures, spread
from sources.prepare import prepare, preparing
from tasks.captioning_notes import say_long_warm_up
from training.feature_cache import cached_features
from training.labelled import LabelledLoader, LabelledPictures
from training.mixing import mixing
from training.optimizer import learning_rate_factor, warmup_steps
from training.processes import Processes, main_first
from training.reporting import print_device, say_final
from training.resume import Resumed, settle_attention
from training.run import Run, Validation, steps_per_epoch
from training.stopping import StopSignal

BATCH = 64  # pictures classified at once, beside training
FEW_STEPS = 500  # of an optimizer; the drawn shapes take a thousand


@dataclass
class Classification:
    """A Task: labelled pictures, an ImageClassifier, and a folder that transformers loads as best/."""

    settings: Settings
    device: torch.device
    dtype: torch.dtype
    classifier: Classifier
    train: LabelledLoader
    val: LabelledLoader
    teacher: LabelTeacher | None
    teach: Teach | None  # the teacher's logits of a batch
    findings: dict[str, float]  # of examining the teacher, empty without one
    parts: dict
    processes: Processes

    val_criterion = LabelLoss()

    @property
    def model(self) -> ImageClassifier:
        return self.classifier.model

    @property
    def num_epochs(self) -> int:
        return int(self.settings.NUM_EPOCHS)

    def schedule(self, step: int, steps_per_epoch: int) -> float:
        steps = self.num_epochs * steps_per_epoch
        return learning_rate_factor(step, warmup_steps(self.settings, steps), steps, self.settings.LR_SCHEDULE)

    def criterion(self, run: Run) -> Criterion:
        settings = self.settings
        if settings.DISTILL == "momentum":
            steps = steps_per_epoch(self.train, settings)
            return LabelMomentumLoss(self.model, run.average, settings, run.progress, steps)
        inner = LabelDistillLoss(self.teach, settings) if self.teach else LabelLoss(settings.LABEL_SMOOTHING)
        if self.teacher is None or not settings.DISTILL_FEATURES:
            return inner
        return LabelFeatureLoss(inner, self.model, self.teacher, settings)

    def validate(self, run: Run, record: dict, stop: StopSignal) -> Validation:
        """Answers to all validation pictures -> top-1, top-5, and a few to look at."""
        dataset = self.val.dataset

        def answer(numbers: list[int]) -> list[Tensor]:
            stop.check()
            return [*self.logits(self.classifier, dataset.seen(numbers)["images"])]

        logits = self.answers(answer)
        labels, paths = dataset.labels.numpy(), dataset.pictures
        scores = score_labels(logits, labels).mean
        probabilities = torch.from_numpy(logits).softmax(-1)
        samples = []
        for i in spread(self.settings.NUM_SAMPLE_CAPTIONS, len(labels)):
            best, classes = int(probabilities[i].argmax()), self.classifier.classes
            text = f"{classes[best]}  {float(probabilities[i, best]):.3f}"
            samples.append((paths.path(i), text, [classes[labels[i]]]))
        found = {name.replace("-", ""): scores[name] for name in ("top-1", "top-5") if name in scores}
        warnings = self.better_than_teacher(found["top1"])
        words = ", ".join(f"{name} {scores[name]:.1%}" for name in ("top-1", "top-5") if name in scores)
        return Validation(found | {"warnings": warnings}, samples, f"answers: {words} of {len(labels):,} pictures")

    def better_than_teacher(self, top1: float) -> list[str]:
        if top1 <= self.findings.get("top1", 1.0):
            return []
        return [
            f"the student's top-1, {top1:.1%}, is above its teacher's, {self.findings['top1']:.1%}: lower "
            "DISTILL_ALPHA, or take a better teacher"
        ]

    def logits(self, classifier: Classifier, pixels: Tensor) -> Tensor:
        with autocast(self.device, self.dtype):
            return classifier.logits(pixels).cpu()

    def answers(self, answer: Callable[[list[int]], list[Tensor]]) -> np.ndarray:
        """Logits of all validation pictures, (N, C), worked out by all processes."""
        numbers = range(len(self.val.dataset))
        parts = [[*numbers[start : start + BATCH]] for start in range(0, len(numbers), BATCH)]

        def work(own: list[list[int]]) -> list[list[Tensor]]:
            return [answer(part) for part in own]

        with self.model.gathered():
            return torch.stack([row for rows in self.processes.shared_out(parts, work) for row in rows]).numpy()

    def save_best(self, run: Run, record: dict) -> None:
        classifier = self.whole_classifier()
        if not self.processes.is_main:
            return
        card = classifier_card(classifier, count_parameters(classifier.model), self.settings, record)
        save_classifier(classifier, run.best, record["epoch"], {"README.md": card})

    def whole_classifier(self) -> Classifier:
        """As it is now, in one piece, in the main process: a copy where processes share its weights out."""
        weights, own = self.model.state_dict(), self.classifier
        gathered = self.processes.whole(weights)
        if gathered is weights or not self.processes.is_main:
            return own
        state = {"model_state_dict": gathered, "average": {"values": {}}, "config": own.config["settings"], "epoch": 0}
        return classifier_from_checkpoint({**self.parts, **state}, Path("the sharded model"))

    def finish(self, run: Run) -> str:
        """Score best/ on the validation split as evaluate.py does, complete its card."""
        best, dataset = run.best, self.val.dataset.pictures
        classifier = load_classifier(best, self.device)
        parameters = count_parameters(classifier.model)
        classifier.make_fast(self.dtype)
        logits = self.answers(lambda numbers: [*self.logits(classifier, dataset.read(numbers, [0] * len(numbers)))])
        if not self.processes.is_main:
            return ""
        pictures = Pictures("val", dataset.paths, [*dataset.references], [])
        evaluation = score_label_evaluation(logits, pictures, classifier.classes, self.dtype, str(best))
        results = label_record(evaluation)
        write_atomically(run.folder / "evaluation.json", json_text(results))
        plot_confusion(run.folder / "confusion.png", evaluation)
        record = run.progress.history[run.progress.best_epoch - 1]
        card = classifier_card(classifier, parameters, self.settings, record, results, self.findings)
        write_atomically(best / "README.md", card)
        say_final(best)
        print(format_label_evaluation(evaluation))
        return f"python inference.py {shlex.join([str(pictures.paths[0]), '--checkpoint', str(best)])}"


def build_classification(settings: Settings, resumed: Resumed | None, processes: Processes) -> Classification:
    """Pictures, classes, model and loaders, as the settings and a checkpoint say. Raises UserError."""
    device = pick_device(settings.DEVICE)
    dtype = pick_precision(settings, device)
    with main_first(processes), preparing(settings):
        data = prepare(settings, Classes(settings.DATASET))
    classes = classes_of(data)
    classifier = start(settings, classes, resumed)
    model, image_processor = classifier.model.to(device), classifier.image_processor
    print_classifier(classifier, settings)
    print_device(device, dtype)
    settle_attention(model.encoder, image_processor, dtype, resumed, processes)
    teacher = label_teacher(settings, classes, device, dtype)
    if teacher and settings.DISTILL_FEATURES:
        add_label_feature_loss(model, image_processor, teacher, settings)
    train, val = (SplitPictures(data, split, image_processor, settings) for split in ("train", "val"))
    numbers = {name: number for number, name in enumerate(classes)}
    labels = [[numbers[row[0]] for row in pictures.references] for pictures in (train, val)]
    teach, findings = ask(teacher, train, val, labels[1], settings, processes) if teacher else (None, {})
    features = [
        cached_features(model.encoder, pictures, settings, device, dtype, processes)
        if settings.CACHE_FEATURES
        else None
        for pictures in (train, val)
    ]
    train_set = LabelledPictures(
        train,
        labels[0],
        len(classes),
        features=features[0],
        mixing=mixing(settings),
        teacher=teacher.image_processor if teacher and looks_along(settings) else None,
    )
    val_set = LabelledPictures(val, labels[1], len(classes), features=features[1])
    loader = LabelledLoader(train_set, settings, shuffle=True, share=processes.share)
    say_steps(settings, settings.NUM_EPOCHS * steps_per_epoch(loader, settings))
    return Classification(
        settings,
        device,
        dtype,
        classifier,
        loader,
        LabelledLoader(val_set, settings, shuffle=False, share=processes.share),
        teacher,
        teach if settings.DISTILL_ALPHA else None,
        findings,
        classifier_parts(classifier),
        processes,
    )


def start(settings: Settings, classes: list[str], resumed: Resumed | None) -> Classifier:
    """Fresh as SEED makes it, or as the checkpoint's run had it. Raises UserError where its classes are others."""
    torch.manual_seed(settings.SEED)
    if resumed:
        classifier = classifier_from_checkpoint(resumed.checkpoint, resumed.path)
        check_same_classes(classifier.classes, classes, resumed, settings)
        classifier.config["settings"] = settings.to_dict()
        classifier.model.set_trainable(settings.ENCODER_TRAINABLE)
        return classifier
    model, image_processor = build_classifier(settings, classes)
    return Classifier(model, classes, image_processor, training_config(model.head_name, settings.to_dict(), epoch=0))


def check_same_classes(trained: list[str], there: list[str], resumed: Resumed, settings: Settings) -> None:
    """Raises UserError where a run would go on with other classes than it was trained on."""
    if trained == there:
        return
    others = sorted({*trained} ^ {*there})
    differ = f"{others[0]!r} is not in both" if others else "they stand in another order"
    raise UserError(
        f"{resumed.path} was trained on {len(trained)} classes, {settings.data_path} has {len(there)}: {differ}; put "
        "the data back as it was, or start a new run"
    )


def label_teacher(
    settings: Settings, classes: list[str], device: torch.device, dtype: torch.dtype
) -> LabelTeacher | None:
    if settings.DISTILL != "teacher":
        return None
    return LabelTeacher(settings.TEACHER_MODEL_NAME, classes, device, dtype)


def ask(
    teacher: LabelTeacher,
    train: SplitPictures,
    val: SplitPictures,
    val_labels: list[int],
    settings: Settings,
    processes: Processes,
) -> tuple[Teach, dict[str, float]]:
    """What gives the teacher's logits of a batch, and what examining it on validation pictures found."""
    print(f"teacher      {teacher.name} (hash {teacher.fingerprint})")
    teach: Teach
    if looks_along(settings):
        teach, findings = look_along(teacher, val, val_labels, processes)
    else:
        teach, findings = look_once(teacher, train, val, val_labels, settings, processes)
    print(answers_found(findings))
    return teach, findings


def looks_along(settings: Settings) -> bool:
    """Whether the teacher must see each batch: what it says of whole pictures would be of others than are shown."""
    changed = settings.AUGMENT or settings.MIXUP_ALPHA or settings.CUTMIX_ALPHA
    return bool(changed or settings.DISTILL_FEATURES or not settings.DISTILL_CACHE)


def say_steps(settings: Settings, steps: int) -> None:
    """What a network from nothing learns in a short try is no fault of its own; what would do instead."""
    say_long_warm_up(settings, steps)
    if settings.ENCODER_MODEL_NAME in FROM_NOTHING and steps < FEW_STEPS:
        epochs = ceil(2 * FEW_STEPS / (steps / settings.NUM_EPOCHS))
        print(f"note         {steps:,} steps are few for a network from nothing: try --num-epochs {epochs}")


def print_classifier(classifier: Classifier, settings: Settings) -> None:
    model = classifier.model
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    frozen = sum(p.numel() for p in model.parameters()) - trained
    print(
        f"model        {trained:,} parameters trained, {frozen:,} frozen; encoder {settings.ENCODER_MODEL_NAME}, "
        f"{len(classifier.classes):,} classes"
    )
