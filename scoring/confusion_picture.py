"""The confusion matrix of a classifier as a picture.

plot_confusion(run_dir / "confusion.png", evaluation)
figure = draw_confusion(evaluation)         # for a notebook
"""

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from basics.files import write_atomically
from basics.paths import shown_short
from scoring.label_evaluation import LabelEvaluation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COUNTED = 25  # classes up to which each cell says how many pictures it has
NAMED = 150  # classes up to which each has its name
DARK = 0.6  # share from which a cell needs light figures


def plot_confusion(path: Path, evaluation: LabelEvaluation) -> None:
    content = io.BytesIO()
    draw_confusion(evaluation).savefig(content, format="png")
    write_atomically(path, content.getvalue())


def draw_confusion(evaluation: LabelEvaluation) -> "Figure":
    """A row a label and a column an answer, dark by the share of the label's pictures."""
    from matplotlib.colors import PowerNorm  # it takes its time to import
    from matplotlib.figure import Figure  # without pyplot: no display, no global state

    counts, total = evaluation.scores.confusion, len(evaluation.classes)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = inches(total)
    figure = Figure(figsize=(side + 3, side + 2), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    faint = PowerNorm(1 if total <= COUNTED else 0.5, vmin=0, vmax=1)  # of many cells few shares are large
    drawn = axes.imshow(shares, cmap="Blues", norm=faint, interpolation="nearest")
    figure.colorbar(drawn, ax=axes, shrink=0.6, label="share of the label's pictures")
    pictures = evaluation.pictures
    axes.set(xlabel="answer", ylabel="label", title=f"{len(pictures.paths):,} pictures of the {pictures.split} split")
    if total <= NAMED:
        name_classes(axes, evaluation.classes)
    if total <= COUNTED:
        write_counts(axes, counts, shares)
    return figure


def inches(classes: int) -> float:
    """The side of the matrix: room for figures in few cells, for a name a row of many."""
    return max(3.0, 0.45 * classes) if classes <= COUNTED else min(8.0 + 0.1 * classes, 24.0)


def name_classes(axes: "Axes", classes: list[str]) -> None:
    names, numbers, size = (
        [shown_short(name) for name in classes],
        range(len(classes)),
        9 if len(classes) <= COUNTED else 8,
    )
    axes.set_xticks(numbers, names, rotation=90, fontsize=size)
    axes.set_yticks(numbers, names, fontsize=size)


def write_counts(axes: "Axes", counts: np.ndarray, shares: np.ndarray) -> None:
    for row, column in zip(*np.nonzero(counts)):
        color = "white" if shares[row, column] >= DARK else "black"
        axes.text(column, row, str(counts[row, column]), ha="center", va="center", fontsize=9, color=color)
