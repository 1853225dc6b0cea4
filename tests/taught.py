"""A run with a teacher, its datasets and its first batch: what the tests of distillation share."""

import torch
from tiny import TINY, flags, tiny_settings

import train as train_script
from dataset import ImageTextDataset, make_loader, start_epoch
from distillation.teacher import load_teacher
from prepare_dataset import prepare
from tokenizer import build_tokenizer
from training.run import start_run

CPU = torch.device("cpu")


def make_all(git, **changes):
    settings = tiny_settings(DISTILL="teacher", TEACHER_MODEL_NAME=str(git), **{"DISTILL_TOP_K": 16, **changes})
    data = prepare(settings)
    tokenizer = build_tokenizer(settings, data.captions_of("train"))
    state = start_run(settings, tokenizer, len(data.captions_of("train")), None)
    sets = [ImageTextDataset(data, split, tokenizer, state.image_processor, settings) for split in ("train", "val")]
    return state, *sets, load_teacher(str(git), CPU)


def train(**settings):
    """train.py in this process: each start of Python takes longer than these runs."""
    train_script.main(flags(**{**TINY, **settings}))


def first_batch(dataset, settings, epoch=0):
    loader = make_loader(dataset, settings, 0, shuffle=True)
    start_epoch(loader, epoch, 0)
    return next(iter(loader))
