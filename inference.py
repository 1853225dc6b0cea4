"""Caption pictures, or say what they show with a classifier:

    python inference.py photo.jpg                                  # just the caption, or the label and its probability
    python inference.py photos/ more/*.jpg --beam 5 --num-captions 3 --output captions.json      # or .csv, .txt
    python inference.py photo.jpg --checkpoint user/name           # a best/ folder, a checkpoint_*.pt or a Hub id
    python inference.py photo.jpg --checkpoint a/best,b/best       # an ensemble of several
    python inference.py photos/ --checkpoint CLASSIFIER --top-k 5  # the five likeliest labels of each

Without --checkpoint the newest checkpoints/*/best is used, of this folder, else of the project's. Beams, length
penalty, sampling and precision are the captioner's own where no flag says otherwise. A picture that cannot be read gets
a line on stderr, the others go on, and the exit status is 1. --output is written as answers come, to NAME.*.tmp beside
it, and has its place at the end, or when Ctrl-C or an error stops it after the first answer.
"""

import basics.starting  # noqa: F401  # first of all: for the seconds that the others take

# isort: split
import argparse
import os
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from basics.errors import UserError, run_script
from basics.paths import shown
from basics.progress_bar import progress_bar, say_beside_bar
from basics.setting_schema import SCHEMA
from basics.settings import Settings, constants
from captioner.flags import add_output_flags, add_search_flags, refuse_caption_flags, search_options
from captioner.output import CAPTIONS, LABELS, AnswerKind, form_name, form_of, write_answers
from captioner.picture_files import Answer, Found, answer_picture_files
from captioner.places import check_place, fetched, newest_best, task_of
from networks.decoding_options import DecodingFlags, DecodingOptions
from sources.images import find_pictures

if TYPE_CHECKING:  # torch takes seconds to import
    import torch

    from captioner.ensemble import EnsembleCaptioner
    from captioner.folder import Captioner
    from classifier.folder import Classifier

STARTED = time.perf_counter()


def parse_arguments(argv: list[str], settings: Settings) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python inference.py", description="Caption or classify pictures.", allow_abbrev=False
    )
    parser.add_argument(
        "pictures", nargs="+", help="picture files, folders of pictures, or patterns like 'photos/*.jpg'"
    )
    parser.add_argument(
        "--checkpoint",
        help="best/ folder, checkpoint_*.pt file or Hub id, or several with commas: an "
        "ensemble; default: the newest best/",
    )
    add_search_flags(parser)
    parser.add_argument("--temperature", type=float, help="above 0: sampling; default: the captioner's")
    parser.add_argument(
        "--top-k",
        type=int,
        help="sampling: the k likeliest tokens, 0: all; default: the captioner's. Of a classifier: the k likeliest "
        "labels; default: 1",
    )
    parser.add_argument("--top-p", type=float, help="sampling: the likeliest share; default: the captioner's")
    parser.add_argument("--seed", type=int, help="sampling: the same seed gives the same captions")
    parser.add_argument(
        "--device", default=settings.DEVICE, help="cpu, cuda, cuda:1 or mps; default: the best there is"
    )
    parser.add_argument(
        "--precision", choices=get_args(SCHEMA["PRECISION"].type), help="of its numbers; default: the model's own"
    )
    add_output_flags(parser)
    parser.add_argument("--stats", action="store_true", help="say how long the first answer took, and pictures/s")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser.parse_args(argv)


class Stats:
    """Seconds to the first answer, counted from the start of the program, and the speed from then on."""

    def __init__(self, batch_size: int, kind: AnswerKind):
        self.ready, self.batch_size, self.kind = time.perf_counter(), batch_size, kind
        self.times: list[float] = []  # when each answer was there

    def watch(self, rows: Iterator[Found]) -> Iterator[Found]:
        for row in rows:
            if row.error is None:
                self.times.append(time.perf_counter())
            yield row

    def __str__(self) -> str:
        if not self.times:
            return f"stats        no picture was {self.kind.done}"
        first, last = self.times[0] - STARTED, self.times[-1]
        weights = f"{self.ready - STARTED:.2f} s of it imports and weights"
        text = f"stats        first {self.kind.one} after {first:.2f} s, {weights}"
        rest = len(self.times) - self.batch_size  # the first batch's answers come together
        if rest > 0:
            text += f"; after the first batch {rest / (last - self.times[0]):.1f} pictures/s"
        return f"{text}; {len(self.times)} pictures in {last - self.ready:.2f} s"


def decoding_flags(arguments: argparse.Namespace) -> DecodingFlags:
    """As far as flags say. Raises UserError where they make no sense, whatever the captioner."""
    flags = DecodingFlags(
        beam=arguments.beam,
        length_penalty=arguments.length_penalty,
        num_captions=arguments.num_captions,
        temperature=arguments.temperature,
        top_k=arguments.top_k,
        top_p=arguments.top_p,
        seed=arguments.seed,
    )
    search_options(flags, DecodingOptions(), arguments.batch_size)
    return flags


def say_newest(settings: Settings) -> str:
    """The newest best/, named where somebody reads along: of several they would like to know which one speaks."""
    best = str(newest_best(settings.CHECKPOINT_DIR))
    if sys.stderr.isatty():
        who = {"caption": "captioner", "classify": "classifier"}[task_of(best)]
        print(f"{who:<12} {best}", file=sys.stderr, flush=True)
    return best


def load_for_captions(
    place: str, device: "torch.device", flags: DecodingFlags, batch_size: int
) -> tuple["Captioner | EnsembleCaptioner", Answer]:
    """A captioner or an ensemble, and how it is asked."""
    from captioner.ensemble import load_captioners  # transformers takes seconds to import, as torch does

    captioner = load_captioners(place, device)
    options = search_options(flags, captioner.own_options, batch_size)
    return captioner, lambda images: captioner.caption_images(images, options)


def load_for_labels(
    place: str, device: "torch.device", flags: DecodingFlags, batch_size: int
) -> tuple["Classifier", Answer]:
    """A classifier, and how it is asked."""
    from classifier.folder import load_classifier  # as above

    classifier = load_classifier(place, device)
    return classifier, partial(classifier.classify_images, top_k=flags.top_k or 1)


def check_label_flags(flags: DecodingFlags, checkpoint: str) -> None:
    """Raises UserError for those that make no sense to a classifier."""
    refuse_caption_flags(flags, checkpoint)
    if flags.top_k == 0:
        raise UserError("--top-k must be 1 or more where it counts labels")


def main(argv: list[str]) -> int:
    settings = constants()
    arguments = parse_arguments(argv, settings)
    flags = decoding_flags(arguments)
    paths = find_pictures(arguments.pictures)
    alone = len(paths) == 1
    if alone and isinstance(paths[0], Path) and not os.path.lexists(paths[0]):  # before weights are loaded for nothing
        raise UserError(f"cannot read {shown(paths[0])}: there is no such file")
    form = form_name(arguments.format, arguments.output, arguments.overwrite)
    checkpoint = arguments.checkpoint or say_newest(settings)
    check_place(checkpoint)
    place = fetched(checkpoint)
    classifies = task_of(place) == "classify"
    if classifies:
        check_label_flags(flags, checkpoint)
    from basics.devices import autocast, pick_device, pick_precision  # after what can go wrong without torch

    kind, load = (LABELS, load_for_labels) if classifies else (CAPTIONS, load_for_captions)
    model, answer = load(place, pick_device(arguments.device), flags, arguments.batch_size)
    own = model.settings
    precision = pick_precision(own.replace(PRECISION=arguments.precision or own.PRECISION), model.device)
    model.make_fast(precision)
    stats = Stats(arguments.batch_size, kind)
    with autocast(model.device, precision):
        rows = stats.watch(answer_picture_files(answer, paths, arguments.batch_size))
        bar = progress_bar(rows, total=len(paths), unit=" pictures", disable=alone)
        failed = write_answers(bar, form_of(form, alone, kind), arguments.output, len(paths), say_beside_bar)
    if arguments.stats:
        print(stats, file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    run_script(main)
