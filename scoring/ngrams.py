"""Runs of words, which BLEU and CIDEr-D count."""

from collections import Counter

MAX_N = 4  # longest n-gram of BLEU and CIDEr-D


def ngrams(text: str) -> Counter[tuple[str, ...]]:
    """How often each run of 1 to 4 words occurs."""
    tokens = text.split()
    return Counter(tuple(tokens[i : i + n]) for n in range(1, MAX_N + 1) for i in range(len(tokens) - n + 1))
