"""What a teacher makes for its student before training: captions to mix in, and predictions of all training captions.

    work = TeacherWork(teacher, train_pictures, val_pictures, tokenizer, settings, dtype, processes)
    captions = work.captions()                                # for each training picture one of the teacher's beams
    soft_targets, findings = work.soft_targets(train_set, val_set)

Everything made once lies in DATA_DIR/<DATASET>/teacher/, named by the teacher's files, the captions, both vocabularies
and the pictures, so nothing is used for what it was not made from; the teacher is loaded only for what is not there.
"""

import functools
import hashlib
import json
import time
from collections.abc import Iterator, Sequence

import torch

from basics.cache_file import CacheFile, Together
from basics.devices import autocast
from basics.disk import size
from basics.errors import UserError
from basics.settings import Settings
from dataset import ImageTextDataset, SplitPictures
from distillation.criteria import SoftTargets
from distillation.examine import check_teacher, check_top_k, check_vocabulary, examine, format_findings
from distillation.soft_targets import (
    AlignedCaptions,
    CachedSoftTargets,
    LiveSoftTargets,
    align_captions,
    in_parts,
    produce_soft_targets,
    record,
    whole_pictures,
)
from distillation.teacher import LazyTeacher, Teacher
from networks.git import LONGEST
from scoring.cider_d import CiderD
from scoring.collapse import LOW_DISTINCT
from scoring.penn_treebank import words
from tokenizer import Tokenizer

ADVICE = ", lower DISTILL_TOP_K, or train with DISTILL_CACHE false"


class TeacherWork:
    """A teacher, loaded when first needed, the pictures and vocabulary of its student, and who works with it.

    Raises UserError at once where the teacher cannot give what the settings ask for.
    """

    def __init__(
        self,
        teacher: LazyTeacher,
        train: SplitPictures,
        val: SplitPictures,
        tokenizer: Tokenizer,
        settings: Settings,
        dtype: torch.dtype,
        processes: Together,
    ):
        self.processes = processes
        self.lazy, self.train, self.val = teacher, train, val
        self.tokenizer, self.settings, self.dtype = tokenizer, settings, dtype
        self.folder = settings.data_path / "teacher"
        print(f"teacher      {teacher.name} (hash {teacher.fingerprint})")
        check_teacher(teacher, settings)
        if settings.DISTILL_ALPHA:
            check_top_k(tokenizer, settings)

    @property
    def teacher(self) -> Teacher:
        teacher = self.lazy.loaded
        if self.settings.DISTILL_ALPHA:
            check_vocabulary(teacher, self.tokenizer, self.settings)
        return teacher

    def inputs(self, mixed_in: Sequence[str], **more: object) -> dict:
        """All that the teacher's predictions, and what it is examined on, depend on."""
        data = {"train": describe_split(self.train, mixed_in), "val": describe_split(self.val, [])}
        return {"teacher": self.lazy.fingerprint, "precision": str(self.dtype), **data, **more}

    def captions(self) -> list[str]:
        """For each training picture the teacher's beam that is nearest to the references by CIDEr-D."""
        inputs = self.inputs([], beams=self.settings.DISTILL_BEAMS, longest=LONGEST)
        cache = CacheFile(self.folder / "captions", inputs, ".jsonl")
        total, started = len(self.train), time.perf_counter()

        def produce(done: int, stop: int) -> Iterator[tuple[int, bytes]]:
            cider = CiderD([[words(reference) for reference in row] for row in self.train.references])
            for numbers, rows in self.candidates(range(done, stop)):
                best = [max(row, key=lambda text: cider.score(words(text), n)) for n, row in zip(numbers, rows)]
                named = [{"image": self.train.source.name(n), "caption": text} for n, text in zip(numbers, best)]
                yield len(named), "".join(json.dumps(line) + "\n" for line in named).encode()

        cache.make_together(self.processes, total, 200 * total, produce, "teacher's captions")
        found = [json.loads(line)["caption"] for line in cache.path.read_text(encoding="utf-8").splitlines()]
        distinct = len(set(found)) / total
        check_variety(found)
        print(f"captions     {total:,} of the teacher, {distinct:.0%} distinct, {cache.path}{took(started)}")
        return found

    def candidates(self, pictures: range) -> Iterator[tuple[Sequence[int], list[list[str]]]]:
        """Numbers of training pictures and the teacher's beams for each."""
        beams, teacher = self.settings.DISTILL_BEAMS, self.teacher
        for numbers in in_parts(pictures):
            pixels = whole_pictures(teacher, self.train, numbers)
            with autocast(teacher.device, self.dtype):
                yield numbers, teacher.captions(pixels, beams, beams)

    def soft_targets(
        self, train_set: ImageTextDataset, val_set: ImageTextDataset
    ) -> tuple[SoftTargets, dict[str, float]]:
        """The teacher's predictions for the training captions, cached or live, and what examining it found."""
        make = self.cached_soft_targets if self.settings.DISTILL_CACHE else self.live_soft_targets
        targets, findings = make(train_set, val_set)
        print(format_findings(findings))
        return targets, findings

    def align(self, train_set: ImageTextDataset) -> AlignedCaptions:
        return align_captions(self.teacher, train_set.captions, train_set.tokens, self.tokenizer)

    def examine(self, aligned: AlignedCaptions, val_set: ImageTextDataset) -> dict[str, float]:
        return examine(self.teacher, aligned, val_set, self.tokenizer, self.settings, self.dtype)

    def cached_soft_targets(
        self, train_set: ImageTextDataset, val_set: ImageTextDataset
    ) -> tuple[SoftTargets, dict[str, float]]:
        """From the disk where they are there and whole."""
        top_k = self.settings.DISTILL_TOP_K
        order = [row for rows in train_set.captions_by_image() for row in rows]
        counts = [len(row) - 1 for row in train_set.tokens]
        inputs = self.inputs(
            train_set.captions[len(train_set) :],
            vocabulary=self.tokenizer.hash,
            top_k=top_k,
            longest=self.settings.MAX_SEQ_LEN,
            temperature=self.settings.DISTILL_TEMPERATURE,
        )
        cache, aligned = CacheFile(self.folder / "targets", inputs), functools.cache(lambda: self.align(train_set))

        def produce(done: int, stop: int) -> Iterator[tuple[int, bytes]]:
            pictures = range(done, stop)
            return produce_soft_targets(self.teacher, aligned(), train_set, self.settings, self.dtype, pictures)

        def about() -> dict[str, float]:
            return self.examine(aligned(), val_set)

        num_bytes, started = sum(counts) * record(top_k).itemsize, time.perf_counter()
        findings = cache.make_together(
            self.processes, len(self.train), num_bytes, produce, "teacher's predictions", about, ADVICE
        )
        print(f"targets      {size(num_bytes)}, {cache.path}{took(started)}")
        return CachedSoftTargets(cache.path, order, counts, top_k), findings

    def live_soft_targets(
        self, train_set: ImageTextDataset, val_set: ImageTextDataset
    ) -> tuple[SoftTargets, dict[str, float]]:
        """Made for each batch by the teacher, which stays in memory."""
        aligned = self.align(train_set)
        findings = self.processes.from_main(self.examine(aligned, val_set) if self.processes.is_main else {})
        return LiveSoftTargets(self.teacher, aligned, train_set, self.settings), findings


def check_variety(captions: list[str]) -> None:
    """Raises UserError for captions of a teacher that says nearly the same of all pictures: its student would too."""
    different = len(set(captions))
    if different == 1 < len(captions) or different < LOW_DISTINCT * len(captions):
        raise UserError(
            f"the teacher has {different} caption{'s' * (different > 1)} for {len(captions):,} pictures, "
            f'"{captions[0]}": it would teach its student to say the same of all. Take a better teacher, or '
            "DISTILL_CAPTIONS 0"
        )


def describe_split(pictures: SplitPictures, mixed_in: Sequence[str]) -> list[str]:
    captions = json.dumps([[*pictures.references], mixed_in])
    return [hashlib.sha256(captions.encode()).hexdigest(), pictures.fingerprint()]


def took(started: float) -> str:
    """How long it took, where it took long enough to be said."""
    seconds = time.perf_counter() - started
    return f" (made in {seconds / 60:.1f} min)" if seconds > 5 else ""
