"""Teachers of image classifiers: any classifier whose classes have the student's among them, by name.

    teacher = LabelTeacher("timm/resnet50.a1_in1k", classes, device, torch.bfloat16)    # loaded when first needed
    logits = teacher.logits(pixels)                     # (B, 3, H, W) -> (B, C) in the order of the student's classes
    teach, findings = look_once(teacher, train, val, val_labels, settings, processes)   # or look_along(...)

What a teacher says of pictures that are never augmented or mixed is made once, to DATA_DIR/<DATASET>-classify/teacher/;
else it looks along at the very crops that the student sees (Beyer et al. 2022, arXiv 2106.05237).
"""

import re
from collections.abc import Callable, Iterator
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from basics.cache_file import CacheFile, Together
from basics.devices import Batch, autocast
from basics.disk import size
from basics.errors import UserError
from basics.progress_bar import progress_bar
from basics.settings import Settings
from classifier.folder import Classifier, load_classifier
from dataset import SplitPictures
from distillation.teacher import TeacherFiles
from networks.classifier import ImageClassifier
from networks.encoder import ImageProcessor, prepare_pixels
from sources.pictures import spread

EXPECTED = "expected an image classifier: a folder, a checkpoint_*.pt file or a Hub id"
BATCH = 64  # pictures at once
EXAMINED = 1000  # validation pictures that a teacher is examined on
UNNAMED = re.compile(r"LABEL_\d+")


class LabelTeacher(TeacherFiles):
    """A classifier that never learns, loaded once, when it is first needed."""

    def __init__(self, name: str, classes: list[str], device: torch.device, dtype: torch.dtype):
        super().__init__(name, EXPECTED)
        self.classes, self.device, self.dtype = classes, device, dtype

    @cached_property
    def classifier(self) -> Classifier:
        with torch.random.fork_rng():  # dropout must not depend on whether the teacher was needed
            classifier = load_classifier(self.path, self.device)
            classifier.make_fast(self.dtype)
        return classifier

    @cached_property
    def columns(self) -> Tensor:
        return torch.tensor(match_classes(self.classifier.classes, self.classes, self.name), device=self.device)

    @property
    def model(self) -> ImageClassifier:
        return self.classifier.model

    @property
    def image_processor(self) -> ImageProcessor:
        return self.classifier.image_processor

    @torch.no_grad()  # not inference_mode: they go into a loss
    def logits(self, pixels: Tensor) -> Tensor:
        with autocast(self.device, self.dtype):
            return self.model(pixels.to(self.device)).float()[:, self.columns]

    def logits_of(self, pictures: SplitPictures, numbers: list[int]) -> Tensor:
        """Of whole pictures by number, as the teacher prepares them, (len(numbers), C) on the CPU."""
        pixels = prepare_pixels(self.image_processor, (pictures.image(number, 0) for number in numbers))
        return self.logits(pixels).cpu()


def match_classes(theirs: list[str], ours: list[str], name: str) -> list[int]:
    """Where each of our classes stands among the teacher's, by name. Raises UserError for one that is not there.

    Case, _ and - do not matter; a class of ImageNet is found by any name that its commas part, if no other has it.
    """
    if all(map(UNNAMED.fullmatch, theirs)):
        raise UserError(
            f"the classes of teacher {name} have no names ({theirs[0]}, ...): they cannot be matched to ours"
        )
    whole, parts = names_of(theirs, lambda label: [label]), names_of(theirs, lambda label: label.split(","))
    columns = {label: only(whole.get(folded(label)) or parts.get(folded(label), set())) for label in ours}
    if missing := [label for label, column in columns.items() if column is None]:
        more = f" nor {len(missing) - 1} others of ours" if len(missing) > 1 else ""
        raise UserError(
            f"teacher {name} has no class {missing[0]!r}, or several of that name{more}; its {len(theirs):,} classes "
            f"are {', '.join(theirs[:5])}" + ", ..." * (len(theirs) > 5)
        )
    if len({*columns.values()}) < len(ours):
        raise UserError(f"several of our classes are one of teacher {name}'s: they differ in case or dashes alone")
    return [column for column in columns.values() if column is not None]


def names_of(labels: list[str], parts: Callable[[str], list[str]]) -> dict[str, set[int]]:
    """Which labels go by each name."""
    found: dict[str, set[int]] = {}
    for number, label in enumerate(labels):
        for name in parts(label):
            found.setdefault(folded(name), set()).add(number)
    return found


def folded(label: str) -> str:
    return " ".join(re.sub(r"[_-]", " ", label).lower().split())


def only(numbers: set[int]) -> int | None:
    return next(iter(numbers)) if len(numbers) == 1 else None


class CachedLogits:
    """What the teacher says of each training picture, (N, C) in a file."""

    def __init__(self, logits: np.ndarray):
        self.values = logits

    def __call__(self, batch: Batch) -> Tensor:
        numbers = batch["numbers"]
        return torch.from_numpy(self.values[numbers.cpu().numpy()]).to(numbers.device)


class LiveLogits:
    """The teacher looks at the crops that the student sees."""

    def __init__(self, teacher: LabelTeacher):
        self.teacher = teacher

    def __call__(self, batch: Batch) -> Tensor:
        return self.teacher.logits(batch["teacher_images"])


def look_once(
    teacher: LabelTeacher,
    train: SplitPictures,
    val: SplitPictures,
    val_labels: list[int],
    settings: Settings,
    processes: Together,
) -> tuple[CachedLogits, dict[str, float]]:
    """Its logits of all training pictures, from the disk where they are there, and what examining it found."""

    def produce(done: int, stop: int) -> Iterator[tuple[int, bytes]]:
        for start in range(done, stop, BATCH):
            numbers = [*range(start, min(start + BATCH, stop))]
            yield len(numbers), teacher.logits_of(train, numbers).numpy().tobytes()

    def about() -> dict[str, float]:
        return examine_answers(teacher, val, val_labels)

    inputs = {
        "teacher": teacher.fingerprint,
        "precision": str(teacher.dtype),
        "classes": teacher.classes,
        "pictures": [train.fingerprint(), val.fingerprint()],
        "labels": val_labels,
        "max_megapixels": settings.MAX_IMAGE_MEGAPIXELS,  # large JPEG pictures are decoded smaller
    }
    cache, shape = CacheFile(settings.data_path / "teacher" / "logits", inputs), (len(train), len(teacher.classes))
    num_bytes = 4 * shape[0] * shape[1]
    findings = cache.make_together(processes, shape[0], num_bytes, produce, "teacher's logits", about)
    print(f"logits       {size(num_bytes)}, {cache.path}")
    return CachedLogits(np.memmap(cache.path, np.float32, "r", shape=shape)), findings


def look_along(
    teacher: LabelTeacher, val: SplitPictures, val_labels: list[int], processes: Together
) -> tuple[LiveLogits, dict[str, float]]:
    """The same of a teacher that looks at each batch."""
    findings = examine_answers(teacher, val, val_labels) if processes.is_main else {}
    return LiveLogits(teacher), processes.from_main(findings)


def examine_answers(teacher: LabelTeacher, val: SplitPictures, labels: list[int]) -> dict[str, float]:
    """On EXAMINED validation pictures: top1, the share it gets right, and nats of their classes."""
    numbers = spread(EXAMINED, len(val))
    parts = [numbers[start : start + BATCH] for start in range(0, len(numbers), BATCH)]
    logits = torch.cat([teacher.logits_of(val, part) for part in progress_bar(parts, desc="examining the teacher")])
    targets = torch.tensor([labels[number] for number in numbers])
    return {
        "top1": float((logits.argmax(-1) == targets).float().mean()),
        "nats": float(F.cross_entropy(logits, targets)),
        "classes": len(teacher.classifier.classes),
        "pictures": len(numbers),
    }


def answers_found(findings: dict[str, float]) -> str:
    return (
        f"teacher      top-1 {findings['top1']:.1%} and {findings['nats']:.2f} nats on {findings['pictures']:,} "
        f"validation pictures; {findings['classes']:,} classes, matched by name"
    )
