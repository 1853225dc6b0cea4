"""METEOR and SPICE, which need Java and pycocoevalcap: their values, or one line that says why there are none."""

import contextlib
import io
import os
import shutil

from basics.errors import reason_of
from scoring.metric import OutsideScore
from scoring.penn_treebank import words


def java_score(name: str, captions: list[str], references: list[list[str]]) -> OutsideScore | str:
    """METEOR (Denkowski & Lavie 2014) or SPICE (Anderson et al. 2016) by pycocoevalcap's own Java programs."""
    if shutil.which("java") is None:
        return "unavailable: there is no `java` on this machine"
    try:
        from pycocoevalcap.meteor.meteor import Meteor  # not installed for everyone
        from pycocoevalcap.spice.spice import Spice
    except ImportError:
        return "unavailable: pip install pycocoevalcap"
    os.environ.setdefault("JAVA_TOOL_OPTIONS", "-Dfile.encoding=UTF-8")
    expected = {i: [words(reference) for reference in row] for i, row in enumerate(references)}
    found = {i: [words(caption)] for i, caption in enumerate(captions)}
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            scorer = {"METEOR": Meteor, "SPICE": Spice}[name]()
            score, rows = scorer.compute_score(expected, found)
    except Exception as error:  # downloads, Java versions, memory: their programs fail in many ways
        return f"unavailable: {reason_of(error)}"
    per_image = [row["All"]["f"] if isinstance(row, dict) else float(row) for row in rows]
    return OutsideScore(float(score), per_image)
