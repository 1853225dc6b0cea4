"""Captioning as a task of train.py: pictures with captions in, a captioner out.

task = build_captioning(settings, resumed)      # source, tokenizer, model, loaders: in that order
"""

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from basics.devices import autocast, pick_device, pick_precision
from basics.errors import UserError
from basics.files import write_atomically
from basics.settings import Settings
from basics.text import json_text
from captioner.folder import (
    Captioner,
    captioner_config,
    captioner_from_checkpoint,
    checkpoint_parts,
    load_captioner,
    save_captioner,
    without_adapters,
)
from captioner.rebuilt import check_settings
from dataset import PairLoader, SplitPictures
from distillation.examine import better_than_teacher, check_teacher
from distillation.features import add_feature_loss
from distillation.teacher import LazyTeacher
from distillation.teacher_work import TeacherWork
from losses.criterion import Criterion
from losses.cross_entropy import CaptionLoss
from model import ImageToTextModel, make_model
from networks.caption import Captioned
from networks.decoders import find_decoder
from networks.decoding_options import DecodingOptions
from networks.encoder import ImageProcessor
from networks.encoders import load_encoder
from networks.parameters import count_parameters
from publishing.model_card import model_card
from scoring.collapse import collapse_warnings, format_collapse, measure_collapse
from scoring.evaluation import caption_all, caption_pixels, evaluation_record, score_evaluation
from scoring.evaluation_report import format_evaluation
from scoring.metrics import score_captions
from sources.captions import Captions
from sources.pictures import Pictures, spread
from sources.prepare import prepare, preparing
from sources.prepared import AnyData
from sources.texts_on_disk import texts_on_disk
from tasks.captioning_notes import print_model, say_long_warm_up, say_validation, with_epochs
from tasks.criteria import Ingredients, check_loss, criterion_of_epoch
from tokenizer import Tokenizer, build_tokenizer, tokenizer_from_dict
from training.feature_cache import cached_features
from training.optimizer import learning_rate_factor, warmup_steps
from training.processes import Processes, main_first
from training.reporting import print_device, say_final
from training.resume import Resumed, keep_architecture, settle_attention
from training.run import Run, Validation, steps_per_epoch
from training.stopping import StopSignal
from training.token_cache import cached_pairs


@dataclass
class Captioning:
    """A Task: image-caption pairs, an ImageToTextModel, and a captioner's folder as best/."""

    settings: Settings
    device: torch.device
    dtype: torch.dtype
    captioner: Captioner
    ingredients: Ingredients
    val: PairLoader
    parts: dict
    findings: dict[str, float]  # of examining the teacher, empty without one
    processes: Processes

    val_criterion = CaptionLoss()

    @property
    def model(self) -> ImageToTextModel:
        return self.captioner.model

    @property
    def train(self) -> PairLoader:
        return self.ingredients.train

    @property
    def num_epochs(self) -> int:
        return self.settings.NUM_EPOCHS + self.settings.SCST_EPOCHS

    def schedule(self, step: int, steps_per_epoch: int) -> float:
        return share_of_peak(self.settings, step, steps_per_epoch)

    def criterion(self, run: Run) -> Criterion:
        """Self-critical training goes on from the averaged weights of the epochs before it."""
        if run.progress.epoch >= self.settings.NUM_EPOCHS:
            first = run.progress.history[-1]["train_loss"] is not None  # of these epochs: the one before had a loss
            if first and run.progress.batches_done == 0:
                run.average.restart(run.model)
        return criterion_of_epoch(self.ingredients, run)

    def validate(self, run: Run, record: dict, stop: StopSignal) -> Validation:
        """Greedy captions of NUM_VALIDATION_CAPTIONS pictures -> collapse measures, and a few to look at."""
        dataset, settings = self.val.dataset, self.settings

        def read(part: list[int]) -> Tensor:
            stop.check()
            return dataset.images(part)

        numbers, shown = (
            spread(count, len(dataset.pictures))
            for count in (settings.NUM_VALIDATION_CAPTIONS, settings.NUM_SAMPLE_CAPTIONS)
        )
        found = self.greedy_captions(list(dict.fromkeys([*numbers, *shown])), read)
        samples = [(dataset.pictures.path(i), found[i][0], dataset.references[i]) for i in shown]
        warnings = better_than_teacher(self.findings, record["val_loss"], dataset)
        if not numbers:
            return Validation({"warnings": warnings} if warnings else {}, samples)
        texts, finished = [found[i][0] for i in numbers], [found[i][1].finished for i in numbers]
        measures = measure_collapse(texts, finished, [dataset.references[i] for i in numbers])
        record = measures | {"warnings": collapse_warnings(measures, run.progress.global_step) + warnings}
        return Validation(record, samples, format_collapse(measures))

    def greedy_captions(self, numbers: list[int], read: Callable[[list[int]], Tensor]) -> dict[int, Captioned]:
        options, size = DecodingOptions(self.settings.MAX_SEQ_LEN), self.settings.BATCH_SIZE

        def caption(part: list[int]) -> list[Captioned]:
            return caption_all(self.captioner, read, part, options, size)

        with self.model.gathered(), autocast(self.device, self.dtype):
            return dict(zip(numbers, self.processes.shared_out(numbers, caption)))

    def say_start(self) -> None:
        """What a captioner scores as it comes: fine-tuning may lose what it knows."""
        dataset = self.val.dataset
        numbers = spread(self.settings.NUM_VALIDATION_CAPTIONS, len(dataset.pictures))
        if numbers:
            texts = [text for text, _ in self.greedy_captions(numbers, dataset.images).values()]
            cider = score_captions(texts, [dataset.references[i] for i in numbers]).mean["CIDEr-D"]
            print(f"start        CIDEr-D {cider:.3f} greedily: {self.settings.FINETUNE_FROM} as it comes")

    def save_best(self, run: Run, record: dict) -> None:
        merged = self.settings.LORA_RANK > 0 and self.settings.LORA_MERGE
        captioner = self.whole_captioner()
        if not self.processes.is_main:
            return
        captioner = without_adapters(captioner) if merged else captioner
        card = model_card(captioner.config, count_parameters(captioner.model), self.settings, record)
        save_captioner(captioner, run.best, record["epoch"], {"README.md": card})

    def whole_captioner(self) -> Captioner:
        """As it is now, in one piece, in the main process: a copy where processes share its weights out."""
        weights, own = self.model.state_dict(), self.captioner
        gathered = self.processes.whole(weights)
        if gathered is weights or not self.processes.is_main:
            return own
        state = {"model_state_dict": gathered, "average": {"values": {}}, "config": own.config["settings"], "epoch": 0}
        return captioner_from_checkpoint({**self.parts, **state}, Path("the sharded model"))

    def finish(self, run: Run) -> str:
        """Score best/ on the validation split as evaluate.py does, complete its card."""
        best, settings, dataset = run.best, self.settings, self.val.dataset
        captioner = load_captioner(best, self.device)
        parameters = count_parameters(captioner.model)
        captioner.make_fast(self.dtype)
        options = DecodingOptions(settings.MAX_SEQ_LEN, settings.BEAM_SIZE, length_penalty=settings.LENGTH_PENALTY)
        pictures = Pictures("val", dataset.pictures.paths, [*dataset.references], [])

        def read(numbers: list[int]) -> Tensor:
            return dataset.pictures.read(numbers, [0] * len(numbers))  # not cached features, which are rounded

        def caption(numbers: list[int]) -> list[Captioned]:
            return caption_pixels(captioner, read, numbers, options, self.dtype)

        captions = self.processes.shared_out(range(len(pictures.paths)), caption)
        if not self.processes.is_main:
            return ""
        evaluation = score_evaluation(captions, pictures, options, self.dtype, str(best))
        results = evaluation_record(evaluation)
        write_atomically(run.folder / "evaluation.json", json_text(results))
        record = run.progress.history[run.progress.best_epoch - 1]
        card = model_card(captioner.config, parameters, settings, record, results, self.findings)
        write_atomically(best / "README.md", card)
        say_final(best, f"; {options.in_words}")
        print(format_evaluation(evaluation))
        return f"python inference.py {shlex.join([str(pictures.paths[0]), '--checkpoint', str(best)])}"


def build_captioning(settings: Settings, resumed: Resumed | None, processes: Processes) -> Captioning:
    """Source, tokenizer, model and loaders, as the settings and a checkpoint say. Raises UserError."""
    check_loss(settings)
    decoder = find_decoder(settings.DECODER)
    device = pick_device(settings.DEVICE)
    dtype = pick_precision(settings, device)
    origin = load_origin(settings, resumed)
    if origin:
        settings = keep_architecture(settings, origin.config["settings"])
    elif not resumed:
        decoder.check(settings)  # before data are prepared
    teacher = find_teacher(settings, device)

    stored = resumed.checkpoint if resumed else {}
    choose = partial(choose_tokenizer, settings, origin, teacher, stored=stored.get("tokenizer"))
    with main_first(processes), preparing(settings):
        data = texts_on_disk(prepare(settings, Captions(choose)), settings.data_path)
        tokenizer = choose(data.captions_of("train"))
    settings = with_epochs(settings, len(data.split("train")))
    check_same_tokens(tokenizer, settings, resumed)
    model, image_processor = build_model(settings, tokenizer, origin, teacher, device, stored.get("architecture"))
    print_model(model, image_processor, tokenizer, settings)
    print_device(device, dtype)
    settle_attention(model.encoder, image_processor, dtype, resumed, processes)
    config = captioner_config(model, tokenizer, settings.to_dict(), epoch=0)
    captioner = Captioner(model, tokenizer, image_processor, config)
    ingredients, val, findings = build_loaders(captioner, data, teacher, settings, device, dtype, processes)
    say_validation(settings, len(val.dataset.pictures))
    say_long_warm_up(settings, settings.NUM_EPOCHS * steps_per_epoch(ingredients.train, settings))
    parts = checkpoint_parts(captioner)
    task = Captioning(settings, device, dtype, captioner, ingredients, val, parts, findings, processes)
    if origin and not resumed:
        task.say_start()
    return task


def share_of_peak(settings: Settings, step: int, steps_per_epoch: int) -> float:
    """Of the learning rate: over NUM_EPOCHS LR_SCHEDULE, then over SCST_EPOCHS SCST_LEARNING_RATE falling to 0."""
    steps = settings.NUM_EPOCHS * steps_per_epoch
    if step < steps or not settings.SCST_EPOCHS:
        return learning_rate_factor(step, warmup_steps(settings, steps), steps, settings.LR_SCHEDULE)
    left = 1 - (step - steps) / (settings.SCST_EPOCHS * steps_per_epoch)
    return settings.SCST_LEARNING_RATE / settings.LEARNING_RATE * max(0.0, left)


def load_origin(settings: Settings, resumed: Resumed | None) -> Captioner | None:
    """The captioner that training starts from, None without FINETUNE_FROM; a run that goes on no longer needs it.

    Raises UserError where it cannot be loaded.
    """
    if settings.FINETUNE_FROM is None:
        return None
    if resumed:
        return captioner_from_checkpoint(resumed.checkpoint, resumed.path)
    origin = load_captioner(settings.FINETUNE_FROM)
    check_settings(Path(settings.FINETUNE_FROM), origin.config["architecture"], origin.config["settings"])
    print(f"finetune     {settings.FINETUNE_FROM}")
    trainable = origin.config["settings"].get("ENCODER_TRAINABLE")
    if trainable != settings.ENCODER_TRAINABLE:
        print(f"             ENCODER_TRAINABLE is now {settings.ENCODER_TRAINABLE!r}, was {trainable!r}")
    return origin


def find_teacher(settings: Settings, device: torch.device) -> LazyTeacher | None:
    """TEACHER_MODEL_NAME where it teaches or lends its vocabulary. Raises UserError where it cannot what is asked."""
    if settings.DISTILL != "teacher" and settings.TOKENIZER != "teacher":
        return None
    teacher = LazyTeacher(settings.TEACHER_MODEL_NAME, device)
    if settings.DISTILL == "teacher":
        check_teacher(teacher, settings)
    return teacher


def choose_tokenizer(
    settings: Settings,
    origin: Captioner | None,
    teacher: LazyTeacher | None,
    training_captions: Sequence[str],
    stored: dict | None = None,
) -> Tokenizer:
    """That of FINETUNE_FROM, of a language model's checkpoint, of the teacher, of the decoder, or a trained BPE."""
    if origin:
        return origin.tokenizer
    if stored and "files" in stored:
        return tokenizer_from_dict(stored)
    if teacher and settings.TOKENIZER == "teacher":
        return teacher.loaded.caption_tokenizer
    return build_tokenizer(settings, training_captions)


def check_same_tokens(tokenizer: Tokenizer, settings: Settings, resumed: Resumed | None) -> None:
    """Raises UserError where a run would go on with other tokens than it was trained with."""
    if resumed and (trained := resumed.checkpoint["tokenizer"]["hash"]) != tokenizer.hash:
        raise UserError(
            f"{resumed.path} was trained with the vocabulary of hash {trained}, {settings.vocab_path} has hash "
            f"{tokenizer.hash}; put the old vocab.json and merges.txt back (or the old TOKENIZER and teacher), or "
            "start a new run"
        )


def build_model(
    settings: Settings,
    tokenizer: Tokenizer,
    origin: Captioner | None,
    teacher: LazyTeacher | None,
    device: torch.device,
    stored: dict | None = None,
) -> tuple[ImageToTextModel, ImageProcessor]:
    """Fresh as SEED makes it, with the weights of origin, or for those of a checkpoint of the architecture `stored`."""
    torch.manual_seed(settings.SEED)
    if origin:
        encoder, image_processor = origin.model.encoder, origin.image_processor
        encoder.set_trainable(settings.ENCODER_TRAINABLE)
    else:
        encoder, image_processor = load_encoder(settings)
    architecture = origin.model.architecture if origin else stored
    known = architecture if architecture and "decoder_config" in architecture else None  # asks for no other folder
    model = make_model(encoder, image_processor, tokenizer, settings, known).to(device)
    if origin:
        model.load_state_dict(origin.model.state_dict())
    if teacher and settings.DISTILL == "teacher" and settings.DISTILL_FEATURES:
        add_feature_loss(model, image_processor, teacher.loaded, settings)
    return model, image_processor


def build_loaders(
    captioner: Captioner,
    data: AnyData,
    teacher: LazyTeacher | None,
    settings: Settings,
    device: torch.device,
    dtype: torch.dtype,
    processes: Processes,
) -> tuple[Ingredients, PairLoader, dict[str, float]]:
    """Training pairs with all that criteria need beside them, validation pairs, and what is known of the teacher."""
    model, tokenizer = captioner.model, captioner.tokenizer
    train, val = (SplitPictures(data, split, captioner.image_processor, settings) for split in ("train", "val"))
    features = [
        cached_features(model.encoder, pictures, settings, device, dtype, processes)
        if settings.CACHE_FEATURES
        else None
        for pictures in (train, val)
    ]
    taught = teacher if settings.DISTILL == "teacher" else None  # else it only lends its vocabulary
    work = TeacherWork(taught, train, val, tokenizer, settings, dtype, processes) if taught else None
    captions = work.captions() if work and settings.DISTILL_CAPTIONS else None
    train_set = cached_pairs(train, tokenizer, settings, processes, features=features[0], mixed_in=captions)
    val_set = cached_pairs(val, tokenizer, settings, processes, features=features[1])
    soft_targets, findings = work.soft_targets(train_set, val_set) if work and settings.DISTILL_ALPHA else (None, {})
    ingredients = Ingredients(
        settings,
        model,
        tokenizer,
        PairLoader(train_set, settings, tokenizer.pad_id, shuffle=True, share=processes.share),
        soft_targets,
        taught.loaded if taught and settings.DISTILL_FEATURES else None,
    )
    val_loader = PairLoader(val_set, settings, tokenizer.pad_id, shuffle=False, share=processes.share)
    return ingredients, val_loader, findings
