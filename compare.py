"""Two captioners on the same pictures: captions side by side, scores with intervals of their difference, and cost.

    python compare.py checkpoints/teacher/best checkpoints/student/best --split val --output both.json

Either may be a folder of GIT, a student's teacher, or an ensemble, a/best,b/best. Differences are B - A, their
intervals paired: each sample draws the same pictures for both. Cost: parameters, bytes on disk, pictures a second, peak
memory.
"""

import basics.starting  # noqa: F401  # first of all: for the seconds that the others take

# isort: split
import argparse

from basics.errors import run_script
from captioner.places import check_place
from scoring.request import add_flags, read_request


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python compare.py", description="Compare captioners.", allow_abbrev=False)
    for name in ("A", "B"):
        parser.add_argument(name, help="best/ or GIT folder, checkpoint_*.pt file or Hub id, or several with commas")
    add_flags(parser)
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    arguments = parse_arguments(argv)
    request, paths = read_request(arguments), (arguments.A, arguments.B)
    for path in paths:
        check_place(path)
    from scoring.comparison_report import show_comparison  # torch and transformers take seconds to import

    show_comparison(paths, request)
    return 0


if __name__ == "__main__":
    run_script(main)
