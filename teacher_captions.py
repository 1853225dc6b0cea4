"""Caption a folder of pictures that has no captions with a teacher, as a dataset for its student:

    python teacher_captions.py --teacher microsoft/git-base-coco --images photos/       # writes photos/captions.jsonl
    python train.py --dataset folder --raw-dir photos/

The pictures' captions are the teacher's best beams (sequence-level distillation, Kim & Rush 2016, arXiv 1606.07947).
Stopped and started again it goes on with the pictures that have none yet. For training pictures that do have captions,
DISTILL_CAPTIONS mixes the teacher's in instead.
"""

import basics.starting  # noqa: F401  # first of all: for the seconds that the others take

# isort: split
import argparse
import json
import os
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from basics.errors import UserError, run_script
from basics.locks import locked
from basics.progress_bar import progress_bar
from sources.forms.registry import FORMS
from sources.images import IMAGE_SUFFIXES, ImageError, find_pictures, load_image

if TYPE_CHECKING:
    from PIL.Image import Image

BATCH = 8  # pictures captioned at once
START = b'{"by": "teacher_captions.py", "image": "'  # of each line: another's file is never touched


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python teacher_captions.py",
        description=__doc__,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--teacher", required=True, help="as TEACHER_MODEL_NAME: Hub id, folder or checkpoint_*.pt")
    parser.add_argument("--images", required=True, help="folder of pictures; captions.jsonl is written there")
    parser.add_argument("--beam", type=int, default=5, help="beams of beam search, 1 is greedy")
    parser.add_argument("--device", help="cpu, cuda, cuda:1 or mps; default: the best there is")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser.parse_args(argv)


def captioned(file: Path) -> set[str]:
    """The pictures that an earlier start has captioned; a last line that a kill cut short is cut off."""
    if not file.exists():
        return set()
    *lines, rest = file.read_bytes().split(b"\n")
    if not all(map(is_ours, lines)) or (rest and not (rest + b" ").startswith(START[: len(rest)])) or is_json(rest):
        raise UserError(f"{file} was not written by this script and is left as it is; move it to caption anew")
    if rest:
        os.truncate(file, file.stat().st_size - len(rest))
    return {json.loads(line)["image"] for line in lines}


def is_ours(line: bytes) -> bool:
    return line.startswith(START) and is_json(line)


def is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def as_line(name: str, caption: str) -> str:
    return json.dumps({"by": "teacher_captions.py", "image": name, "caption": caption}) + "\n"


def refuse_other_captions(folder: Path) -> None:
    """Raises UserError where the folder has captions in another form already: one of the two would be ignored."""
    for form in FORMS:
        others = [path for path in sorted(folder.glob(form.pattern)) if path.name != "captions.jsonl"]
        if others and (form.pattern != "*.txt" or has_picture(others)):
            raise UserError(
                f"{folder} has captions already, {others[0].name}, and of two captions files one is ignored; move it "
                "away, or mix the teacher's captions in with DISTILL_CAPTIONS"
            )


def has_picture(texts: list[Path]) -> bool:
    """Whether a text file lies beside a picture of its name."""
    return any(text.with_suffix(suffix).is_file() for text in texts for suffix in IMAGE_SUFFIXES)


def main(argv: list[str]) -> int:
    arguments = parse_arguments(argv)
    folder = Path(arguments.images)
    if not folder.is_dir():
        raise UserError(f"--images {folder} is no folder here")
    if arguments.beam < 1:
        raise UserError("--beam must be 1 or more")
    file = folder / "captions.jsonl"
    refuse_other_captions(folder)
    done = captioned(file)
    from basics.devices import pick_device  # torch and transformers take seconds to import: after what needs neither
    from distillation.teacher import load_teacher

    names = [os.path.relpath(str(path), folder) for path in find_pictures([str(folder)])]
    todo = [name for name in names if name not in done]
    teacher = load_teacher(arguments.teacher, pick_device(arguments.device))
    left_out: list[str] = []
    with (
        locked(folder / "captions.lock", otherwise="wait for its end"),
        open(file, "a", encoding="utf-8") as output,
        progress_bar(total=len(names), initial=len(names) - len(todo), desc="captioning", unit=" pictures") as bar,
    ):
        for start in range(0, len(todo), BATCH):
            batch = todo[start : start + BATCH]
            good: list[str] = []
            images = readable(folder, batch, good, left_out)
            first = next(images, None)
            rows = teacher.captions(teacher.pixels(chain([first], images)), arguments.beam) if first else []
            for name, row in zip(good, rows):
                output.write(as_line(name, row[0]))
            output.flush()
            bar.update(len(batch))
    if left_out:
        print(f"left out     {len(left_out)} pictures, {left_out[0]}")
    print(f"written      {len(names) - len(left_out):,} captions, {file}")
    print(f"next         python train.py --dataset folder --raw-dir {folder}")
    return 0


def readable(folder: Path, names: list[str], good: list[str], left_out: list[str]) -> Iterator["Image"]:
    """The pictures that can be read, each when it is asked for; its name goes to good, an error to left_out."""
    for name in names:
        try:
            image = load_image(folder / name)
        except ImageError as error:
            left_out.append(str(error))
            continue
        good.append(name)
        yield image


if __name__ == "__main__":
    run_script(main)
