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
from networks.decoding_options import DecodingOptions
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

    def decoding(self, settings: Settings, max_seq_len: int | None) -> DecodingOptions:
        """How a captioner of those settings is searched. Raises UserError."""
        options = DecodingOptions(
            max_seq_len=max_seq_len,
            beam_size=settings.BEAM_SIZE if self.beam is None else self.beam,
            length_penalty=settings.LENGTH_PENALTY if self.length_penalty is None else self.length_penalty,
        )
        if problems := options.problems() + ["--batch-size must be 1 or more"] * (self.batch_size < 1):
            raise UserError("; ".join(problems))
        return options


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--split", choices=("val", "test", "train"), default="val")
    parser.add_argument("--data-dir", help="a dataset as downloaded or as prepared; default: what it was trained on")
    parser.add_argument("--beam", type=int, help="beams, 1 is greedy; default: BEAM_SIZE of the checkpoint")
    parser.add_argument("--length-penalty", type=float, help="default: LENGTH_PENALTY of the checkpoint")
    parser.add_argument("--batch-size", type=int, default=32, help="pictures captioned at once")
    parser.add_argument("--num-samples", type=int, default=5, help="pictures whose captions are printed")
    parser.add_argument("--output", help="write all captions and scores to this JSON file")
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
