"""An evaluation as evaluate.py and the end of training print it."""

from scoring.bootstrap import format_table
from scoring.collapse import collapse_warnings, format_collapse, too_few
from scoring.evaluation import Evaluation
from sources.pictures import spread


def format_evaluation(evaluation: Evaluation) -> str:
    """The table, the alarm and the signature."""
    lines = format_table(evaluation.table)
    lines += [f"{name:<12} {reason}" for name, reason in (evaluation.not_computed or {}).items()]
    lines.append(f"exact        {evaluation.exact} of {len(evaluation.captions)} captions equal a reference")
    lines.append(format_collapse(evaluation.collapse))
    lines += [f"warning      {warning}" for warning in collapse_warnings(evaluation.collapse)]
    if few := too_few(len(evaluation.captions)):
        lines.append(f"note         {len(evaluation.captions)} pictures are {few}")
    return "\n".join([*lines, f"signature    {evaluation.signature}"])


def format_captioned(evaluation: Evaluation, count: int) -> str:
    """Captions above all their references, for pictures spread over the split."""
    pictures, lines = evaluation.pictures, []
    for number in spread(count, len(pictures.paths)):
        lines += [pictures.paths[number].name, f"    caption    {evaluation.captions[number][0]}"]
        lines += [f"    reference  {reference}" for reference in pictures.references[number]]
    return "\n".join(lines)


def format_left_out(left_out: list[str]) -> list[str]:
    """A line on the pictures that could not be read, where there are any."""
    return [f"left out     {len(left_out)} pictures, {left_out[0]}"] if left_out else []
