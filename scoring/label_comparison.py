"""Groups of classifiers on the same pictures: scores, their means over seeds, and paired intervals of differences.

    comparison = compare_classifiers(groups, {"taught": "teacher/best"}, request)
    comparison.outcomes[1].scores.mean["top-1"]             # of a group: the mean over its seeds
    comparison.differences()[1]["top-1"]                    # from the first group: {"difference", "low", "high"}

A group is one recipe with several seeds (comparison_groups.py). Intervals are over pictures, each sample draws the same
ones for all; what other seeds would give is seen by the spread over seeds, not by the interval.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from basics.devices import pick_device, pick_precision
from basics.errors import UserError
from basics.settings import Settings
from classifier.folder import load_classifier
from scoring.bootstrap import Resampled, difference_intervals
from scoring.comparison_groups import Group
from scoring.label_evaluation import LabelEvaluation, evaluate_label_files, label_record
from scoring.labels import TOP_1, LabelScores
from scoring.request import Request
from scoring.signature import dtype_name
from sources.pictures import Pictures, split_pictures


@dataclass
class MeanOfSeeds(Resampled):
    """The scores of one recipe: the mean over seeds of what is had of each on the same pictures."""

    members: list[LabelScores]

    @property
    def num_images(self) -> int:
        return self.members[0].num_images

    def resampled(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        rows = [member.resampled(weights) for member in self.members]
        shared = [name for name in rows[0] if all(name in row for row in rows)]  # few classes have no top-5
        return {name: np.mean([row[name] for row in rows], axis=0) for name in shared}


@dataclass
class GroupOutcome:
    """A group with a plain evaluation of each seed, and that of the teacher it is held against."""

    group: Group
    evaluations: list[LabelEvaluation]
    precisions: list[str]
    settings: Settings  # of its first seed
    teacher: LabelEvaluation | None

    @property
    def name(self) -> str:
        return self.group.name

    @cached_property
    def scores(self) -> MeanOfSeeds:
        return MeanOfSeeds([each.scores for each in self.evaluations])

    def of_seeds(self, score: str) -> list[float]:
        return [each.scores.mean[score] for each in self.evaluations]

    @property
    def agreement(self) -> list[float] | None:
        """Of each seed the share of pictures that it answers as the teacher does, by the names of the classes."""
        if self.teacher is None:
            return None
        theirs = answers_of(self.teacher)
        return [float((answers_of(each) == theirs).mean()) for each in self.evaluations]


@dataclass
class LabelComparison:
    """All groups on the same pictures, and whose data those are."""

    outcomes: list[GroupOutcome]
    pictures: Pictures
    device: torch.device
    data: str

    def differences(self) -> list[dict[str, dict[str, float]]]:
        """Of each group: its scores minus those of the first, with 95% intervals; of the first all 0."""
        first = self.outcomes[0].scores
        return [score_changes(first, each.scores) for each in self.outcomes]


class Evaluator:
    """Each classifier is loaded and evaluated once, on what all before it could read."""

    def __init__(self, pictures: Pictures, request: Request, device: torch.device):
        self.pictures, self.request, self.device = pictures, request, device
        self.found: dict[str, tuple[LabelEvaluation, str, Settings]] = {}

    def __call__(self, path: str) -> tuple[LabelEvaluation, str, Settings]:
        """The evaluation, its precision, and the classifier's settings."""
        if path not in self.found:
            self.found[path] = self.evaluate(path)
        return self.found[path]

    def evaluate(self, path: str) -> tuple[LabelEvaluation, str, Settings]:
        classifier = load_classifier(path, self.device)
        settings = classifier.settings
        precision = pick_precision(settings, self.device)
        classifier.make_fast(precision)
        print(f"classifying  {path}", flush=True)
        evaluation = evaluate_label_files(classifier, self.pictures, precision, self.request.batch_size, path)
        if self.found and evaluation.pictures.paths != self.pictures.paths:
            raise UserError(f"a picture was there before and is not for {path}: {evaluation.pictures.left_out[-1]}")
        self.pictures = evaluation.pictures
        return evaluation, dtype_name(precision), settings


def compare_classifiers(groups: list[Group], teachers: dict[str, str], request: Request) -> LabelComparison:
    """Classify one split's pictures with every seed of every group, and the teachers; score. Raises UserError."""
    device = pick_device(request.device)
    settings = data_settings([path for group in groups for path in group.paths])
    evaluate = Evaluator(split_pictures(request.data_dir, request.split, settings), request, device)
    outcomes = []
    for group in groups:
        evaluations, precisions, of = zip(*map(evaluate, group.paths))
        teacher = evaluate(teachers[group.name])[0] if group.name in teachers else None
        outcomes.append(GroupOutcome(group, [*evaluations], [*precisions], of[0], teacher))
    return LabelComparison(outcomes, evaluate.pictures, device, request.data_dir or str(settings.data_path))


def data_settings(paths: list[str]) -> Settings:
    """Of the first that was trained by this project: whose data is taken without --data-dir; else config.py's."""
    for path in paths:
        classifier = load_classifier(path)
        if classifier.config:
            break
    return classifier.settings


def score_changes(a: Resampled, b: Resampled) -> dict[str, dict[str, float]]:
    """b - a of each score that both have, with its 95% interval."""
    intervals = difference_intervals(a, b)
    return {n: {"difference": b.mean[n] - a.mean[n], "low": low, "high": high} for n, (low, high) in intervals.items()}


def answers_of(evaluation: LabelEvaluation) -> np.ndarray:
    """By name, (N,): classes may stand in another order elsewhere."""
    return np.array(evaluation.classes)[evaluation.scores.answers]


def label_comparison_record(comparison: LabelComparison, costs: list[dict], setup: dict) -> dict:
    """The JSON file: each group with a plain evaluation of each seed, but for the pictures, which hold all answers."""
    differences = comparison.differences()
    groups = [
        group_record(outcome, change) | {"costs": [row for row in costs if row["group"] == outcome.name]}
        for outcome, change in zip(comparison.outcomes, differences)
    ]
    pictures = comparison.pictures
    answers = {each.name: [answers_of(one) for one in each.evaluations] for each in comparison.outcomes}
    images = [
        {
            "image": path.name,
            "label": row[0],
            "answers": {n: [str(one[i]) for one in seeds] for n, seeds in answers.items()},
        }
        for i, (path, row) in enumerate(zip(pictures.paths, pictures.references))
    ]
    return {"split": pictures.split, "groups": groups, "cost_measured_on": setup, "images": images}


def group_record(outcome: GroupOutcome, change: dict[str, dict[str, float]]) -> dict:
    low, high = outcome.scores.intervals()[TOP_1]
    teacher = outcome.teacher
    return {
        "name": outcome.name,
        "scores": outcome.scores.mean,
        "top-1 interval": {"low": low, "high": high},
        "difference_from_first": change,
        "seeds": [{k: v for k, v in label_record(each).items() if k != "images"} for each in outcome.evaluations],
        "agreement": outcome.agreement,
        "teacher": teacher and {"checkpoint": teacher.checkpoint, "scores": teacher.scores.mean},
    }
