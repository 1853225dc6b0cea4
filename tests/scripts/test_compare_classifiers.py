"""compare.py on classifiers: groups of seeds, paired differences, teachers, costs, JSON, the plot, and its errors."""

import json

import numpy as np
import pytest
import torch
from answered import evaluated, random_evaluation
from colours import COLOURS, save_colours, save_labelled
from in_process import call
from PIL import Image

import compare
from basics.errors import UserError
from classifier.folder import load_classifier, save_classifier
from scoring import label_costs
from scoring.bootstrap import difference_intervals
from scoring.comparison_groups import Group, read_groups, read_teachers
from scoring.exported_costs import measure_exported
from scoring.label_comparison import GroupOutcome, MeanOfSeeds, score_changes
from scoring.label_comparison_plot import heights
from scoring.label_comparison_report import format_label_costs
from scoring.label_costs import CALLS, latencies, measure_form, picture_flops
from sources.pictures import Pictures

SETUP = {"device": "cpu", "device_name": "a CPU", "threads": 1, "batch_size": 4, "repeats": 3}
LABELS = [*COLOURS * 4, "red", "blue"]
SHOWN = [*LABELS[:-2], "blue", "red"]  # the last two are labelled wrongly


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """good/best knows all colours, blind/best answers the same of every picture, data/ is labelled."""
    folder = tmp_path_factory.mktemp("classifiers")
    for name in ("good", "blind"):
        (folder / name).mkdir()
    good = save_colours(folder / "good" / "best")
    good.model.head.weight.data.zero_()
    good.model.head.bias.data.copy_(torch.tensor([0.0, 0.0, 1.0]))
    save_classifier(good, folder / "blind" / "best", epoch=1, extra_files={})
    save_labelled(folder / "data", LABELS, SHOWN)
    (folder / "captioner").mkdir()
    (folder / "captioner" / "config.json").write_text('{"model_type": "image-to-text"}')
    return folder


@pytest.fixture
def quick(made, monkeypatch):
    """Without the processes that measure memory, and with little to time."""
    monkeypatch.chdir(made)
    monkeypatch.setattr(label_costs, "peak_of_process", lambda name, *_: 3 * 10**6)
    monkeypatch.setattr(label_costs, "BATCH", 4)
    monkeypatch.setattr(label_costs, "CALLS", 8)


def test_groups_of_seeds_are_one_table_with_differences_teachers_and_costs(quick, made, tmp_path):
    groups = ["bad=blind/best", "mixed=blind/best,good/best", "good/best"]
    flags = ["--data-dir", "data", "--teacher", "mixed=good/best", "--num-samples", "1"]
    drawn = ["--output", tmp_path / "all.json", "--plot", tmp_path / "all.png"]
    result = call(compare.main, *groups, *flags, *drawn, cwd=made)
    assert result.returncode == 0
    rows = {line.split()[0]: line.split() for line in result.stdout.split("\ngroup  seeds")[1].splitlines()[1:4]}
    right = [5 / 14, 12 / 14]  # of 14 pictures 5 are labelled red; 12 are labelled as they look
    assert rows["bad"][:3] == ["bad", "1", f"{right[0]:.4f}"] and rows["bad"][-1] == "-"
    assert rows["mixed"][:6] == ["mixed", "2", f"{sum(right) / 2:.4f}", f"({right[0]:.4f}", "to", f"{right[1]:.4f})"]
    assert rows["good"][3] == f"{right[1] - right[0]:+.4f}" and "higher" in rows["good"]
    assert "disagree     on 9 of 14 pictures" in result.stdout
    assert result.stdout.count("PyTorch float32  0.0") == 3 and "teacher      good/best, top-1 0.8571" in result.stdout
    content = json.loads((tmp_path / "all.json").read_text())
    mixed = content["groups"][1]
    assert mixed["scores"]["top-1"] == pytest.approx(sum(right) / 2) and len(mixed["seeds"]) == 2
    assert mixed["agreement"] == [pytest.approx(5 / 14), 1.0] and content["groups"][0]["agreement"] is None
    assert len(mixed["costs"][0]["latency_ms"]) == 8 and mixed["costs"][0]["flops"] > 1000
    assert content["images"][2] == {
        "image": "2.png",
        "label": "red",
        "answers": {"bad": ["red"], "mixed": ["red", "red"], "good": ["red"]},
    }
    with Image.open(tmp_path / "all.png") as image:
        assert min(image.size) > 300


def test_a_difference_of_groups_is_paired_and_that_of_the_mean_of_their_seeds():
    one, other = random_evaluation(300, 7).scores, random_evaluation(300, 7).scores
    other.ranks = np.where(np.arange(300) % 40 == 0, 0, other.ranks)  # right a few times more
    both = MeanOfSeeds([one, other])
    change = score_changes(MeanOfSeeds([one]), both)["top-1"]
    whole = difference_intervals(one, other)["top-1"]
    assert change["difference"] == pytest.approx((other.mean["top-1"] - one.mean["top-1"]) / 2)
    assert [change["low"], change["high"]] == pytest.approx([end / 2 for end in whole])
    assert score_changes(both, both)["NLL"] == {"difference": 0, "low": 0, "high": 0}


def test_scores_that_not_all_have_are_left_out():
    few = evaluated([[0.8, 0.2], [0.1, 0.9]], ["a", "b"], ["a", "b"]).scores
    many = evaluated([[0.5] + [0.1] * 5, [0.1, 0.5] + [0.1] * 4], ["a", "b"], [*"abcdef"]).scores
    assert "top-5" in many.mean and "top-5" not in MeanOfSeeds([many, few]).mean
    assert score_changes(MeanOfSeeds([few]), MeanOfSeeds([many])).keys() == few.mean.keys()
    assert score_changes(MeanOfSeeds([many]), MeanOfSeeds([few])).keys() == few.mean.keys()


def test_answers_agree_by_name_whatever_the_order_of_the_classes():
    rows, labels = [[0.8, 0.2], [0.1, 0.9]], ["a", "b"]
    turned = [row[::-1] for row in rows]
    theirs, ours = evaluated(rows, labels, ["a", "b"]), evaluated(turned, labels, ["b", "a"])
    outcome = GroupOutcome(Group("x", ("x",), "x"), [ours, theirs], ["float32"], None, teacher=theirs)
    assert outcome.agreement == [1, 1]


def test_arithmetic_is_counted_as_the_shapes_of_the_products_say(made):
    classifier = load_classifier(made / "good/best")
    pixels, head = torch.zeros(1, 3, 32, 32), classifier.model.head
    features = classifier.model.features(pixels)
    assert picture_flops(classifier.model, features) == 2 * head.in_features * head.out_features
    assert picture_flops(classifier.model, pixels) > picture_flops(classifier.model, features)


def test_latencies_take_turns_and_the_first_calls_of_a_turn_do_not_count():
    calls = []
    found = latencies({name: lambda name=name: calls.append(name) for name in "ab"})
    assert len(found["a"]) == len(found["b"]) == CALLS
    assert len({*calls[:20]}) == 1 and calls.index("b") < CALLS // 2


def test_what_the_process_of_a_classifier_does_and_how_much_memory_that_takes(made):
    pictures = Pictures("val", sorted((made / "data/images").iterdir())[:2], [], [])
    job = {"path": str(made / "good/best"), "device": "cpu", "pictures": [str(path) for path in pictures.paths]}
    assert measure_form(job) > 50e6


def test_exports_stand_beside_pytorch_with_their_own_accuracy(quick, made, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    names = [f"{i}.png" for i in range(len(LABELS))]
    pictures = Pictures("val", [made / "data/images" / name for name in names], [[label] for label in LABELS], [])
    monkeypatch.setattr("scoring.exported_costs.peak_of_process", lambda _name, _module, job: measure_exported(job))
    rows, _ = label_costs.measure_label_costs(
        {"good": str(made / "good/best")}, pictures, torch.device("cpu"), compare.export_to_onnx
    )
    pytorch, exported, eight_bit = rows
    assert [row["form"] for row in rows] == ["PyTorch float32", "ONNX float32", "ONNX int8 weights alone"]
    assert pytorch["top-1"] == exported["top-1"] == 12 / 14 and pytorch["flops"] == exported["flops"]
    assert eight_bit["weights_bytes"] < exported["weights_bytes"] and exported["peak_memory_bytes"] > 50e6
    assert "top-1: of the first seed in that form" in format_label_costs(rows, {**SETUP, "calls": 8})


def test_groups_are_named_by_what_was_typed_or_the_parts_that_differ(made, monkeypatch):
    monkeypatch.chdir(made)
    groups = read_groups(["runs/a/best", "x=runs/b/best,runs/c/best", "runs/d/best,runs/e/best"])
    assert [(group.name, len(group.paths)) for group in groups] == [("a", 1), ("x", 2), ("d+e", 2)]
    (made / "name=1").mkdir()
    assert read_groups(["name=1", "good"])[0].paths == ("name=1",)
    assert read_teachers(["all", "x=own"], groups) == {"a": "all", "x": "own", "d+e": "all"}
    assert read_teachers(["x=own"], groups) == {"x": "own"}


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["good/best", "captioner"], "good/best is a classifier and captioner is none; compare models of one task"),
        (["a=good/best", "a=blind/best"], "two groups are called a"),
        (["good/best", "gone/x/best"], "there is no gone/x/best"),
        (["good/best", "blind/best", "--beam", "3"], "--beam: for captions, and good/best is a classifier"),
        (["good/best", "blind/best", "--teacher", "x=good/best"], "is for the group x, and there are only good, blind"),
        (["good/best", "blind/best", "--teacher", "good", "--teacher", "blind"], "--teacher was given twice"),
        (["captioner", "captioner", "--plot", "x.png"], "--plot: for classifiers, and captioner is none"),
        (["captioner", "captioner", "captioner"], "two at a time, and 3 are named"),
        (["x=captioner", "captioner"], "x=captioner: only groups of classifiers have names"),
    ],
)
def test_mistakes_are_one_line_before_anything_is_classified(quick, arguments, message):
    with pytest.raises(UserError, match=message) as error:
        compare.main([*arguments, "--data-dir", "data"])
    assert "\n" not in str(error.value)


def test_names_in_the_plot_keep_apart():
    for values in ([50.0], [50.0] * 12, [1.0, 1.01, 1.02, 99.0], [99.0, 99.1, 99.2, 1.0]):
        found = sorted(heights(values))
        assert 0 <= found[0] and found[-1] <= 1 and all(np.diff(found) > 0.06)
