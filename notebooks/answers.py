"""What the notebook needs beside the rooms: pictures that a model was kept from, and answers drawn under them.

pictures = unseen_pictures(captioner.settings)          # of the test split, else of val, which is said
answer_grid(pictures, ["a red circle", ...], [0, 7])    # a matplotlib Figure: pictures 0 and 7
"""

from collections.abc import Iterable
from textwrap import fill
from typing import TYPE_CHECKING

from basics.errors import UserError
from basics.settings import Settings
from sources.images import load_image
from sources.pictures import Pictures, split_pictures

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 3
WIDTH = 34  # letters of a line of text


def unseen_pictures(settings: Settings) -> Pictures:
    """The test split of what it was trained on; validation, which chose the epoch, where there is none. UserError."""
    try:
        return split_pictures(None, "test", settings)
    except UserError as error:
        pictures = split_pictures(None, "val", settings)
        print(f"no test split ({error}): these are validation pictures, which chose the epoch and so flatter it")
        return pictures


def answer_grid(pictures: Pictures, answers: list[str], numbers: Iterable[int]) -> "Figure":
    """The pictures of those numbers, each with what was answered above it and a reference below."""
    from matplotlib.figure import Figure  # takes its time to import

    numbers = [*numbers]
    rows = -(-len(numbers) // COLUMNS)
    figure = Figure(figsize=(3.2 * COLUMNS, 3.1 * rows), dpi=72, layout="constrained")
    for place, number in enumerate(numbers, 1):
        axes = figure.add_subplot(rows, COLUMNS, place)
        axes.imshow(load_image(pictures.paths[number]))
        axes.set(xticks=[], yticks=[])
        axes.set_title(fill(answers[number], WIDTH), fontsize=9)
        axes.set_xlabel(fill(f"reference: {pictures.references[number][0]}", WIDTH), fontsize=9, color="dimgray")
    return figure
