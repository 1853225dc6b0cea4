"""Caption pictures:

    python inference.py photo.jpg                                  # just the caption
    python inference.py photos/ more/*.jpg --beam 5 --num-captions 3 --output captions.json      # or .csv, .txt
    python inference.py photo.jpg --checkpoint user/name           # a best/ folder, a checkpoint_*.pt or a Hub id
    python inference.py photo.jpg --checkpoint a/best,b/best       # an ensemble of several

Without --checkpoint the newest checkpoints/*/best is used, of this folder, else of the project's. Beams, length
penalty, sampling and precision are the captioner's own where no flag says otherwise. A picture that cannot be read gets
a line on stderr, the others go on, and the exit status is 1. --output is written as captions come, to NAME.*.tmp beside
it, and has its place at the end, or when Ctrl-C or an error stops it after the first caption.
"""

import basics.starting  # noqa: F401  # first of all: for the seconds that the others take

# isort: split
import argparse
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from basics.errors import UserError, run_script
from basics.paths import shown
from basics.progress_bar import progress_bar, say_beside_bar
from basics.setting_schema import SCHEMA
from basics.settings import Settings, constants
from captioner.flags import add_output_flags, add_search_flags, search_options
from captioner.output import output_form, write_captions
from captioner.picture_files import Found, caption_picture_files
from captioner.places import check_place, newest_best
from networks.decoding_options import DecodingFlags, DecodingOptions
from sources.images import find_pictures

if TYPE_CHECKING:  # torch takes seconds to import
    from captioner.ensemble import EnsembleCaptioner
    from captioner.folder import Captioner

STARTED = time.perf_counter()


def parse_arguments(argv: list[str], settings: Settings) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python inference.py", description="Caption pictures.", allow_abbrev=False)
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
    parser.add_argument("--top-k", type=int, help="sampling: the k likeliest tokens, 0: all; default: the captioner's")
    parser.add_argument("--top-p", type=float, help="sampling: the likeliest share; default: the captioner's")
    parser.add_argument("--seed", type=int, help="sampling: the same seed gives the same captions")
    parser.add_argument(
        "--device", default=settings.DEVICE, help="cpu, cuda, cuda:1 or mps; default: the best there is"
    )
    parser.add_argument(
        "--precision", choices=get_args(SCHEMA["PRECISION"].type), help="of its numbers; default: the captioner's"
    )
    add_output_flags(parser)
    parser.add_argument("--stats", action="store_true", help="say how long the first caption took, and pictures/s")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser.parse_args(argv)


class Stats:
    """Seconds to the first caption, counted from the start of the program, and the speed from then on."""

    def __init__(self, batch_size: int):
        self.ready, self.batch_size = time.perf_counter(), batch_size
        self.times: list[float] = []  # when each caption was there

    def watch(self, rows: Iterator[Found]) -> Iterator[Found]:
        for row in rows:
            if row.error is None:
                self.times.append(time.perf_counter())
            yield row

    def __str__(self) -> str:
        if not self.times:
            return "stats        no picture was captioned"
        first, last = self.times[0] - STARTED, self.times[-1]
        text = f"stats        first caption after {first:.2f} s, {self.ready - STARTED:.2f} s of it imports and weights"
        rest = len(self.times) - self.batch_size  # the first batch's captions come together
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
        print(f"captioner    {best}", file=sys.stderr, flush=True)
    return best


def load(checkpoint: str, device: str | None) -> "Captioner | EnsembleCaptioner":
    """One captioner or an ensemble, on its device."""
    from basics.devices import pick_device  # torch takes seconds to import: after what can go wrong without it

    place = pick_device(device)
    from captioner.ensemble import load_captioners  # and so does transformers

    return load_captioners(checkpoint, place)


def main(argv: list[str]) -> int:
    settings = constants()
    arguments = parse_arguments(argv, settings)
    flags = decoding_flags(arguments)
    paths = find_pictures(arguments.pictures)
    if (
        len(paths) == 1 and isinstance(paths[0], Path) and not os.path.lexists(paths[0])
    ):  # before weights are loaded for nothing
        raise UserError(f"cannot read {shown(paths[0])}: there is no such file")
    form = output_form(arguments.format, arguments.output, len(paths) == 1, arguments.overwrite)
    checkpoint = arguments.checkpoint or say_newest(settings)
    check_place(checkpoint)
    captioner = load(checkpoint, arguments.device)
    from basics.devices import autocast, pick_precision  # torch again

    options = search_options(flags, captioner.own_options, arguments.batch_size)
    own = captioner.settings
    precision = pick_precision(own.replace(PRECISION=arguments.precision or own.PRECISION), captioner.device)
    captioner.make_fast(precision)
    stats = Stats(arguments.batch_size)
    with autocast(captioner.device, precision):
        rows = stats.watch(caption_picture_files(captioner, paths, options, arguments.batch_size))
        bar = progress_bar(rows, total=len(paths), unit=" pictures", disable=len(paths) == 1)
        failed = write_captions(bar, form, arguments.output, len(paths), say_beside_bar)
    if arguments.stats:
        print(stats, file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    run_script(main)
