"""What is asked of an evaluation: the flags that evaluate.py and compare.py share, checked before torch is imported.

add_flags(parser)
request = read_request(parser.parse_args(argv))       # raises UserError for what needs no captioner to be seen
options = request.decoding(settings, max_seq_len)     # what no flag says is as the captioner's settings say
"""

import argparse
from dataclasses import dataclass, fields
from pathlib import Path

from basics.errors import UserError
from basics.settings import Settings, constants
from captioner.flags import add_search_flags, search_options
from networks.decoding_options import DecodingFlags, DecodingOptions
from sources.pictures import existing_data


@dataclass(frozen=True)
class Request:
    """The flags of add_flags(); None: as the captioner's settings say, the best device, no file."""

    split: str = "val"
    data_dir: str | None = None
    beam: int | None = None
    length_penalty: float | None = None
    batch_size: int = 32
    num_samples: int = 5
    output: str | None = None
    device: str | None = None

    @property
    def flags(self) -> DecodingFlags:
        return DecodingFlags(self.beam, self.length_penalty)

    def decoding(self, settings: Settings, max_seq_len: int | None) -> DecodingOptions:
        """How a captioner of those settings is searched. Raises UserError."""
        own = DecodingOptions(max_seq_len, settings.BEAM_SIZE, length_penalty=settings.LENGTH_PENALTY)
        return search_options(self.flags, own, self.batch_size)


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--split", choices=("val", "test", "train"), default="val")
    parser.add_argument("--data-dir", help="a dataset as downloaded or as prepared; default: what it was trained on")
    add_search_flags(parser)
    parser.add_argument(
        "--num-samples",
        type=int,
        default=5,
        help="pictures that are printed with their answers; of a classifier wrong ones",
    )
    parser.add_argument("--output", help="write all answers and scores to this JSON file")
    parser.add_argument(
        "--device", default=constants().DEVICE, help="cpu, cuda, cuda:1 or mps; default: the best there is"
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def read_request(arguments: argparse.Namespace) -> Request:
    """The request behind parsed flags. Raises UserError for a folder that is not there and numbers out of range."""
    request = Request(**{field.name: getattr(arguments, field.name) for field in fields(Request)})
    request.decoding(constants().replace(BEAM_SIZE=1, LENGTH_PENALTY=1.0), max_seq_len=None)  # the flags alone
    if request.data_dir:
        existing_data(Path(request.data_dir).expanduser())
    return request


def check_plot(path: str | None) -> None:
    """Raises UserError where a picture cannot be drawn to that file."""
    if path and (Path(path).is_dir() or Path(path).suffix.lower() != ".png"):
        raise UserError(f"--plot {path} must be a file that ends in .png")
