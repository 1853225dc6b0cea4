"""inference.py and evaluate.py with a classifier, and one line where a captioner is wanted instead."""

import csv
import json
import sys

import pytest
import torch
from colours import COLOURS, colour, save_colours, save_labelled
from in_process import call, train
from PIL import Image
from transformers import ResNetConfig, ResNetForImageClassification, ViTImageProcessor

import evaluate
import inference
import teacher_captions
from basics.settings import constants
from classifier import folder as classifier_folder
from classifier.folder import load_classifier
from scoring import label_comparison_report

LABELS = ["red", "green", "blue", "red"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """checkpoints/a/best, three photos, and data with a blue picture that is labelled red; the tests only read it."""
    folder = tmp_path_factory.mktemp("classified")
    save_colours(folder / "checkpoints/a/best")
    (folder / "photos").mkdir()
    for name in COLOURS:
        colour(name, 7).save(folder / "photos" / f"{name}.png")
    save_labelled(folder / "data/labelled", LABELS, [*COLOURS[::-1], "blue"])
    return folder


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """A classifier that transformers saved, whose classes stand in another order."""
    folder, names = tmp_path_factory.mktemp("others"), ["red", "blue", "green"]
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 8], "depths": [1, 1], "layer_type": "basic"}
    torch.manual_seed(0)
    config = ResNetConfig(**sizes, id2label=dict(enumerate(names)), label2id={n: i for i, n in enumerate(names)})
    ResNetForImageClassification(config).save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def infer(folder, *arguments):
    return call(inference.main, *arguments, cwd=folder)


def score(folder, *arguments):
    return call(evaluate.main, "--data-dir", "data/labelled", *arguments, cwd=folder)


def test_one_picture_prints_its_label_and_probability_and_several_their_names_too(made):
    [(label, share)] = load_classifier(made / "checkpoints/a/best").classify(made / "photos/red.png")
    assert infer(made, "photos/red.png").stdout == f"{label}  {share:.3f}\n" and label == "red"
    lines = [line.split("\t") for line in infer(made, "photos").stdout.splitlines()]
    assert [line[:2] for line in lines] == [[f"photos/{name}.png", name] for name in COLOURS]
    assert all(0.5 < float(line[2]) <= 1 for line in lines)


def test_the_likeliest_labels_come_best_first_and_no_more_than_there_are(made):
    rows = [line.split() for line in infer(made, "photos/red.png", "--top-k", 9).stdout.splitlines()]
    assert rows[0][0] == "red" and sorted(row[0] for row in rows) == COLOURS
    shares = [float(row[1]) for row in rows]
    assert shares == sorted(shares, reverse=True) and sum(shares) == pytest.approx(1, abs=2e-3)
    assert len(infer(made, "photos/red.png", "--top-k", 2).stdout.splitlines()) == 2


def test_json_and_csv_hold_labels_and_probabilities_and_bad_files_are_named(made, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    result = infer(made, "photos", tmp_path / "bad.png", "--top-k", 2, "--output", tmp_path / "out.json")
    rows = json.loads((tmp_path / "out.json").read_text())
    assert [(row["image"], row["labels"][0], len(row["probabilities"])) for row in rows] == [
        (f"photos/{name}.png", name, 2) for name in COLOURS
    ]
    assert result.returncode == 1 and "error: cannot read" in result.stderr
    assert f"3 of 4 pictures classified: {tmp_path / 'out.json'}\n" in result.stderr
    infer(made, "photos", "--top-k", 2, "--output", tmp_path / "out.csv")
    table = list(csv.DictReader(open(tmp_path / "out.csv", newline="")))
    assert list(table[0]) == ["image", "rank", "label", "probability"] and len(table) == 6
    assert [row["label"] for row in table if row["rank"] == "1"] == COLOURS


def test_stats_speak_of_labels(made):
    assert "first label after" in infer(made, "photos", "--stats").stderr


def test_an_evaluation_prints_mistakes_scores_and_confusions_and_writes_all_of_it(made, tmp_path):
    files = ["--output", tmp_path / "found.json", "--plot", tmp_path / "confusion.png"]
    result = score(made, *files)
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0] == ["wrong", "1", "of", "4", "pictures"] and lines[1] == ["3.png"]
    assert lines[2][:2] == ["answer", "blue"] and lines[3] == ["label", "red"]
    assert ["top-1", "0.7500"] in [line[:2] for line in lines]
    assert ["c", "red", "1", ".", "1", "0.5000", "2"] in lines
    record = json.loads((tmp_path / "found.json").read_text())
    assert [row["prediction"] for row in record["images"]] == ["red", "green", "blue", "blue"]
    assert record["signature"] == lines[-3][1] and record["left_out"] == [] and result.returncode == 0
    with Image.open(tmp_path / "confusion.png") as image:
        assert image.format == "PNG"


def test_pictures_that_cannot_be_read_are_left_out_and_batches_change_nothing(made, tmp_path):
    save_labelled(tmp_path / "data/labelled", LABELS, [*COLOURS[::-1], "blue"])
    (tmp_path / "data/labelled/images/0.png").write_bytes(b"")
    best = made / "checkpoints/a/best"
    one, all_at_once = (
        score(tmp_path, "--checkpoint", best, "--batch-size", size, "--output", f"{size}.json") for size in (1, 9)
    )
    assert "left out     1 pictures, cannot read" in one.stdout
    assert one.stdout.replace("1.json", "") == all_at_once.stdout.replace("9.json", "")
    assert len(json.loads((tmp_path / "1.json").read_text())["images"]) == 3


def test_anyones_classifier_answers_and_is_scored_by_the_names_of_its_classes(made, others, tmp_path):
    model = ResNetForImageClassification.from_pretrained(others).eval()
    pixels = ViTImageProcessor.from_pretrained(others)(colour("red", 7), return_tensors="pt")
    with torch.no_grad():
        shares = model(**pixels).logits.softmax(-1)[0]
    best = int(shares.argmax())
    result = infer(made, "photos/red.png", "--checkpoint", others, "--format", "json")
    [row] = json.loads(result.stdout)
    assert row["labels"] == [model.config.id2label[best]]
    assert row["probabilities"] == pytest.approx([float(shares[best])], abs=1e-5)
    assert score(made, "--checkpoint", others, "--output", tmp_path / "found.json").returncode == 0
    rows = json.loads((tmp_path / "found.json").read_text())["images"]
    assert [row["label"] for row in rows] == LABELS and rows[0]["prediction"] in COLOURS


def test_a_terminal_is_told_that_a_classifier_answers(made, monkeypatch, capsys):
    monkeypatch.chdir(made)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    inference.say_newest(constants())
    assert capsys.readouterr().err == "classifier   checkpoints/a/best\n"


def test_a_captioner_has_nothing_to_plot(tmp_path):
    (tmp_path / "best").mkdir()
    (tmp_path / "best/config.json").write_text('{"model_type": "image-to-text"}')
    result = call(evaluate.main, "--checkpoint", "best", "--plot", "confusion.png", cwd=tmp_path)
    assert "--plot draws labels of classifiers" in result.stderr and result.stderr.count("\n") == 1


def test_a_captioner_does_not_start_from_a_classifier(made, tmp_path):
    result = train(tmp_path, FINETUNE_FROM=made / "checkpoints/a/best")
    assert result.returncode == 1 and "is a classifier" in result.stderr and result.stderr.count("\n") == 1


def test_a_label_that_the_classifier_does_not_know_is_said_before_it_classifies(made, tmp_path, monkeypatch):
    monkeypatch.setattr(classifier_folder.Classifier, "logits", lambda *_: pytest.fail("it classified"))
    save_labelled(tmp_path / "data/labelled", ["red", "violet"], ["red", "blue"])
    result = score(tmp_path, "--checkpoint", made / "checkpoints/a/best")
    assert "1 of the 2 labels of the val split are none of the classifier's 3 classes: violet; it" in result.stderr
    assert result.returncode == 1 and result.stderr.count("\n") == 1


def test_two_classifiers_are_compared_as_compare_does_it(made, others, monkeypatch):
    seen = []
    monkeypatch.setattr(label_comparison_report, "show_label_comparison", lambda *asked: seen.append(asked))
    result = score(made, "--compare", "checkpoints/a/best", others, "--plot", "both.png")
    [(groups, teachers, request, plot)] = seen
    assert result.returncode == 0 and [group.paths for group in groups] == [("checkpoints/a/best",), (str(others),)]
    assert (teachers, request.data_dir, plot) == ({}, "data/labelled", "both.png")


@pytest.mark.parametrize(
    "main, arguments, part",
    [
        (inference.main, ["photos", "--beam", "2", "--seed", "3"], "--beam, --seed: for captions"),
        (inference.main, ["photos", "--temperature", "1"], "--temperature: for captions"),
        (inference.main, ["photos", "--length-penalty", "0"], "--length-penalty: for captions"),
        (inference.main, ["photos", "--top-p", "0.5"], "--top-p: for captions"),
        (inference.main, ["photos", "--num-captions", "3"], "--num-captions: for captions"),
        (inference.main, ["photos", "--top-k", "0"], "--top-k must be 1 or more"),
        (inference.main, ["photos", "--checkpoint", "checkpoints/a/best,checkpoints/a/best"], "captioners only"),
        (evaluate.main, ["--beam", "2", "--meteor"], "--beam, --meteor: for captions"),
        (evaluate.main, ["--plot", "photos"], "--plot photos must be a file that ends in .png"),
        (evaluate.main, ["--compare", "checkpoints/a/best", "photos"], "checkpoints/a/best is a classifier and photos"),
        (evaluate.main, ["--compare", "photos", "data", "--plot", "a.png"], "--plot draws labels of classifiers"),
        (teacher_captions.main, ["--teacher", "checkpoints/a/best", "--images", "photos"], "is a classifier"),
    ],
)
def test_what_is_for_captions_is_one_line(made, main, arguments, part):
    result = call(main, *arguments, cwd=made)
    assert result.returncode == 1 and part in result.stderr and result.stderr.count("\n") == 1
