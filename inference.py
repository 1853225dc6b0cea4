"""Caption pictures:

    python inference.py photo.jpg                                  # just the caption
    python inference.py photos/ more/*.jpg --beam 5 --format json --output captions.json
    python inference.py photo.jpg --checkpoint user/name           # a best/ folder, a checkpoint_*.pt or a Hub id
    python inference.py photo.jpg --checkpoint a/best,b/best       # an ensemble of several

Without --checkpoint the newest checkpoints/*/best is used. A picture that cannot be read gets a line on stderr, the
others go on, and the exit status is 1.
"""

import argparse
import csv
import io
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from basics.errors import UserError, run_script
from basics.files import write_atomically
from basics.settings import Settings, constants
from captioner.places import check_place, newest_best
from networks.decoding_options import DecodingOptions
from sources.images import find_pictures

if TYPE_CHECKING:
    from captioner.picture_files import Found, PictureCaptioner

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
    parser.add_argument("--beam", type=int, default=settings.BEAM_SIZE, help="beams of beam search, 1 is greedy")
    parser.add_argument(
        "--length-penalty",
        type=float,
        default=settings.LENGTH_PENALTY,
        help="a beam's log-probability is divided by length ** this",
    )
    parser.add_argument("--num-captions", type=int, default=1, help="captions a picture, best first")
    parser.add_argument("--temperature", type=float, default=settings.TEMPERATURE, help="above 0: sampling")
    parser.add_argument("--top-k", type=int, default=settings.TOP_K, help="sampling: the k likeliest tokens, 0 for all")
    parser.add_argument(
        "--top-p", type=float, default=settings.TOP_P, help="sampling: the likeliest share of probability"
    )
    parser.add_argument("--seed", type=int, help="sampling: the same seed gives the same captions")
    parser.add_argument("--batch-size", type=int, default=32, help="pictures captioned at once")
    parser.add_argument(
        "--device", default=settings.DEVICE, help="cpu, cuda, cuda:1 or mps; default: the best there is"
    )
    parser.add_argument("--format", choices=("text", "json", "csv"), default="text", help="form of the output")
    parser.add_argument("--output", help="write to this file instead of the screen")
    parser.add_argument("--stats", action="store_true", help="say how long the first caption took, and pictures/s")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser.parse_args(argv)


class Stats:
    """Seconds to the first caption, counted from the start of the program, and the speed from then on."""

    def __init__(self, batch_size: int):
        self.ready, self.batch_size = time.perf_counter(), batch_size
        self.times: list[float] = []  # when each caption was there

    def watch(self, rows: Iterator["Found"]) -> Iterator["Found"]:
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


def as_text(row: "Found", alone: bool) -> str:
    """The captions of a picture, a line each; its name before them unless it is the only one."""
    return "".join(f"{caption}\n" if alone else f"{row.path}\t{caption}\n" for caption, _ in row.captions)


def as_json(rows: list["Found"]) -> str:
    content = [
        {
            "image": str(row.path),
            "captions": [text for text, _ in row.captions],
            "scores": [round(caption.score, 4) for _, caption in row.captions],
        }
        for row in rows
    ]
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def as_table(rows: list["Found"]) -> str:
    """CSV with a line a caption; spreadsheet programs and csv.DictReader read it."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["image", "rank", "caption", "score"])
    for row in rows:
        for rank, (text, caption) in enumerate(row.captions, 1):
            writer.writerow([row.path, rank, text, round(caption.score, 4)])
    return table.getvalue()


def collect(rows: Iterator["Found"], total: int, output_format: str, to_screen: bool) -> tuple[str, int]:
    """The output and the number of pictures that failed; text for the screen appears as it comes."""
    good, failed, text = [], 0, ""
    for row in tqdm(rows, total=total, unit=" pictures", leave=False, disable=None if total > 1 else True):
        if row.error is not None:
            failed += 1
            tqdm.write(f"error: {row.error}", file=sys.stderr)
        elif output_format == "text":
            lines = as_text(row, alone=total == 1)
            text += lines
            if to_screen:
                tqdm.write(lines, end="", file=sys.stdout)
        else:
            good.append(row)
    if output_format != "text":
        text = as_json(good) if output_format == "json" else as_table(good)
    return text, failed


def decoding_options(arguments: argparse.Namespace) -> DecodingOptions:
    """As the flags say. Raises UserError where they make no sense."""
    options = DecodingOptions(
        beam_size=arguments.beam,
        num_captions=arguments.num_captions,
        length_penalty=arguments.length_penalty,
        temperature=arguments.temperature,
        top_k=arguments.top_k,
        top_p=arguments.top_p,
        seed=arguments.seed,
    )
    if problems := options.problems() + ["--batch-size must be 1 or more"] * (arguments.batch_size < 1):
        raise UserError("; ".join(problems))
    return options


def load(checkpoint: str, device: str | None) -> "PictureCaptioner":
    """One captioner or an ensemble, on its device."""
    from basics.devices import pick_device  # torch takes seconds to import: after what can go wrong without it

    place = pick_device(device)
    # timm would import it where it is installed, for a second
    hidden = sys.modules.setdefault("wandb", None)  # type: ignore[arg-type]  # None hides a module, says importlib
    from captioner.ensemble import load_captioners  # and so does transformers

    if hidden is None:
        del sys.modules["wandb"]
    return load_captioners(checkpoint, place)


def main(argv: list[str]) -> int:
    settings = constants()
    arguments = parse_arguments(argv, settings)
    options = decoding_options(arguments)
    paths = find_pictures(arguments.pictures)
    checkpoint = arguments.checkpoint or str(newest_best(settings.CHECKPOINT_DIR))
    check_place(checkpoint)
    captioner = load(checkpoint, arguments.device)
    from captioner.picture_files import caption_picture_files  # torch again

    stats = Stats(arguments.batch_size)
    rows = stats.watch(caption_picture_files(captioner, paths, options, arguments.batch_size))
    text, failed = collect(rows, len(paths), arguments.format, arguments.output is None)
    if arguments.output:
        write_atomically(Path(arguments.output), text)
        print(f"{len(paths) - failed} of {len(paths)} pictures captioned: {arguments.output}", file=sys.stderr)
    elif arguments.format != "text":
        print(text, end="")
    if arguments.stats:
        print(stats, file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    run_script(main)
