"""An evaluation of a classifier as evaluate.py and the end of training print it."""

from string import ascii_lowercase

import numpy as np

from basics.paths import shown, shown_short
from scoring.bootstrap import format_table
from scoring.label_evaluation import LabelEvaluation, confusions

MATRIX = 20  # classes up to which all are shown, in a matrix that a terminal is wide enough for
FEW = 10  # above that: so many classes, and so many confusions


def format_label_evaluation(evaluation: LabelEvaluation) -> str:
    """The table, the classes, what is taken for what, and the signature."""
    lines = format_table(evaluation.scores.table)
    lines.append(f"pictures     {evaluation.scores.num_images} of {len(evaluation.classes)} classes")
    if absent := int((evaluation.scores.support == 0).sum()):
        lines.append(f"note         {absent} of them without a picture here: the class mean is that of the others")
    few = len(evaluation.classes) <= MATRIX
    lines += format_matrix(evaluation) if few else [*format_lowest(evaluation), *format_confusions(evaluation)]
    return "\n".join([*lines, f"signature    {evaluation.signature}"])


def format_matrix(evaluation: LabelEvaluation) -> list[str]:
    """A row a label and a column an answer, a letter each, with each label's accuracy."""
    names, scores = [shown_short(name) for name in evaluation.classes], evaluation.scores
    width, cell = max(map(len, names)), max(4, len(str(scores.confusion.max())) + 1)
    letters = ascii_lowercase[: len(names)]
    head = "".join(f"{letter:>{cell}}" for letter in letters)
    lines = ["", f"{'label':<{width + 2}}{head}  accuracy  pictures"]
    for letter, name, row, accuracy in zip(letters, names, scores.confusion, scores.class_accuracy):
        cells = "".join(f"{count or '.':>{cell}}" for count in row)
        lines.append(f"{letter} {name:<{width}}{cells}  {share(accuracy):>8}  {row.sum():>8}")
    return [*lines, f"{'':<{width + 2}}{'answered: columns, by the letters of the rows'}", ""]


def format_lowest(evaluation: LabelEvaluation) -> list[str]:
    """The classes with the lowest accuracy; of those alike, the ones with the most pictures."""
    scores = evaluation.scores
    order = np.lexsort((-scores.support, scores.class_accuracy))[:FEW]  # NaN comes last
    width = max(len("lowest"), *(len(shown_short(evaluation.classes[i])) for i in order))
    lines = ["", f"{'lowest':<{width}}  accuracy  pictures"]
    for i in order:
        accuracy = share(scores.class_accuracy[i])
        lines.append(f"{shown_short(evaluation.classes[i]):<{width}}  {accuracy:>8}  {scores.support[i]:>8}")
    return lines


def format_confusions(evaluation: LabelEvaluation) -> list[str]:
    """The most frequent wrong answers, each beside its label."""
    found = confusions(evaluation)[:FEW]
    if not found:
        return [""]
    width = max(len("label"), *(len(shown_short(row["label"])) for row in found))
    lines = ["", f"{'label':<{width}}  taken for, and in how many pictures"]
    return [
        *lines,
        *(f"{shown_short(row['label']):<{width}}  {shown_short(row['answer'])}  {row['pictures']}" for row in found),
        "",
    ]


def share(accuracy: float) -> str:
    """A dash for a class without a picture."""
    return "-" if np.isnan(accuracy) else f"{accuracy:.4f}"


def surest_mistakes(evaluation: LabelEvaluation) -> list[int]:
    """The numbers of the pictures that were answered wrongly, the surest first."""
    scores = evaluation.scores
    wrong = np.flatnonzero(~scores.right)
    return [int(i) for i in wrong[np.argsort(-scores.confidences[wrong], kind="stable")]]


def format_wrong(evaluation: LabelEvaluation, count: int) -> str:
    """Pictures that were answered wrongly with answer and label, the surest first."""
    scores, order = evaluation.scores, surest_mistakes(evaluation)
    lines = [f"wrong        {len(order)} of {scores.num_images} pictures" + ", the surest first" * (len(order) > 1)]
    for i in order[:count]:
        lines += [
            shown(evaluation.pictures.paths[i].name),
            f"    answer     {shown(evaluation.answer(i))}  {scores.confidences[i]:.3f}",
            f"    label      {shown(evaluation.label(i))}",
        ]
    return "\n".join(lines)
