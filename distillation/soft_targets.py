"""What a teacher predicts for each target of the training captions, in the student's vocabulary: cached, or made live.

    aligned = align_captions(teacher, captions, tokens, tokenizer)   # alignment and projection, from the captions
    targets = CachedSoftTargets(path, order, counts, top_k)          # a memory-mapped file of produce_soft_targets()
    targets = LiveSoftTargets(teacher, aligned, dataset, settings)   # the teacher runs along, on the same crops
    ids, probs, supervised = targets(batch)                          # (N, K), (N, K), (N,) for a batch's N targets

All that has to do with the teacher's vocabulary ends here. supervised is 1 where the teacher's prediction is for the
same place of the text, 0 where a token of ours begins inside a word of its, or is past its longest caption.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from basics.devices import Batch, autocast
from basics.settings import Settings
from dataset import ImageTextDataset, SplitPictures
from distillation.alignment import Projection, align, target_starts
from distillation.teacher import Teacher
from tokenizer import Tokenizer

PICTURES = 8  # that the teacher looks at together
KINDS = {"ids": np.int64, "probs": np.float32, "supervised": np.float32}  # of what a batch gets


@dataclass
class AlignedCaptions:
    """The teacher's tokens of each caption row, the places of our targets among its own, and the projection."""

    rows: list[list[int]]
    places: list[list[int]]
    projection: Projection

    @property
    def supervised(self) -> float:
        """Share of our targets that the teacher has a prediction for."""
        return sum(place >= 0 for row in self.places for place in row) / sum(map(len, self.places))


def align_captions(
    teacher: Teacher,
    captions: Sequence[str],
    tokens: Sequence[np.ndarray],
    tokenizer: Tokenizer,
    projection: Projection | None = None,
) -> AlignedCaptions:
    """Align captions with their student tokens, <s> and </s> included, perhaps cut; no projection: it is counted."""
    rows, starts = teacher.encode([*captions])
    shared = teacher.shares_vocabulary(tokenizer)
    places = []
    for text, own, row, start in zip(captions, tokens, rows, starts):
        whole = tokenizer.encode(text)
        found = same_places(whole, row) if shared else align(target_starts(text, tokenizer.offsets(text)), start)
        # the </s> of a cut caption is not where its text ends
        places.append([place if token == kept else -1 for place, token, kept in zip(found, whole[1:], own[1:])])
    if shared:
        projection = Projection.identity(len(tokenizer))
    if projection is None:
        pairs = (
            (rows[i][place + 1], int(own[j + 1]))
            for i, own in enumerate(tokens)
            for j, place in enumerate(places[i])
            if place >= 0
        )
        projection = Projection.count(pairs, len(tokenizer))
    return AlignedCaptions(rows, places, projection)


def same_places(ours: list[int], theirs: list[int]) -> list[int]:
    """Of one vocabulary: each target is its own place, up to where the teacher's longest caption ends."""
    if ours[: len(theirs)] != theirs:  # a special token written in the caption is one for GIT, and text for us
        return [-1] * (len(ours) - 1)
    return [place if place < len(theirs) - 1 else -1 for place in range(len(ours) - 1)]


def in_our_words(aligned: AlignedCaptions, rows: list[int], probs: Tensor, top_k: int) -> tuple[Tensor, Tensor, Tensor]:
    """The teacher's predictions for these caption rows, (M, V_teacher), at our targets and in our vocabulary.

    -> ids (N, K), probs (N, K), supervised (N,)
    """
    lengths = [len(aligned.rows[row]) - 1 for row in rows]
    first = np.cumsum([0, *lengths[:-1]])  # where each caption's predictions start
    places = [start + place if place >= 0 else -1 for start, row in zip(first, rows) for place in aligned.places[row]]
    at = torch.tensor(places, device=probs.device)  # (N,)
    mass, ids = aligned.projection(probs[at.clamp_min(0)]).topk(top_k)
    supervised = (at >= 0).float()
    return ids, mass * supervised[:, None], supervised


def in_parts(numbers: Sequence[int]) -> Iterator[Sequence[int]]:
    """A few pictures at a time, as the teacher looks at them."""
    for start in range(0, len(numbers), PICTURES):
        yield numbers[start : start + PICTURES]


def whole_pictures(teacher: Teacher, pictures: SplitPictures, numbers: Sequence[int]) -> Tensor:
    """Pictures without augmentation, through the teacher's own preprocessing."""
    return teacher.pixels([pictures.image(number, 0) for number in numbers])


def predictions(
    teacher: Teacher,
    aligned: AlignedCaptions,
    dataset: ImageTextDataset,
    rows_of: list[list[int]],
    numbers: Sequence[int],
    dtype: torch.dtype,
    temperature: float,
) -> tuple[list[int], Tensor]:
    """The caption rows of whole pictures, and what the teacher predicts for them in its own words (M, V_teacher)."""
    rows = [row for number in numbers for row in rows_of[number]]
    index = [i for i, number in enumerate(numbers) for _ in rows_of[number]]
    pixels, theirs = whole_pictures(teacher, dataset.pictures, numbers), [aligned.rows[row] for row in rows]
    with autocast(teacher.device, dtype):
        return rows, teacher.probabilities(pixels, theirs, index, temperature)


def record(top_k: int) -> np.dtype:
    """One target in the file."""
    return np.dtype([("ids", "<u4", top_k), ("probs", "<f2", top_k), ("supervised", "?")])


def produce_soft_targets(
    teacher: Teacher,
    aligned: AlignedCaptions,
    dataset: ImageTextDataset,
    settings: Settings,
    dtype: torch.dtype,
    numbers: range,
) -> Iterator[tuple[int, bytes]]:
    """The records of pictures by number, a few at a time: whole pictures, no augmentation."""
    rows_of = dataset.captions_by_image()
    for part in in_parts(numbers):
        rows, probs = predictions(teacher, aligned, dataset, rows_of, part, dtype, settings.DISTILL_TEMPERATURE)
        found = in_our_words(aligned, rows, probs, settings.DISTILL_TOP_K)
        records = np.empty(len(found[0]), record(settings.DISTILL_TOP_K))
        for name, values in zip(records.dtype.names, found):
            records[name] = values.cpu()
        yield len(part), records.tobytes()


class CachedSoftTargets:
    """Targets from the file of produce_soft_targets(), which has the caption rows in `order`, `counts` targets each."""

    def __init__(self, path: Path, order: list[int], counts: list[int], top_k: int):
        self.path, self.top_k = path, top_k
        self.counts = np.array(counts)
        self.first = np.zeros(len(counts), dtype=np.int64)
        self.first[order] = np.cumsum([0, *self.counts[order][:-1]])

    @cached_property
    def records(self) -> np.memmap:
        return np.memmap(self.path, record(self.top_k), "r")

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        rows = batch["caption_numbers"].tolist()
        found = np.concatenate([self.records[self.first[r] : self.first[r] + self.counts[r]] for r in rows])
        device = batch["target_tokens"].device
        ids, probs, supervised = (torch.from_numpy(found[name].astype(kind)).to(device) for name, kind in KINDS.items())
        return ids, probs, supervised


class LiveSoftTargets:
    """Targets made for each batch by the teacher, which sees the crops of the student's pictures."""

    def __init__(self, teacher: Teacher, aligned: AlignedCaptions, dataset: ImageTextDataset, settings: Settings):
        self.teacher, self.aligned, self.dataset = teacher, aligned, dataset
        self.top_k, self.temperature = settings.DISTILL_TOP_K, settings.DISTILL_TEMPERATURE

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        numbers, rows = batch["image_numbers"].tolist(), batch["caption_numbers"].tolist()
        pixels = shown_pixels(self.teacher, self.dataset, batch)
        place = {number: i for i, number in enumerate(numbers)}
        index = [place[self.dataset.image_of(row)] for row in rows]
        theirs = [self.aligned.rows[row] for row in rows]
        probs = self.teacher.probabilities(pixels, theirs, index, self.temperature)
        return in_our_words(self.aligned, rows, probs, self.top_k)


def shown_pixels(teacher: Teacher, dataset: ImageTextDataset, batch: Batch) -> Tensor:
    """The crops of a batch's pictures, through the teacher's own preprocessing."""
    numbers = batch["image_numbers"].tolist()
    return teacher.pixels([dataset.shown_image(number) for number in numbers])
