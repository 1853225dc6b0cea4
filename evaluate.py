"""Score a captioner or a classifier on a split, with 95% intervals and a signature that says which numbers compare:

    python evaluate.py --checkpoint checkpoints/my-run/best --split val --beam 5 --output results.json
    python evaluate.py --checkpoint user/name --split test --data-dir PATH     # a dataset as downloaded, or prepared
    python evaluate.py --checkpoint CLASSIFIER --split test --plot confusion.png
    python evaluate.py --compare path/to/git checkpoints/student/best          # as compare.py does

Prints captions beside their references, the scores and the collapse alarm; --output holds every caption with its own
scores. Of a classifier: its surest mistakes, the scores and what is taken for what; --output holds every answer.
Without --checkpoint the newest checkpoints/*/best is taken, without --data-dir the data it was trained on.
"""

import basics.starting  # noqa: F401  # first of all: for the seconds that the others take

# isort: split
import argparse
from dataclasses import replace
from pathlib import Path

from basics.errors import UserError, run_script
from basics.files import write_atomically
from basics.settings import constants
from basics.text import json_text
from captioner.flags import refuse_caption_flags
from captioner.places import check_place, fetched, newest_best, task_of
from scoring.comparison_groups import read_groups, task_of_groups
from scoring.request import Request, add_flags, check_plot, read_request
from sources.pictures import split_pictures


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python evaluate.py", description="Score a captioner or a classifier.", allow_abbrev=False
    )
    parser.add_argument(
        "--checkpoint",
        help="best/ folder, checkpoint_*.pt file or Hub id, or several with "
        "commas: an ensemble; default: the newest best/",
    )
    parser.add_argument(
        "--compare",
        nargs=2,
        metavar=("A", "B"),
        help="two captioners, ensembles or folders of GIT, or two classifiers: "
        "answers, scores with intervals of their difference, and cost, side by side",
    )
    parser.add_argument("--meteor", action="store_true", help="METEOR too: needs Java and pip install pycocoevalcap")
    parser.add_argument("--spice", action="store_true", help="SPICE too: needs the same and downloads 385 MB")
    parser.add_argument("--plot", help="of a classifier: draw what it takes for what to this PNG file")
    add_flags(parser)
    arguments = parser.parse_args(argv)
    if arguments.compare and arguments.checkpoint:
        raise UserError("--compare names both captioners itself; leave out --checkpoint")
    check_plot(arguments.plot)
    if arguments.compare and (arguments.meteor or arguments.spice):
        raise UserError("--compare has no METEOR and SPICE; run evaluate.py --checkpoint for each captioner instead")
    return arguments


def print_captions(checkpoint: str, place: str, request: Request, meteor: bool, spice: bool) -> dict:
    """Caption, score, print -> what the JSON file holds; place: where the checkpoint lies."""
    from basics.devices import pick_device, pick_precision  # torch takes a second to import: after the flags

    device = pick_device(request.device)
    from captioner.any_captioner import load_trained  # and transformers takes seconds: after the device
    from scoring.evaluation import evaluate_files, evaluation_record
    from scoring.evaluation_report import format_captioned, format_evaluation, format_left_out
    from scoring.extra_scores import add_extra_scores

    captioner = replace(load_trained(place, device), path=checkpoint)
    options = request.decoding(captioner.settings, captioner.max_seq_len)
    pictures = split_pictures(request.data_dir, request.split, captioner.settings)
    precision = pick_precision(captioner.settings, device)
    evaluation = evaluate_files(captioner, pictures, options, precision, request.batch_size)
    add_extra_scores(evaluation, meteor, spice, device)
    if request.num_samples:
        print(format_captioned(evaluation, request.num_samples))
    print("\n".join([*format_left_out(evaluation.pictures.left_out), format_evaluation(evaluation)]))
    return evaluation_record(evaluation)


def print_labels(checkpoint: str, place: str, request: Request, plot: str | None) -> dict:
    """Classify, score, print, draw -> the same."""
    from basics.devices import pick_device, pick_precision  # as above

    device = pick_device(request.device)
    from classifier.folder import load_classifier  # as above
    from scoring.confusion_picture import plot_confusion
    from scoring.evaluation_report import format_left_out
    from scoring.label_evaluation import evaluate_label_files, label_record
    from scoring.label_report import format_label_evaluation, format_wrong

    classifier = load_classifier(place, device)
    pictures = split_pictures(request.data_dir, request.split, classifier.settings)
    precision = pick_precision(classifier.settings, device)
    classifier.make_fast(precision)
    evaluation = evaluate_label_files(classifier, pictures, precision, request.batch_size, checkpoint)
    if request.num_samples:
        print(format_wrong(evaluation, request.num_samples))
    print("\n".join([*format_left_out(evaluation.pictures.left_out), format_label_evaluation(evaluation)]))
    if plot:
        plot_confusion(Path(plot), evaluation)
        print(f"drawn        {plot}")
    return label_record(evaluation)


def record_of(arguments: argparse.Namespace, request: Request) -> dict:
    """Evaluate and print -> what the JSON file holds. Raises UserError for flags of the other task."""
    checkpoint = arguments.checkpoint or str(newest_best(constants().CHECKPOINT_DIR))
    check_place(checkpoint)
    place = fetched(checkpoint)
    if task_of(place) == "classify":
        metrics = [f"--{name}" for name in ("meteor", "spice") if getattr(arguments, name)]
        refuse_caption_flags(request.flags, checkpoint, metrics)
        return print_labels(checkpoint, place, request, arguments.plot)
    if arguments.plot:
        raise UserError(f"--plot draws labels of classifiers, and {checkpoint} is none; leave it out")
    return print_captions(checkpoint, place, request, arguments.meteor, arguments.spice)


def compare_both(sides: list[str], request: Request, plot: str | None) -> None:
    """As compare.py does. Raises UserError."""
    groups = read_groups(sides)
    paths = [path for group in groups for path in group.paths]
    for path in paths:
        check_place(path)
    if task_of_groups(paths) == "classify":
        refuse_caption_flags(request.flags, paths[0])
        from scoring.label_comparison_report import show_label_comparison  # torch takes its time

        show_label_comparison(groups, {}, request, plot)
        return
    if plot:
        raise UserError(f"--plot draws labels of classifiers, and {paths[0]} is none; leave it out")
    from scoring.comparison_report import show_comparison  # as above

    show_comparison((sides[0], sides[1]), request)


def main(argv: list[str]) -> int:
    arguments = parse_arguments(argv)
    request = read_request(arguments)
    if arguments.compare:
        compare_both(arguments.compare, request, arguments.plot)
        return 0
    record = record_of(arguments, request)
    if request.output:
        write_atomically(Path(request.output), json_text(record))
        print(f"written      {request.output}")
    return 0


if __name__ == "__main__":
    run_script(main)
