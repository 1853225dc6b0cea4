"""Two captioners on the same pictures: what each says, its scores, and intervals of their difference.

    comparison = compare_captioners(("git", "checkpoints/student/best"), request)
    comparison.differences["scores"]["CIDEr-D"]       # {"difference": B - A, "low": ..., "high": ...}

Either may be a folder of GIT, a student's teacher, or an ensemble, a/best,b/best. Differences are B - A, their
intervals paired: each sample draws the same pictures for both.
"""

from dataclasses import dataclass, replace

from basics.devices import pick_device, pick_precision
from basics.errors import UserError
from captioner.any_captioner import AnyCaptioner, load_any
from networks.decoding_options import DecodingOptions
from scoring.bootstrap import difference_intervals
from scoring.comparison_groups import short_names
from scoring.evaluation import Evaluation, evaluate_files, evaluation_record
from scoring.request import Request
from scoring.signature import dtype_name
from sources.pictures import Pictures, split_pictures

SAME = 1e-9  # CIDEr-D is a sum of floats: what differs by less is equal


@dataclass
class Outcome:
    """A side: a captioner under a short name, how it was searched, and what a plain evaluation says of it."""

    name: str
    captioner: AnyCaptioner
    options: DecodingOptions
    precision: str
    evaluation: Evaluation


@dataclass
class Comparison:
    """Both sides on the same pictures."""

    outcomes: list[Outcome]  # A, B
    differences: dict  # as score_differences() gives them

    @property
    def pictures(self) -> Pictures:
        return self.outcomes[0].evaluation.pictures


def compare_captioners(paths: tuple[str, str], request: Request) -> Comparison:
    """Load both, caption the pictures of one split, score. Raises UserError."""
    device = pick_device(request.device)
    captioners = searched_alike([load_any(path, device) for path in paths])
    options = [request.decoding(each.settings, each.max_seq_len) for each in captioners]
    owner = captioners[owner_of_data(captioners)]
    pictures, outcomes = split_pictures(request.data_dir, request.split, owner.settings), []
    for name, captioner, decoding in zip(short_names(*paths), captioners, options):
        precision = pick_precision(captioner.settings, device)
        evaluation = evaluate_files(captioner, pictures, decoding, precision, request.batch_size)
        outcomes.append(Outcome(name, captioner, decoding, dtype_name(precision), evaluation))
        if outcomes[0].evaluation.pictures.paths != evaluation.pictures.paths:
            raise UserError(f"a picture was there for A and is not for B: {evaluation.pictures.left_out[-1]}")
        pictures = evaluation.pictures  # B is not asked for what could not be read
    return Comparison(outcomes, score_differences(*(each.evaluation for each in outcomes)))


def searched_alike(captioners: list[AnyCaptioner]) -> list[AnyCaptioner]:
    """GIT, which has no settings of its own, with those of the captioner beside it."""
    return [
        replace(each, settings=other.settings) if each.data is None else each
        for each, other in zip(captioners, reversed(captioners))
    ]


def owner_of_data(captioners: list[AnyCaptioner]) -> int:
    """Whose data is taken without --data-dir: A's; B's where A is GIT, which names none; config.py's where both are."""
    return 1 if captioners[0].data is None and captioners[1].data is not None else 0


def score_differences(a: Evaluation, b: Evaluation) -> dict:
    """B - A of each score with its 95% interval, and on how many pictures B's CIDEr-D is higher, equal and lower."""
    intervals = difference_intervals(a.scores, b.scores)
    first, second = a.scores.mean, b.scores.mean
    gain = b.scores.per_image["CIDEr-D"] - a.scores.per_image["CIDEr-D"]
    higher, lower = int((gain > SAME).sum()), int((gain < -SAME).sum())
    return {
        "scores": {
            name: {"difference": second[name] - first[name], "low": low, "high": high}
            for name, (low, high) in intervals.items()
        },
        "pictures_by_cider_d_of_b": {"higher": higher, "equal": len(gain) - higher - lower, "lower": lower},
        "equal_captions": sum(x == y for x, y in zip(a.texts, b.texts)),
    }


def comparison_record(comparison: Comparison, costs: list[dict], setup: dict) -> dict:
    """The JSON file: each side as a plain evaluation has it, but for the pictures, which hold both sides' captions."""
    sides, rows = {}, []
    for letter, each, cost in zip("AB", comparison.outcomes, costs):
        sides[letter] = {"name": each.name, **evaluation_record(each.evaluation), "cost": cost}
        rows.append(sides[letter].pop("images"))
    shared = ("image", "references")
    images = [
        {name: a[name] for name in shared}
        | {letter: {k: v for k, v in row.items() if k not in shared} for letter, row in (("A", a), ("B", b))}
        for a, b in zip(*rows)
    ]
    return {**sides, "differences": comparison.differences, "cost_measured_on": setup, "images": images}
