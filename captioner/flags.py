"""The flags of all scripts that caption or classify, checked before weights are loaded and torch is imported.

add_search_flags(parser)
flags = DecodingFlags(arguments.beam, arguments.length_penalty)
search_options(flags, captioner.own_options, arguments.batch_size)      # raises UserError
refuse_caption_flags(flags, "user/name")                                # where that is a classifier
"""

import argparse
from collections.abc import Iterable
from dataclasses import fields

from basics.errors import UserError
from captioner.output import FORMATS
from networks.decoding_options import DecodingFlags, DecodingOptions

BATCH = 32  # pictures captioned or classified at once where nobody says


def add_search_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--beam", type=int, help="beams of beam search, 1 is greedy; default: the captioner's")
    parser.add_argument(
        "--length-penalty",
        type=float,
        help="a beam's log-probability is divided by length ** this; default: the captioner's",
    )
    parser.add_argument("--batch-size", type=int, default=BATCH, help="pictures captioned or classified at once")


def add_output_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--num-captions", type=int, default=1, help="captions a picture, best first; without --beam as many beams"
    )
    parser.add_argument("--format", choices=FORMATS, help="form of the output; default: by the end of --output")
    parser.add_argument("--output", help="write to this .txt, .json or .csv file instead of the screen")
    parser.add_argument("--overwrite", action="store_true", help="also where --output is a file already")


def search_options(flags: DecodingFlags, own: DecodingOptions, batch_size: int) -> DecodingOptions:
    """The flags over the captioner's own options. Raises UserError where they make no sense."""
    options = flags.over(own)
    if problems := options.problems() + ["--batch-size must be 1 to 10,000"] * (not 1 <= batch_size <= 10_000):
        raise UserError("; ".join(problems))
    return options


def refuse_caption_flags(flags: DecodingFlags, name: str, others: Iterable[str] = ()) -> None:
    """Raises UserError where one is given to a classifier that only captions have; others: more of such."""
    given = [field.name for field in fields(flags) if getattr(flags, field.name) != field.default]
    given = [f"--{name.replace('_', '-')}" for name in given if name != "top_k"] + [*others]
    if given:
        raise UserError(f"{', '.join(given)}: for captions, and {name} is a classifier; leave it out")
