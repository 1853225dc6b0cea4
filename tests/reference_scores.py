"""What pycocoevalcap says of the test cases, recorded in reference_scores.json for machines without Java.

python tests/reference_scores.py     # needs Java and pip install pycocoevalcap; records anew
"""

import hashlib
import json
import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).parent
RECORDED = HERE / "reference_scores.json"
FLICKR8K = HERE.parents[1] / "shared" / "data" / "flickr8k" / "Flickr8k.token.txt"
AVAILABLE = shutil.which("java") is not None and find_spec("pycocoevalcap") is not None


def cases() -> list[str]:
    """Captions made to be hard to cut, one a line."""
    return (HERE / "nasty_captions.txt").read_text(encoding="utf-8").split("\n")


def flickr8k_captions() -> dict[str, list[str]]:
    captions: dict[str, list[str]] = {}
    for line in FLICKR8K.read_text(encoding="utf-8").splitlines():
        name, caption = line.split("\t")
        captions.setdefault(name.split("#")[0], []).append(caption)
    return captions


def scoring_cases() -> dict[str, tuple[list[str], list[list[str]]]]:
    """Candidates and references of several sets: short ones, empty ones, nasty ones, one picture alone."""
    nasty = cases()
    sets = {
        "plain": (
            ["a dog runs on grass", "a man on a horse", "two girls", "the the the the"],
            [
                ["A dog is running on the grass.", "A brown dog runs across the green grass."],
                ["A man rides a horse.", "The man sits on a brown horse.", "a man on a horse"],
                ["Three boys play football in the mud."],
                ["the cat is on the mat", "there is a cat on the mat"],
            ],
        ),
        "empty": (["", "a", ".", "the dog"], [["a dog", ""], ["a"], ["", ""], ["the dog", "dog"]]),
        "alone": (["a b c d"], [["a b c d", "a c"]]),
        "nasty": (nasty, [[nasty[i - 1], nasty[i], nasty[i - 2]] for i in range(len(nasty))][1:] + [[nasty[0]]]),
    }
    if FLICKR8K.is_file():  # each picture's first caption against its others; every third picture gets a stranger's
        rows = list(flickr8k_captions().values())[:1000]
        first = [rows[(i + (i % 3 == 0)) % len(rows)][0] for i in range(len(rows))]
        sets["flickr8k"] = (first, [row[1:] for row in rows])
    return sets


def digest(lines: list[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def reference_words(captions: list[str]) -> list[str]:
    """pycocoevalcap's tokens. A word between captions keeps each from reading into the next, as its lexer would."""
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    os.environ["JAVA_TOOL_OPTIONS"] = "-Dfile.encoding=UTF-8"  # Java 17 and before follow the locale
    rows = PTBTokenizer().tokenize({i: [{"caption": c}, {"caption": "x"}] for i, c in enumerate(captions)})
    return [rows[i][0].strip() for i in range(len(captions))]


def reference_scores(candidates: list[str], references: list[list[str]]) -> dict[str, float]:
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    tokens = iter(reference_words([*candidates, *(r for row in references for r in row)]))
    found = {i: [next(tokens)] for i in range(len(candidates))}
    expected = {i: [next(tokens) for _ in row] for i, row in enumerate(references)}
    bleu, _ = Bleu(4).compute_score(expected, found, verbose=0)
    scores = {f"BLEU-{n}": value for n, value in enumerate(bleu, 1)}
    scores["ROUGE-L"], scores["CIDEr-D"] = (m().compute_score(expected, found)[0] for m in (Rouge, Cider))
    return {name: float(value) for name, value in scores.items()}


def record() -> dict:
    recorded = {"words": dict(zip(cases(), reference_words(cases())))}
    recorded["scores"] = {name: reference_scores(*case) for name, case in scoring_cases().items()}
    if FLICKR8K.is_file():
        captions = [caption for row in flickr8k_captions().values() for caption in row]
        recorded["flickr8k_words"] = digest(reference_words(captions))
    return recorded


if __name__ == "__main__":
    if not AVAILABLE:
        sys.exit("needs Java and pip install pycocoevalcap")
    RECORDED.write_text(json.dumps(record(), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print(f"recorded {RECORDED}")
