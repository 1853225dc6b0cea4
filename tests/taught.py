"""A student with a teacher, their datasets and a first batch: what the tests of distillation share."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from in_process import in_folder
from tiny import TINY, flags, tiny_settings

import train as train_script
from basics.settings import Settings
from dataset import ImageTextDataset, PairLoader, SplitPictures
from distillation.criteria import SoftTargets
from distillation.teacher import LazyTeacher, Teacher
from distillation.teacher_work import TeacherWork
from model import ImageToTextModel
from sources.captions import Captions
from sources.prepare import prepare
from tasks.captioning import build_model, choose_tokenizer
from tokenizer import CaptionTokenizer
from training.processes import OneProcess

CPU = torch.device("cpu")


@dataclass
class Made:
    """All that a teacher's work needs of a student."""

    settings: Settings
    tokenizer: CaptionTokenizer
    model: ImageToTextModel
    train_set: ImageTextDataset
    val_set: ImageTextDataset
    lazy: LazyTeacher

    @property
    def teacher(self) -> Teacher:
        return self.lazy.loaded

    def work(self, dtype=torch.float32, **changes) -> TeacherWork:
        """Of a teacher that is not loaded yet."""
        settings = self.settings.replace(**changes)
        lazy = LazyTeacher(settings.TEACHER_MODEL_NAME, CPU)
        pictures = self.train_set.pictures, self.val_set.pictures
        return TeacherWork(lazy, *pictures, self.tokenizer, settings, dtype, OneProcess())

    def soft_targets(self, dtype=torch.float32, **changes) -> tuple[SoftTargets, dict]:
        return self.work(dtype, **changes).soft_targets(self.train_set, self.val_set)


def make_all(git, **changes) -> Made:
    values = {"DISTILL": "teacher", "TEACHER_MODEL_NAME": str(git), "DISTILL_TOP_K": 16, **changes}
    settings, lazy = tiny_settings(**values), LazyTeacher(str(git), CPU)
    choose = partial(choose_tokenizer, settings, None, lazy)
    data = prepare(settings, Captions(choose))
    tokenizer = choose(data.captions_of("train"))
    model, image_processor = build_model(settings, tokenizer, None, lazy, CPU)
    pictures = [SplitPictures(data, split, image_processor, settings) for split in ("train", "val")]
    return Made(settings, tokenizer, model, *(ImageTextDataset(p, tokenizer, settings) for p in pictures), lazy)


def train(**settings):
    """train.py with tiny settings in the current folder; a UserError goes through."""
    with in_folder(Path.cwd()):
        train_script.main(flags(**{**TINY, **settings}))


def first_batch(dataset, settings, epoch=0):
    return next(PairLoader(dataset, settings, 0, shuffle=True).batches(epoch))
