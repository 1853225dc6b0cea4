"""Classify pictures with what export.py wrote, by onnxruntime alone: neither torch nor transformers is needed.

    python classify_onnx.py photo.jpg --model exported/
    python classify_onnx.py photos/ more.jpg --model exported/ --top-k 3 --output labels.json
    cd exported && python classify_onnx.py photo.jpg    # an export has a copy of this file and of all it imports

    pip install onnxruntime numpy Pillow                # all it takes

The labels are those of inference.py, and so is what --output does. A picture that cannot be read gets a line on
stderr, the others go on, and the exit status is 1. OMP_NUM_THREADS is heeded.
"""

import basics.starting  # noqa: F401  # first of all: for the seconds that the others take

# isort: split
import argparse
from functools import partial

from basics.errors import UserError, run_script
from captioner.exported_parts import own_export
from captioner.flags import add_batch_flag, add_form_flags, batch_problems
from captioner.output import LABELS, form_name, form_of, write_answers
from captioner.picture_files import answer_picture_files
from classifier.exported import ONNX_MODEL, open_onnx_classifier
from sources.images import find_pictures


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python classify_onnx.py", description="Classify pictures without PyTorch.", allow_abbrev=False
    )
    parser.add_argument("pictures", nargs="+", help="picture files, folders of pictures, or patterns")
    parser.add_argument("--model", help="the folder that export.py wrote; default: that of this file, if it is one")
    parser.add_argument("--top-k", type=int, default=1, help="the k likeliest labels of each; default: 1")
    add_batch_flag(parser)
    add_form_flags(parser)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    arguments = parser.parse_args(argv)
    problems = batch_problems(arguments.batch_size)
    if problems := problems + ["--top-k must be 1 or more"] * (arguments.top_k < 1):
        raise UserError("; ".join(problems))
    return arguments


def main(argv: list[str]) -> int:
    arguments = parse_arguments(argv)
    paths = find_pictures(arguments.pictures)
    form = form_of(form_name(arguments.format, arguments.output, arguments.overwrite), len(paths) == 1, LABELS)
    classifier = open_onnx_classifier(arguments.model or own_export(__file__, [ONNX_MODEL]))
    answer = partial(classifier.classify_images, top_k=arguments.top_k)
    rows = answer_picture_files(answer, paths, arguments.batch_size)
    return 1 if write_answers(rows, form, arguments.output, len(paths)) else 0


if __name__ == "__main__":
    run_script(main)
