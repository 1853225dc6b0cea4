"""Two tokenizers over the same caption: which tokens begin together, and how one vocabulary's mass maps to the other's.

    places = align(ours, theirs)                     # for each of our targets the teacher's target, or -1
    projection = Projection.count(pairs, width)      # from aligned targets of the training captions
    probs = projection(teacher_probs)                # (N, V of the teacher) -> (N, V of ours)

A target is a token to be predicted, given by where its text starts in the caption, in characters; the end of the
caption is a target too. Two targets that start together follow the same text, so both models answer the same question.
How the teacher's tokens map to ours is counted, not ruled: no table of prefixes, cases or punctuation is needed.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor


def target_starts(caption: str, offsets: list[tuple[int, int]], continues: list[bool] | None = None) -> list[int]:
    """Where each token of a caption starts, spaces skipped, and its end; -1 for what `continues` a word."""
    starts = []
    for number, (start, end) in enumerate(offsets):
        while start < end and caption[start].isspace():
            start += 1
        starts.append(-1 if continues and continues[number] else start)
    return [*starts, len(caption) + 1]


def align(ours: list[int], theirs: list[int]) -> list[int]:
    """The place in theirs of each of our targets, -1 where no target starts there; the ends belong together.

    Of several tokens that start at one character, as the bytes of an emoji do, only the first is aligned.
    """
    places = {start: place for place, start in reversed(list(enumerate(theirs))) if start >= 0}
    return [places.pop(start, -1) for start in ours]


@dataclass
class Projection:
    """A sparse matrix from the teacher's vocabulary to ours, (V_teacher, width); rows sum to 1, or are empty.

    entries: rows, columns and weights, (entries,) each; None: both vocabularies are one, and nothing is to be done.
    """

    entries: tuple[Tensor, Tensor, Tensor] | None
    width: int

    @classmethod
    def identity(cls, width: int) -> "Projection":
        return cls(None, width)

    @classmethod
    def count(cls, pairs: Iterable[tuple[int, int]], width: int) -> "Projection":
        """From (teacher's token, our token) of every aligned target: how often ours stands where theirs does."""
        counts = Counter(pairs)
        totals: Counter[int] = Counter()
        for (theirs, _), count in counts.items():
            totals[theirs] += count
        entries = sorted(counts)
        weights = [counts[entry] / totals[entry[0]] for entry in entries]
        rows, columns = (torch.tensor([entry[i] for entry in entries], dtype=torch.long) for i in (0, 1))
        return cls((rows, columns, torch.tensor(weights)), width)

    def __call__(self, probs: Tensor) -> Tensor:
        """(N, V_teacher) -> (N, width); the mass of tokens that no training caption has is lost."""
        if self.entries is None:
            return probs
        rows, columns, weights = (part.to(probs.device) for part in self.entries)
        moved = probs[:, rows] * weights  # (N, entries)
        return probs.new_zeros(len(probs), self.width).index_add_(1, columns, moved)
