"""Two captioners, or image classifiers, on the same pictures: scores with intervals of their difference, and cost.

    python compare.py checkpoints/teacher/best checkpoints/student/best --split val --output both.json
    python compare.py alone=runs/a1/best,runs/a2/best taught=runs/t1/best,runs/t2/best --teacher teacher/best
    python compare.py checkpoints/large/best checkpoints/small/best --onnx --plot both.png

A captioner may be a folder of GIT, a student's teacher, or an ensemble, a/best,b/best; captions stand side by side.
Classifiers are two groups or more: a path, or NAME=path,path, one recipe with several seeds. Differences are paired:
each sample draws the same pictures for all. Cost: parameters, bytes on disk, pictures a second, peak memory; of
classifiers the arithmetic and the latency of one picture too.
"""

import basics.starting  # noqa: F401  # first of all: for the seconds that the others take

# isort: split
import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from basics.errors import UserError, run_script
from captioner.flags import refuse_caption_flags
from captioner.places import check_place
from scoring.comparison_groups import Group, read_groups, read_teachers, task_of_groups
from scoring.request import add_flags, check_plot, read_request
from sources.images import load_image

if TYPE_CHECKING:  # they import torch
    from classifier.folder import Classifier
    from sources.shards.picture import Picture


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python compare.py", description="Compare captioners or classifiers.", allow_abbrev=False
    )
    for name in ("A", "B"):
        parser.add_argument(name, help="best/ or GIT folder, checkpoint_*.pt file or Hub id, or several with commas")
    parser.add_argument("others", nargs="*", metavar="C", help="more, of classifiers; a name for any: NAME=path,path")
    parser.add_argument(
        "--teacher",
        action="append",
        default=[],
        metavar="[NAME=]PATH",
        help="of classifiers: how often each answers as this one does; NAME= for one group, and once for each",
    )
    parser.add_argument("--onnx", action="store_true", help="of classifiers: what their exports to ONNX cost too")
    parser.add_argument("--plot", help="of classifiers: draw accuracy, and accuracy against latency, to this PNG file")
    add_flags(parser)
    return parser.parse_args(argv)


def refuse_label_flags(arguments: argparse.Namespace, groups: list[Group]) -> None:
    """Raises UserError for what only classifiers have."""
    if given := [f"--{name}" for name in ("teacher", "onnx", "plot") if getattr(arguments, name)]:
        raise UserError(f"{', '.join(given)}: for classifiers, and {groups[0].text} is none; leave it out")
    if len(groups) > 2:
        raise UserError(f"captioners are compared two at a time, and {len(groups)} are named")
    if named := [group.text for group in groups if group.text.startswith(f"{group.name}=")]:
        raise UserError(f"{named[0]}: only groups of classifiers have names; write the path alone")


def export_to_onnx(classifier: "Classifier", pictures: "list[Picture]", work: Path) -> list[Path]:
    """An Exporter: in float32, and in 8 bits calibrated on pictures that it was trained on, where these are there."""
    from publishing.export_checks import CHECKED, calibration_pictures  # torch and onnx take seconds to import
    from publishing.export_classifier import export_classifier

    found = calibration_pictures(None, classifier.settings if classifier.config else None)
    shown = found.paths if found else []
    images = [load_image(picture) for picture in pictures[:CHECKED]]
    _, exports = export_classifier(classifier, images, "onnx", ["float32", "int8"], work, shown)
    return [export.folder for export in exports]


def main(argv: list[str]) -> int:
    arguments = parse_arguments(argv)
    request, groups = read_request(arguments), read_groups([arguments.A, arguments.B, *arguments.others])
    check_plot(arguments.plot)
    teachers = read_teachers(arguments.teacher, groups)
    paths = [*(path for group in groups for path in group.paths), *teachers.values()]
    for path in paths:
        check_place(path)
    if task_of_groups(paths) == "caption":
        refuse_label_flags(arguments, groups)
        from scoring.comparison_report import show_comparison  # torch and transformers take seconds to import

        show_comparison((arguments.A, arguments.B), request)
        return 0
    refuse_caption_flags(request.flags, paths[0])
    from scoring.label_comparison_report import show_label_comparison  # as above

    show_label_comparison(groups, teachers, request, arguments.plot, export_to_onnx if arguments.onnx else None)
    return 0


if __name__ == "__main__":
    run_script(main)
