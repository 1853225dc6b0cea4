"""Export a captioner or classifier to run without this project: ONNX, which needs no PyTorch, or torch.export programs.

    python export.py                                              # the newest best/ -> onnx/ beside it
    python export.py --checkpoint PATH --format onnx --int8 --output exported/
    python export.py --checkpoint PATH --format torch

Writes encoder, prefill (the first token) and step (one more token with cached keys and values) as .onnx or .pt2 files,
of a classifier one file, model.onnx or model.pt2; config.json, the vocabulary, a README.md and, with ONNX,
caption_onnx.py or classify_onnx.py and all it imports. Before the folder appears it is checked: every part against
PyTorch at every cache length or batch, and the captions or labels of 100 pictures, from file to text, against ours.
--int8 calibrates 8-bit arithmetic on the training pictures, or else on --pictures; where there are neither, only
weights are int8. An older export makes way with --overwrite or after a yes on the terminal.
Needs: pip install onnx onnxscript onnxruntime.
"""

import basics.starting  # noqa: F401  # first of all: for the seconds that the others take

# isort: split
import argparse
import sys
from pathlib import Path

from basics.errors import UserError, run_script
from basics.progress_bar import say_beside_bar
from basics.settings import constants
from captioner.places import newest_best, task_of
from publishing.export_folder import (
    Export,
    Exportable,
    agree_to_replace,
    find_output,
    folder_in_the_making,
    replace_export,
    require_onnx,
    write_measured,
)
from sources.images import load_image
from sources.shards.picture import Picture


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python export.py", description="Export a captioner or classifier.", allow_abbrev=False
    )
    parser.add_argument("--checkpoint", help="best/ folder, checkpoint_*.pt file or Hub id; default: the newest best/")
    parser.add_argument("--format", choices=("onnx", "torch"), default="onnx", help="form of the parts")
    parser.add_argument("--output", help="folder to write; default: onnx, onnx-int8 or torch beside the checkpoint")
    parser.add_argument("--overwrite", action="store_true", help="replace an older export in that folder unasked")
    parser.add_argument("--int8", action="store_true", help="8-bit numbers: a quarter of the size, and faster")
    parser.add_argument(
        "--pictures", help="folder of pictures to check captions or labels on; default: the validation pictures"
    )
    parser.add_argument("--num-pictures", type=int, default=100, help="how many of them, at most")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    arguments = parser.parse_args(argv)
    if arguments.int8 and arguments.format == "torch":
        raise UserError("--int8 is for --format onnx")
    if arguments.num_pictures < 1:
        raise UserError("--num-pictures must be 1 or more")
    return arguments


def load_exportable(checkpoint: str) -> Exportable:
    """A captioner or a classifier, by what lies there. Raises UserError."""
    if task_of(checkpoint) == "classify":
        # torch and transformers take seconds: after what can go wrong without them
        from publishing.export_classifier import load_exportable_classifier

        return load_exportable_classifier(checkpoint)
    from publishing.export_captioner import load_exportable_captioner  # as above

    return load_exportable_captioner(checkpoint)


def export(checkpoint: str, output: Path, arguments: argparse.Namespace) -> Exportable:
    """Write the folder, checked; prints what is found. Raises UserError."""
    print(f"checkpoint      {checkpoint}", flush=True)
    model = load_exportable(checkpoint)
    from publishing.export_checks import CHECKED, check_pictures  # torch again

    with folder_in_the_making(output) as work:
        pictures = check_pictures(arguments.pictures, model.settings, arguments.num_pictures, work / "drawn")
        images = [load_image(path) for path in pictures.paths[:CHECKED]]
        weights = ["float32", "int8"] if arguments.int8 else ["float32"]
        shown = calibration(model, arguments.pictures) if arguments.int8 else []
        levels, exports = model.export(images, arguments.format, weights, work, shown)
        print(format_files(exports[-1]))
        print(f"pixels          at most {levels:.1f} of 255 from the encoder's own preprocessing")
        print(f"{model.answers:<16}{len(pictures.paths)} pictures ({pictures.split})", flush=True)
        lines = [f"{len(pictures.paths)} pictures ({pictures.split})"]
        for line in model.compare(exports, pictures):
            say_beside_bar(line + "\n", sys.stdout)
            lines.append(line)
        write_measured(exports[-1].folder, model.answer, lines)
        replace_export(exports[-1].folder, output, work)
    print(f"written         {output}")
    return model


def calibration(model: Exportable, folder: str | None) -> list[Picture]:
    """The pictures that 8-bit arithmetic is calibrated on, none where weights alone become int8; prints which."""
    from publishing.export_checks import FEWEST, calibration_pictures  # after what can go wrong without torch

    found = None
    if model.float_arithmetic:
        print(f"int8            weights alone, {model.float_arithmetic}: smaller, not faster")
    elif (found := calibration_pictures(folder, model.settings)) is None:
        print(
            "int8            weights alone, smaller and not faster: 8-bit arithmetic is calibrated on the training "
            f"pictures, or on {FEWEST} or more of --pictures, and there are neither"
        )
    else:
        print(f"int8            calibrated on {len(found.paths)} pictures ({found.split})", flush=True)
    return found.paths if found else []


def format_files(exported: Export) -> str:
    """A line a file, largest first: its size, and how far a part is from PyTorch."""
    lines, files = [], exported.files()
    width = max(15, *(len(path.name) for path in files))
    for path in files:
        known = path.stem in exported.differences
        difference = f"  {exported.differences[path.stem]:.1e} from PyTorch" if known else ""
        lines.append(f"{path.name:<{width}} {path.stat().st_size / 1e6:>6.2f} MB{difference}")
    return "\n".join(lines)


def main(argv: list[str]) -> None:
    arguments = parse_arguments(argv)
    if arguments.format == "onnx":
        require_onnx()
    checkpoint = arguments.checkpoint or str(newest_best(constants().CHECKPOINT_DIR))
    name = arguments.format + ("-int8" if arguments.int8 else "")
    output = find_output(arguments.output, checkpoint, name)
    agree_to_replace(output, arguments.overwrite)
    model = export(checkpoint, output, arguments)
    if arguments.format == "onnx":
        print(f"next            python {model.script} photo.jpg --model {output}")


if __name__ == "__main__":
    run_script(main)
