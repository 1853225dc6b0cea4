"""Caption pictures with what export.py wrote, by onnxruntime alone: neither torch nor transformers is needed.

    python caption_onnx.py photo.jpg --model exported/
    python caption_onnx.py photos/ more.jpg --model exported/ --beam 3 --num-captions 3 --output captions.json
    cd exported && python caption_onnx.py photo.jpg     # an export has a copy of this file and of all it imports

    pip install onnxruntime tokenizers numpy Pillow     # all it takes

The captions are those of inference.py, and so is what --output does. A picture that cannot be read gets a line on
stderr, the others go on, and the exit status is 1. OMP_NUM_THREADS is heeded.
"""

import basics.starting  # noqa: F401  # first of all: for the seconds that the others take

# isort: split
import argparse
from pathlib import Path

from basics.errors import UserError, run_script
from captioner.exported import ONNX_PARTS, open_onnx
from captioner.flags import add_output_flags, add_search_flags, search_options
from captioner.output import output_form, write_answers
from captioner.picture_files import caption_picture_files
from networks.decoding_options import DecodingFlags, DecodingOptions
from sources.images import find_pictures

HERE = Path(__file__).parent


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python caption_onnx.py", description="Caption pictures without PyTorch.", allow_abbrev=False
    )
    parser.add_argument("pictures", nargs="+", help="picture files, folders of pictures, or patterns")
    parser.add_argument("--model", help="the folder that export.py wrote; default: that of this file, if it is one")
    add_search_flags(parser)
    add_output_flags(parser)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser.parse_args(argv)


def own_export() -> Path:
    """The export that this copy of the script lies in."""
    if not any((HERE / name).exists() for name in ONNX_PARTS):
        raise UserError("no export lies beside caption_onnx.py; name the folder that export.py wrote with --model")
    return HERE


def main(argv: list[str]) -> int:
    arguments = parse_arguments(argv)
    flags = DecodingFlags(arguments.beam, arguments.length_penalty, arguments.num_captions)
    search_options(flags, DecodingOptions(), arguments.batch_size)  # what is wrong with the flags alone
    paths = find_pictures(arguments.pictures)
    form = output_form(arguments.format, arguments.output, len(paths) == 1, arguments.overwrite)
    captioner = open_onnx(arguments.model or own_export())
    options = search_options(flags, captioner.own_options, arguments.batch_size)
    rows = caption_picture_files(captioner, paths, options, arguments.batch_size)
    return 1 if write_answers(rows, form, arguments.output, len(paths)) else 0


if __name__ == "__main__":
    run_script(main)
