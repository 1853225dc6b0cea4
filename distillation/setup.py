"""Set up what a run learns from its teacher: captions to mix in, targets for the loss, and what is wrong with them.

    run.teaching = prepare_teaching(run, train_set, val_set)    # loads the teacher only for what is not there yet
    warnings = run.teaching.warnings(val_loss, val_set)         # after a validation

Everything made once lies in DATA_DIR/<DATASET>/teacher/, named by the teacher's files, the captions, both vocabularies
and the pictures, so nothing is used for what it was not made from.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from tqdm import tqdm

from basics.cache_file import CacheFile, size
from basics.devices import autocast
from basics.errors import UserError
from distillation.soft_targets import (
    CachedTargets,
    LiveTargets,
    in_our_words,
    in_parts,
    make_lesson,
    predictions,
    produce_targets,
    record,
    whole_pictures,
)
from distillation.teacher import fingerprint, load_teacher
from networks.git import LONGEST
from scoring.cider_d import CiderD
from scoring.penn_treebank import words
from sources.pictures import spread
from training.feature_cache import describe_pictures
from training.run import Run

EXAMINED = 200  # validation pictures the teacher is examined on
MIN_SUPERVISED = 0.9  # share of our targets that have a prediction of the teacher
WORSE = 1.02  # a teacher's nats a caption over its student's from which it is called worse: it saw fewer pictures
MIN_END = 0.5  # mean probability of the end where a caption ends
ADVICE = ", lower DISTILL_TOP_K, or train with DISTILL_CACHE false"


@dataclass
class Teaching:
    """targets(batch) as in targets.py, or None without DISTILL_ALPHA; what examine() found.

    The teacher itself stays for features (the course has it) and live targets; else its memory is free by then.
    """

    course: "Course | None"
    targets: Callable | None
    findings: dict

    @property
    def teacher(self):
        return self.course.teacher

    @property
    def dataset(self):
        return self.course.train_set

    def warnings(self, val_loss: float, val_set) -> list[str]:
        """Said of a student that predicts the validation captions better than its teacher does."""
        nats = val_loss * sum(len(row) - 1 for row in val_set.tokens) / len(val_set)
        if self.findings.get("nats", 0.0) <= WORSE * nats:
            return []
        return [
            f"the student predicts validation captions better than its teacher ({nats:.2f} nats a caption, teacher "
            f"{self.findings['nats']:.2f}): lower DISTILL_ALPHA, or take a better teacher. A self-critical one "
            "predicts people's captions badly and may yet be worth it: see the CIDEr-D of evaluate.py --compare"
        ]


def prepare_teaching(run: Run, train_set, val_set) -> Teaching:
    """What the teacher of TEACHER_MODEL_NAME says; train_set gets the captions to mix in. Raises UserError."""
    settings = run.settings
    course, targets, findings = Course(run, train_set, val_set), None, {}
    with torch.random.fork_rng():  # dropout must not depend on whether the files were there
        if settings.DISTILL_CAPTIONS:
            train_set.mix_in(course.captions(), settings.DISTILL_CAPTIONS, run.tokenizer)
        if settings.DISTILL_ALPHA:
            check_top_k(run)
            targets, findings = course.cached_targets() if settings.DISTILL_CACHE else course.live_targets()
            report(findings)
        if settings.DISTILL_FEATURES:
            course.teacher  # loaded here: its weights are random numbers first
    return Teaching(course if settings.DISTILL_FEATURES else None, targets, findings)


class Course:
    """A teacher, loaded when first needed, and the student's data."""

    def __init__(self, run: Run, train_set, val_set):
        self.run, self.settings, self.train_set, self.val_set = run, run.settings, train_set, val_set
        self.folder = run.settings.data_path / "teacher"
        self.fingerprint = fingerprint(run.settings.TEACHER_MODEL_NAME)
        print(f"teacher      {run.settings.TEACHER_MODEL_NAME} (hash {self.fingerprint})")

    @cached_property
    def teacher(self):
        teacher = load_teacher(self.settings.TEACHER_MODEL_NAME, self.run.device)
        if self.settings.DISTILL_ALPHA:
            check_temperature(teacher, self.run)
        return teacher

    def inputs(self, **more) -> dict:
        """All that the teacher's predictions, and what it is examined on, depend on."""
        data = {dataset.split: describe_data(dataset) for dataset in (self.train_set, self.val_set)}
        return {"teacher": self.fingerprint, "precision": str(self.run.dtype), **data, **more}

    def captions(self) -> list[str]:
        """For each training picture the teacher's beam that is nearest to the references by CIDEr-D."""
        inputs = self.inputs(beams=self.settings.DISTILL_BEAMS, longest=LONGEST)
        cache = CacheFile(self.folder / "captions", inputs, ".jsonl")
        total, started = len(self.train_set.names), time.perf_counter()

        def produce(done: int) -> Iterator[tuple[int, bytes]]:
            cider = CiderD([[words(reference) for reference in row] for row in self.train_set.references])
            for numbers, rows in self.candidates(done):
                best = [max(row, key=lambda text: cider.score(words(text), n)) for n, row in zip(numbers, rows)]
                named = [{"image": self.train_set.names[n], "caption": text} for n, text in zip(numbers, best)]
                yield len(named), "".join(json.dumps(line) + "\n" for line in named).encode()

        cache.make(total, 200 * total, produce, "teacher's captions")
        found = [json.loads(line)["caption"] for line in cache.path.read_text(encoding="utf-8").splitlines()]
        distinct = len(set(found)) / total
        print(f"captions     {total:,} of the teacher, {distinct:.0%} distinct, {cache.path}{took(started)}")
        return found

    def candidates(self, done: int) -> Iterator[tuple[range, list[list[str]]]]:
        """Numbers of training pictures and the teacher's beams for each."""
        beams = self.settings.DISTILL_BEAMS
        for numbers in in_parts(range(done, len(self.train_set.names))):
            pixels = whole_pictures(self.teacher, self.train_set, numbers)
            with autocast(self.run.device, self.run.dtype):
                yield numbers, self.teacher.captions(pixels, beams, beams)

    def lesson(self):
        return make_lesson(self.teacher, self.train_set.captions, self.train_set.tokens, self.run.tokenizer)

    def cached_targets(self) -> tuple[CachedTargets, dict]:
        """The teacher's predictions for all training captions, from the disk where they are there and whole."""
        top_k, tokens = self.settings.DISTILL_TOP_K, self.train_set.tokens
        order = [row for rows in self.train_set.captions_by_image() for row in rows]
        counts = [len(row) - 1 for row in tokens]
        inputs = self.inputs(
            vocabulary=self.run.tokenizer.hash,
            top_k=top_k,
            longest=self.settings.MAX_SEQ_LEN,
            temperature=self.settings.DISTILL_TEMPERATURE,
        )
        cache, lessons = CacheFile(self.folder / "targets", inputs), []

        def produce(done: int) -> Iterator[tuple[int, bytes]]:
            lessons.append(self.lesson())
            return produce_targets(self.teacher, lessons[0], self.train_set, self.settings, self.run.dtype, done)

        def about() -> dict:
            return examine(self.teacher, lessons[0], self.val_set, self.run)

        num_bytes, started = sum(counts) * record(top_k).itemsize, time.perf_counter()
        findings = cache.make(len(self.train_set.names), num_bytes, produce, "teacher's predictions", about, ADVICE)
        print(f"targets      {size(num_bytes)}, {cache.path}{took(started)}")
        return CachedTargets(cache.path, order, counts, top_k), findings

    def live_targets(self) -> tuple[LiveTargets, dict]:
        lesson = self.lesson()
        targets = LiveTargets(self.teacher, lesson, self.train_set, self.settings)
        return targets, examine(self.teacher, lesson, self.val_set, self.run)


def took(started: float) -> str:
    """How long it took, where it took long enough to be said."""
    seconds = time.perf_counter() - started
    return f" (made in {seconds / 60:.1f} min)" if seconds > 5 else ""


def describe_data(dataset) -> list[str]:
    captions = json.dumps([dataset.references, dataset.captions[len(dataset) :]])  # of each image, and those mixed in
    return [hashlib.sha256(captions.encode()).hexdigest(), describe_pictures(dataset)]


def check_top_k(run: Run) -> None:
    if run.settings.DISTILL_TOP_K >= len(run.tokenizer):
        raise UserError(
            f"DISTILL_TOP_K must be below the {len(run.tokenizer)} tokens of the vocabulary, got "
            f"{run.settings.DISTILL_TOP_K}: all the others count as one"
        )


def check_temperature(teacher, run: Run) -> None:
    if run.settings.DISTILL_TEMPERATURE != 1 and not teacher.shares_vocabulary(run.tokenizer):
        raise UserError(
            "DISTILL_TEMPERATURE must be 1 where the teacher has another vocabulary, got "
            f"{run.settings.DISTILL_TEMPERATURE}: softened predictions cannot be mapped from one to the other"
        )


def examine(teacher, lesson, val_set, run: Run) -> dict:
    """What may be wrong with a teacher, on training captions and EXAMINED validation pictures it is not taught on.

    supervised: share of our training targets with a prediction; nats: of the teacher for a caption in its own tokens;
    kept: mass of its predictions that DISTILL_TOP_K tokens of ours hold; end: probability of the end at the end.
    """
    unseen = make_lesson(teacher, val_set.captions, val_set.tokens, run.tokenizer, lesson.projection)
    nats, kept, ends, rows_of = [], [], [], val_set.captions_by_image()
    parts = list(in_parts(spread(EXAMINED, len(val_set.names))))
    for numbers in tqdm(parts, desc="examining the teacher", leave=False, disable=None):
        rows, probs = predictions(teacher, unseen, val_set, rows_of, numbers, run.dtype)
        probs, theirs = probs.cpu(), [unseen.rows[row] for row in rows]
        _, mass, supervised = in_our_words(unseen, rows, probs, run.settings.DISTILL_TOP_K)
        truth = torch.tensor([token for row in theirs for token in row[1:]])
        found = probs.gather(1, truth[:, None])[:, 0]
        last = np.cumsum([len(row) - 1 for row in theirs]) - 1
        nats.append(-found.clamp_min(1e-9).log().sum().item() / len(rows))
        ends += [found[i].item() for i, row in zip(last, theirs) if row[-1] == teacher.end_id]  # not of cut ones
        kept += mass.sum(1)[supervised > 0].tolist()
    return {
        "supervised": lesson.supervised,
        "nats": float(np.mean(nats)),
        "kept": float(np.mean(kept)),
        "end": float(np.mean(ends or [0.0])),
    }


def report(findings: dict) -> None:
    print(
        f"teacher      predicts {findings['supervised']:.1%} of our targets, {findings['kept']:.1%} of its mass kept; "
        f"{findings['nats']:.2f} nats a validation caption, end of caption {findings['end']:.0%}"
    )
    if findings["supervised"] < MIN_SUPERVISED:
        print(
            f"warning      the teacher predicts only {findings['supervised']:.0%} of our targets: its words and ours "
            "begin at different places. A larger VOCAB_SIZE cuts fewer words"
        )
    if findings["end"] < MIN_END:
        print(
            f"warning      the teacher expects the end of a caption with {findings['end']:.0%} where captions end: the "
            "student may learn never to stop. Lower DISTILL_ALPHA, or take a teacher trained on captions of this style"
        )
