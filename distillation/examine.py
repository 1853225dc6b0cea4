"""Is this teacher any good for this student: refused before work where it cannot be, examined before training, watched.

check_teacher(teacher, settings)                              # what needs nothing loaded
check_vocabulary(teacher.loaded, tokenizer, settings)         # what needs the teacher, but not its work
findings = examine(teacher.loaded, aligned, val_set, ...)     # on captions it is not taught on
print(format_findings(findings))
better_than_teacher(findings, val_loss, val_set)              # after each validation
"""

import numpy as np
import torch

from basics.errors import UserError
from basics.progress_bar import progress_bar
from basics.settings import Settings
from dataset import ImageTextDataset
from distillation.soft_targets import AlignedCaptions, align_captions, in_our_words, in_parts, predictions
from distillation.teacher import CAPTIONS_ONLY, LazyTeacher, Teacher
from sources.pictures import spread
from tokenizer import Tokenizer

EXAMINED = 200  # validation pictures the teacher is examined on
MIN_SUPERVISED = 0.9  # share of our targets that have a prediction of the teacher
WORSE = 1.02  # a teacher's nats a caption over its student's from which it is called worse: it saw fewer pictures
MIN_END = 0.5  # mean probability of the end where a caption ends


def check_teacher(teacher: LazyTeacher, settings: Settings) -> None:
    """Raises UserError for what the teacher cannot give, before it is loaded."""
    if settings.DISTILL_ALPHA and not teacher.kind.predicts:
        raise UserError(CAPTIONS_ONLY)
    if settings.DISTILL_FEATURES and not teacher.kind.predicts:
        raise UserError("DISTILL_FEATURES takes those of GIT or of a captioner of this project only")


def check_vocabulary(teacher: Teacher, tokenizer: Tokenizer, settings: Settings) -> None:
    """Raises UserError where DISTILL_TEMPERATURE does not go with the teacher's vocabulary."""
    if settings.DISTILL_TEMPERATURE != 1 and not teacher.shares_vocabulary(tokenizer):
        raise UserError(
            "DISTILL_TEMPERATURE must be 1 where the teacher has another vocabulary, got "
            f"{settings.DISTILL_TEMPERATURE}: softened predictions cannot be mapped from one to the other"
        )


def check_top_k(tokenizer: Tokenizer, settings: Settings) -> None:
    """Raises UserError where DISTILL_TOP_K leaves no other token."""
    if settings.DISTILL_TOP_K >= len(tokenizer):
        raise UserError(
            f"DISTILL_TOP_K must be below the {len(tokenizer)} tokens of the vocabulary, got "
            f"{settings.DISTILL_TOP_K}: all the others count as one"
        )


def examine(
    teacher: Teacher,
    aligned: AlignedCaptions,
    val_set: ImageTextDataset,
    tokenizer: Tokenizer,
    settings: Settings,
    dtype: torch.dtype,
) -> dict[str, float]:
    """What may be wrong with a teacher, on training captions and EXAMINED validation pictures it is not taught on.

    supervised: share of our training targets with a prediction; nats: of the teacher for a caption in its own tokens;
    kept: mass of its predictions that DISTILL_TOP_K tokens of ours hold; end: probability of the end at the end.
    """
    unseen = align_captions(teacher, val_set.captions, val_set.tokens, tokenizer, aligned.projection)
    nats, kept, ends, rows_of = [], [], [], val_set.captions_by_image()
    parts = list(in_parts(spread(EXAMINED, len(val_set.pictures))))
    for numbers in progress_bar(parts, desc="examining the teacher"):
        rows, probs = predictions(teacher, unseen, val_set, rows_of, numbers, dtype, 1.0)
        probs, theirs = probs.cpu(), [unseen.rows[row] for row in rows]
        _, mass, supervised = in_our_words(unseen, rows, probs, settings.DISTILL_TOP_K)
        truth = torch.tensor([token for row in theirs for token in row[1:]])
        found = probs.gather(1, truth[:, None])[:, 0]
        last = np.cumsum([len(row) - 1 for row in theirs]) - 1
        nats.append(-found.clamp_min(1e-9).log().sum().item() / len(rows))
        ends += [found[i].item() for i, row in zip(last, theirs) if row[-1] == teacher.end_id]  # not of cut ones
        kept += mass.sum(1)[supervised > 0].tolist()
    return {
        "supervised": aligned.supervised,
        "nats": float(np.mean(nats)),
        "kept": float(np.mean(kept)),
        "end": float(np.mean(ends or [0.0])),
    }


def format_findings(findings: dict[str, float]) -> str:
    """What examine() found, and what is wrong with it."""
    lines = [
        f"teacher      predicts {findings['supervised']:.1%} of our targets, {findings['kept']:.1%} of its mass kept; "
        f"{findings['nats']:.2f} nats a validation caption, end of caption {findings['end']:.0%}"
    ]
    if findings["supervised"] < MIN_SUPERVISED:
        lines.append(
            f"warning      the teacher predicts only {findings['supervised']:.0%} of our targets: its words and ours "
            "begin at different places. A larger VOCAB_SIZE cuts fewer words"
        )
    if findings["end"] < MIN_END:
        lines.append(
            f"warning      the teacher expects the end of a caption with {findings['end']:.0%} where captions end: the "
            "student may learn never to stop. Lower DISTILL_ALPHA, or take a teacher trained on captions of this style"
        )
    return "\n".join(lines)


def better_than_teacher(findings: dict[str, float], val_loss: float, val_set: ImageTextDataset) -> list[str]:
    """A warning about a teacher whose student predicts the validation captions better than it does; else none."""
    nats = val_loss * sum(len(row) - 1 for row in val_set.tokens) / len(val_set)
    if findings.get("nats", 0.0) <= WORSE * nats:
        return []
    return [
        f"the student predicts validation captions better than its teacher ({nats:.2f} nats a caption, teacher "
        f"{findings['nats']:.2f}): lower DISTILL_ALPHA, or take a better teacher. A self-critical one "
        "predicts people's captions badly and may yet be worth it: see the CIDEr-D of evaluate.py --compare"
    ]
