"""What an exported classifier is held against: PyTorch's logits and answers. For export.py.

    logits_difference(classifier, exported, pixels)            # 1.2e-6
    for line in compare_answers(classifier, exports, pictures): print(line)

B pictures, C classes.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from basics.progress_bar import progress_bar
from classifier.exported import ExportedClassifier
from classifier.folder import Classifier, Label
from publishing.export_checks import timed_answers
from publishing.export_folder import Export
from sources.pictures import Pictures
from sources.shards.picture import Picture


def logits_difference(classifier: Classifier, exported: ExportedClassifier, pixels: Tensor) -> float:
    """The largest difference to PyTorch, as a part of the largest logit where that is above 1; one picture, several."""
    worst = 0.0
    for batch in (pixels[:1], pixels[:2], pixels):
        expected, found = classifier.logits(batch), exported.logits(batch.numpy())
        difference = np.abs(expected.numpy() - found).max() / max(1.0, float(expected.abs().max()))
        worst = float(np.maximum(worst, difference))  # NaN stays NaN
    return worst


@dataclass
class Classifying:
    """One that is compared."""

    name: str
    size: int  # bytes
    classify_images: Callable[[Iterable[Image.Image]], list[list[Label]]]

    def answers(self, images: list[Image.Image]) -> list[str]:
        return [row[0][0] for row in self.classify_images(images)]


def compare_answers(
    classifier: Classifier, exports: list[Export[ExportedClassifier]], pictures: Pictures
) -> Iterator[str]:
    """The lines of a table, each when it is known: size, speed and answers of PyTorch and of the exports."""
    labels, ours = known_labels(pictures, classifier.classes), None
    size = sum(tensor.nbytes for tensor in classifier.model.state_dict().values())
    systems = [Classifying("PyTorch", size, classifier.classify_images)]
    systems += [Classifying(export.weights, export.size, export.model.classify_images) for export in exports]
    yield f"{'':<12} {'size':>10}  {'pictures/s':>10}  {'top-1':>6}  equal answers"
    with progress_bar(total=len(systems) * len(pictures.paths), desc="classifying", unit=" pictures") as bar:
        for system in systems:
            answers, seconds = timed_answers(system.answers, pictures.paths, bar)
            ours = ours or answers
            top1 = f"{share_equal(answers, labels):.4f}" if labels else "-"
            equal = sum(a == b for a, b in zip(answers, ours))
            yield (
                f"{system.name:<12} {system.size / 1e6:>7.1f} MB  {len(answers) / seconds:>10.1f}  {top1:>6}  "
                f"{equal} of {len(answers)}"
            )


def share_equal(answers: list[str], labels: list[str]) -> float:
    return sum(a == b for a, b in zip(answers, labels)) / len(labels)


def known_labels(pictures: Pictures, classes: list[str]) -> list[str] | None:
    """The class of each picture, where there are such."""
    labels = [label_of(path, texts) for path, texts in zip(pictures.paths, pictures.references)]
    return [label for label in labels if label] if set(labels) <= set(classes) else None


def label_of(picture: Picture, texts: list[str]) -> str | None:
    """The one text that it has, or the name of the folder that it lies in."""
    if texts:
        return texts[0] if len(texts) == 1 else None
    return picture.parent.name if isinstance(picture, Path) else None
