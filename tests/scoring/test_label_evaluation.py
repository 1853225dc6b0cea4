"""An evaluation of labels says which pictures, classes and weights it is of, and what goes wrong, by name."""

import json

import numpy as np
import pytest
from answered import evaluated, labelled, random_evaluation
from PIL import Image

from basics.errors import UserError
from basics.text import json_text
from scoring.confusion_picture import plot_confusion
from scoring.label_evaluation import label_numbers, label_record
from scoring.label_report import format_label_evaluation, format_wrong

CLASSES = ["circle", "ring", "square"]
PROBABILITIES = [[0.8, 0.1, 0.1], [0.7, 0.2, 0.1], [0.1, 0.2, 0.7]]


@pytest.fixture
def evaluation():
    return evaluated(PROBABILITIES, ["circle", "square", "square"], CLASSES)


def test_the_record_has_every_picture_and_null_for_a_class_without_one(evaluation):
    record = json.loads(json_text(label_record(evaluation)))
    assert record["images"] == [
        {"image": "0.png", "label": "circle", "prediction": "circle", "probability": 0.8},
        {"image": "1.png", "label": "square", "prediction": "circle", "probability": 0.7},
        {"image": "2.png", "label": "square", "prediction": "square", "probability": 0.7},
    ]
    assert [row["accuracy"] for row in record["classes"]] == [1, None, 0.5]
    assert record["confusions"] == [{"label": "square", "answer": "circle", "pictures": 1}]
    assert record["scores"]["top-1"]["score"] == pytest.approx(2 / 3) and "NaN" not in json.dumps(record)


def test_few_classes_are_printed_as_a_matrix_with_a_dash_for_one_without_a_picture(evaluation):
    lines = [line.split() for line in format_label_evaluation(evaluation).splitlines()]
    assert ["a", "circle", "1", ".", ".", "1.0000", "1"] in lines
    assert ["b", "ring", ".", ".", ".", "-", "0"] in lines
    assert ["c", "square", "1", ".", "1", "0.5000", "2"] in lines
    assert lines[-1] == ["signature", evaluation.signature] and "nan" not in str(lines)


def test_of_many_classes_the_lowest_and_the_most_frequent_confusions_are_printed():
    evaluation = random_evaluation(pictures=600, classes=40)
    text, worst = format_label_evaluation(evaluation), evaluation.scores.class_accuracy.min()
    assert len(text.splitlines()) < 40
    assert f"{worst:.4f}" in text.split("lowest")[1].splitlines()[1]
    counts = [int(line.split()[-1]) for line in text.split("taken for")[1].splitlines()[1:11]]
    assert counts == sorted(counts, reverse=True) and counts[0] == max(
        row["pictures"] for row in label_record(evaluation)["confusions"]
    )


def test_wrong_answers_are_shown_with_their_probability_and_label_the_surest_first():
    evaluation = evaluated([[0.6, 0.4], [0.9, 0.1], [0.8, 0.2]], ["ring", "ring", "circle"], ["circle", "ring"])
    lines = format_wrong(evaluation, 5).splitlines()
    assert lines[0] == "wrong        2 of 3 pictures, the surest first" and [lines[1], lines[4]] == ["1.png", "0.png"]
    assert [line.split() for line in lines[2:4]] == [["answer", "circle", "0.900"], ["label", "ring"]]
    assert len(format_wrong(evaluation, 1).splitlines()) == 4


def test_the_same_classes_in_another_order_give_the_same_scores_and_signature(evaluation):
    order = [2, 0, 1]
    turned = evaluated(
        np.array(PROBABILITIES)[:, order].tolist(), ["circle", "square", "square"], [CLASSES[i] for i in order]
    )
    assert turned.scores.mean == pytest.approx(evaluation.scores.mean) and turned.signature == evaluation.signature
    assert label_record(turned)["images"] == label_record(evaluation)["images"]


def test_the_signature_changes_with_pictures_labels_and_classes(evaluation):
    others = [
        evaluated(PROBABILITIES, ["circle", "square", "ring"], CLASSES),
        evaluated(PROBABILITIES, ["circle", "square", "square"], ["circle", "disc", "square"]),
        evaluated(PROBABILITIES[:2], ["circle", "square"], CLASSES),
    ]
    assert len({evaluation.signature, *(other.signature for other in others)}) == 4
    assert "split:val|images:3|" in evaluation.signature and evaluation.signature.endswith("checkpoint:user/name")


@pytest.mark.parametrize(
    "labels, classes, message",
    [
        (["cat", "dog", "dog"], ["cat", "cow"], "1 of the 2 labels of the val split are none of .* 2 classes: dog; it"),
        (["a\nb"], ["a"], "classes: a.nb;"),
        (["crane"], ["crane", "gull", "crane"], "several classes of one name: crane"),
    ],
)
def test_a_label_that_the_classifier_does_not_know_is_one_line(labels, classes, message):
    with pytest.raises(UserError, match=message) as error:
        label_numbers(labelled(labels), classes)
    assert "\n" not in str(error.value)


def test_answers_that_are_no_numbers_are_one_line():
    with pytest.raises(UserError, match="user/name is damaged"):
        evaluated([[np.nan, 0.5]], ["circle"], ["circle", "ring"])


@pytest.mark.parametrize("classes", [2, 30])
def test_the_picture_of_the_confusions_is_drawn_whole(tmp_path, classes):
    plot_confusion(tmp_path / "confusion.png", random_evaluation(60, classes))
    with Image.open(tmp_path / "confusion.png") as image:
        assert min(image.size) > 400 and len(image.convert("RGB").getcolors(10**6)) > 50
    assert [path.name for path in tmp_path.iterdir()] == ["confusion.png"]
