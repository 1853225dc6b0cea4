"""Score a captioner on a split, with 95% intervals and a signature that says when two numbers may be compared:

    python evaluate.py --checkpoint checkpoints/my-run/best --split val --beam 5 --output results.json
    python evaluate.py --checkpoint user/name --split test --data-dir PATH     # a dataset as downloaded, or prepared
    python evaluate.py --compare path/to/git checkpoints/student/best          # as compare.py does

Prints captions beside their references, the scores and the collapse alarm; --output holds every caption with its own
scores. Without --checkpoint the newest checkpoints/*/best is taken, without --data-dir the data it was trained on.
"""

import basics.starting  # noqa: F401  # first of all: for the seconds that the others take

# isort: split
import argparse
from pathlib import Path

from basics.errors import UserError, run_script
from basics.files import write_atomically
from basics.settings import constants
from basics.text import json_text
from captioner.places import check_place, newest_best
from scoring.request import Request, add_flags, read_request
from sources.pictures import split_pictures


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python evaluate.py", description="Score a captioner.", allow_abbrev=False)
    parser.add_argument(
        "--checkpoint",
        help="best/ folder, checkpoint_*.pt file or Hub id, or several with "
        "commas: an ensemble; default: the newest best/",
    )
    parser.add_argument(
        "--compare",
        nargs=2,
        metavar=("A", "B"),
        help="two captioners, ensembles or folders of GIT: "
        "captions, scores with intervals of their difference, and cost, side by side",
    )
    parser.add_argument("--meteor", action="store_true", help="METEOR too: needs Java and pip install pycocoevalcap")
    parser.add_argument("--spice", action="store_true", help="SPICE too: needs the same and downloads 385 MB")
    add_flags(parser)
    arguments = parser.parse_args(argv)
    if arguments.compare and arguments.checkpoint:
        raise UserError("--compare names both captioners itself; leave out --checkpoint")
    if arguments.compare and (arguments.meteor or arguments.spice):
        raise UserError("--compare has no METEOR and SPICE; run evaluate.py --checkpoint for each captioner instead")
    return arguments


def evaluate_and_print(checkpoint: str, request: Request, meteor: bool, spice: bool) -> None:
    """Caption, score, print, write."""
    from basics.devices import pick_device, pick_precision  # torch takes a second to import: after the flags

    device = pick_device(request.device)
    from captioner.any_captioner import load_trained  # and transformers takes seconds: after the device
    from scoring.evaluation import evaluate_files, evaluation_record
    from scoring.evaluation_report import format_captioned, format_evaluation, format_left_out
    from scoring.extra_scores import add_extra_scores

    captioner = load_trained(checkpoint, device)
    options = request.decoding(captioner.settings, captioner.max_seq_len)
    pictures = split_pictures(request.data_dir, request.split, captioner.settings)
    precision = pick_precision(captioner.settings, device)
    evaluation = evaluate_files(captioner, pictures, options, precision, request.batch_size)
    add_extra_scores(evaluation, meteor, spice, device)
    if request.num_samples:
        print(format_captioned(evaluation, request.num_samples))
    print("\n".join([*format_left_out(evaluation.pictures.left_out), format_evaluation(evaluation)]))
    if request.output:
        write_atomically(Path(request.output), json_text(evaluation_record(evaluation)))
        print(f"written      {request.output}")


def main(argv: list[str]) -> int:
    arguments = parse_arguments(argv)
    request = read_request(arguments)
    if arguments.compare:
        for path in arguments.compare:
            check_place(path)
        from scoring.comparison_report import show_comparison  # torch takes its time

        show_comparison(arguments.compare, request)
        return 0
    checkpoint = arguments.checkpoint or str(newest_best(constants().CHECKPOINT_DIR))
    check_place(checkpoint)
    evaluate_and_print(checkpoint, request, arguments.meteor, arguments.spice)
    return 0


if __name__ == "__main__":
    run_script(main)
