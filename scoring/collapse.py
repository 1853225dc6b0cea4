"""The collapse alarm: the ways a captioner goes wrong that its loss does not show, in numbers and in plain words.

    measures = measure_collapse(captions, finished, references)
    for warning in collapse_warnings(measures): print(warning)

The same caption for every picture, captions that never end, words over and over, captions that have nothing to do with
their pictures: each is measured on validation captions and compared with a line below.
"""

import re
from collections import Counter
from textwrap import shorten

from scoring.cider_d import CiderD
from scoring.penn_treebank import words

MIN_PICTURES = 20  # fewer say nothing about variety, unless all have one caption
FEW_STEPS = 300  # optimizer steps before which nothing can be told: the advice is to train longer
LOW_DISTINCT = 0.05  # share of different captions
HIGH_MOST_COMMON = 0.25  # share of the commonest caption
HIGH_UNENDED = 0.1  # share of captions that reached MAX_SEQ_LEN
HIGH_REPEATING = 0.1  # share of captions with a run of words said twice in a row
HIGH_SHUFFLED = 0.8  # CIDEr-D against another picture's references, as a share of the real one
SHOWN = 60  # characters of a caption in a warning
REPEATED = re.compile(r"\b(\w+(?: \w+){0,3}) \1(?: |$)")  # one to four words, then the same again

LONGER = "Only {steps} optimizer steps so far: train longer (NUM_EPOCHS) if it stays"
FINDINGS = {
    "distinct": "only {distinct:.1%} of the captions are distinct: the model says the same of most pictures",
    "most_common": 'one caption is said of {most_common:.0%} of the pictures, "{example}"',
    "unended": "{unended:.0%} of the captions never end: </s> is not learned",
    "repeating": "{repeating:.0%} of the captions say the same words twice in a row",
    "shuffled": "captions fit other pictures nearly as well as their own (CIDEr-D {shuffled_cider:.3f} shuffled, "
    "{cider:.3f} real): the pictures are not used",
}
REMEDIES = {
    "distinct": "Normal in a first epoch; if it stays, lower LEARNING_RATE, lengthen WARMUP_STEPS, and look at some "
    "training captions",
    "most_common": "Normal in a first epoch; if it stays, lower LEARNING_RATE, and check that pictures and captions "
    "belong together",
    "unended": "Train longer, raise MAX_SEQ_LEN if the captions of the data are longer, and see that they were not "
    "cut (prepare_dataset.py says how many)",
    "repeating": "Caption with a beam (BEAM_SIZE 3), train longer, or lower LEARNING_RATE",
    "shuffled": "Check that they belong to their captions and that the encoder suits its preprocessing; an encoder "
    "from scratch needs more pictures or a lower LEARNING_RATE",
}


def measure_collapse(captions: list[str], finished: list[bool], references: list[list[str]]) -> dict:
    """Shares and scores of captions, whether each reached </s>, and their pictures' references; at least one each."""
    texts = [words(caption) for caption in captions]
    cider = CiderD([[words(reference) for reference in row] for row in references])
    example, count = Counter(texts).most_common(1)[0]
    total = len(texts)
    return {
        "pictures": total,
        "distinct": len(set(texts)) / total,
        "most_common": count / total,
        "example": shorten(example, SHOWN, placeholder=" ..."),
        "unended": sum(not end for end in finished) / total,
        "repeating": sum(REPEATED.search(text) is not None for text in texts) / total,
        "cider": sum(cider.score(text, i) for i, text in enumerate(texts)) / total,
        "shuffled_cider": sum(cider.score(text, (i + total // 2) % total) for i, text in enumerate(texts)) / total,
    }


def collapse_warnings(measures: dict, steps: int | None = None) -> list[str]:
    """What crossed its line, each with what to try; steps: of the optimizer so far, where training goes on.

    For fewer than MIN_PICTURES only that all have one caption.
    """
    crossed = {
        "distinct": measures["distinct"] < LOW_DISTINCT,
        "most_common": measures["most_common"] > HIGH_MOST_COMMON,
        "unended": measures["unended"] > HIGH_UNENDED,
        "repeating": measures["repeating"] > HIGH_REPEATING,
        "shuffled": measures["shuffled_cider"] >= HIGH_SHUFFLED * measures["cider"],
    }
    if measures["pictures"] < MIN_PICTURES:
        crossed = {"most_common": measures["most_common"] == 1 and measures["pictures"] > 1}
    early = steps is not None and steps < FEW_STEPS
    return [
        f"{FINDINGS[name]}. {LONGER if early else REMEDIES[name]}".format(**measures, steps=steps)
        for name, is_crossed in crossed.items()
        if is_crossed
    ]


def format_collapse(measures: dict) -> str:
    """One line for the log."""
    return (
        f"captions: {measures['distinct']:.0%} distinct, commonest {measures['most_common']:.1%}, unended "
        f"{measures['unended']:.1%}, repeating {measures['repeating']:.1%}, CIDEr-D {measures['cider']:.3f} "
        f"(shuffled {measures['shuffled_cider']:.3f})"
    )


def too_few(pictures: int) -> str:
    """That so many pictures do not do for the alarm, nothing where they do."""
    return "too few for the collapse alarm" if pictures < MIN_PICTURES else ""
