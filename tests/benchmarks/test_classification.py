"""The benchmarks of classifiers: which runs there are, what their numbers say, and speed beside Trainer."""

import json
import subprocess
from pathlib import Path

import pytest
from answered import evaluated
from colours import COLOURS, colour
from in_process import in_folder

from basics.errors import UserError
from benchmarks import classification, classifying
from benchmarks.classification import Job, chosen, gained, group_texts, student_jobs, teacher_jobs, teaching
from scoring.comparison_groups import Group, read_groups
from scoring.label_comparison import GroupOutcome

MODELS = {"strong": "cnn", "weak": "cnn", "other": "vit"}
LABELS = ["a", "b"] * 20


def outcome(name: str, *right: int) -> GroupOutcome:
    """A group whose seeds answer so many of 40 pictures right."""
    rows = [
        [[0.8, 0.2] if (label == "a") == (i < count) else [0.2, 0.8] for i, label in enumerate(LABELS)]
        for count in right
    ]
    evaluations = [evaluated(each, LABELS, ["a", "b"]) for each in rows]
    return GroupOutcome(Group(name, ("x",) * len(right), name), evaluations, [], None, teacher=None)


@pytest.mark.parametrize("script", [classification, classifying])
def test_both_have_a_help_page(script, capsys):
    with pytest.raises(SystemExit) as stop:
        script.main(["--help"])
    assert stop.value.code == 0 and "python -m benchmarks." in capsys.readouterr().out


def test_every_student_is_trained_alone_and_by_each_teacher_with_each_seed(tmp_path):
    teachers = teacher_jobs(42, MODELS)
    students = student_jobs([42, 43], {job.group: tmp_path / job.name for job in teachers})
    assert [job.name for job in teachers] == ["strong-42", "weak-42", "other-42"]
    assert len(students) == 2 * 7 and len({job.name for job in students}) == 14
    alone, taught = (dict(job.settings) for job in students[:2])
    assert alone["DISTILL"] == "none" and taught["TEACHER_MODEL_NAME"] == tmp_path / "weak-42"
    differ = {name for name in alone.keys() | taught.keys() if alone.get(name) != taught.get(name)}
    assert all(name.startswith(("DISTILL", "TEACHER")) for name in differ)  # nothing else tells the two apart
    assert {job.group for job in chosen(students, ["vit-other"])} == {"vit-other"}
    with pytest.raises(UserError, match="--only vit-weak: there is no such group; expected cnn-alone"):
        chosen(students, ["vit-weak"])


def test_a_run_is_done_once_goes_on_where_it_was_stopped_and_fails_by_its_last_words(tmp_path, monkeypatch):
    asked, job = [], Job("cnn-alone", 1, (("NUM_EPOCHS", 1),))
    folder = tmp_path / "runs" / job.name

    def run(line, **more):
        asked.append(line)
        (folder / "best").mkdir(parents=True, exist_ok=True)
        (folder / "checkpoint_step_1.pt").touch()
        if len(asked) == 1:
            more["stdout"].write("epoch 1\nerror: no disk\n")
            return subprocess.CompletedProcess(line, 1)
        (folder / "evaluation.json").touch()
        return subprocess.CompletedProcess(line, 0)

    monkeypatch.setattr(classification.subprocess, "run", run)
    with pytest.raises(UserError, match="the run cnn-alone-1 ended early: no disk"):
        classification.train(job, tmp_path, "raw", [])
    for _ in range(2):
        classification.train(job, tmp_path, "raw", ["--num-epochs=2"])
    assert len(asked) == 2 and "--resume-checkpoint-path=latest" in asked[1] and asked[1][-1] == "--num-epochs=2"
    assert "--resume-checkpoint-path=latest" not in asked[0] and "--num-epochs=1" in asked[0]
    assert group_texts([job, Job("vit-alone", 1, ())], tmp_path / "runs") == [f"cnn-alone={folder}/best"]
    assert read_groups(group_texts([job], tmp_path / "runs"))[0].paths == (f"{folder}/best",)


def test_gains_are_over_the_student_alone_the_worst_teacher_first():
    groups = [outcome("cnn-alone", 20, 22), outcome("cnn-strong", 30, 32), outcome("cnn-weak", 20, 23)]
    outcomes = {each.name: each for each in [*groups, outcome("strong", 38), outcome("weak", 25)]}
    weak, strong = teaching(outcomes, "cnn")
    assert weak[:5] == ["cnn", "weak", "the same", "0.6250", "0.5375 (0.5000 to 0.5750)"]
    assert weak[5].startswith("+0.0125 ") and weak[6] == "1 of 2"
    assert strong[1] == "strong" and strong[5].startswith("+0.2500 ") and strong[6] == "2 of 2"
    words = classification.ranks(outcomes, [weak, strong])
    assert words.startswith("cnn          of strong minus of weak: +0.2375 ") and words.endswith("higher")


def test_what_is_gained_is_the_teachers_costs_by_the_students():
    outcomes = {"cnn-strong": outcome("cnn-strong", 30), "strong": outcome("strong", 38)}
    small = {"parameters": 10, "weights_bytes": 40, "flops": 5, "latency_ms": [1.0, 1.0], "pictures_per_second": [90.0]}
    large = {"parameters": 30, "weights_bytes": 80, "flops": 50, "latency_ms": [4.0, 4.0], "pictures_per_second": [9.0]}
    rows = [
        {"group": "cnn-strong", "form": "A", "peak_memory_bytes": None, **small},
        {"group": "strong", "form": "A", "peak_memory_bytes": 10, **large},
        {"group": "strong", "form": "B", "peak_memory_bytes": 10, **large},
    ]
    found = [["cnn", "strong", "A", "-0.2000", "3.00 x", "2.00 x", "10.0 x", "4.00 x", "10.0 x", "-"]]
    assert gained(outcomes, rows) == found


def write_class_folders(folder: Path) -> Path:
    for split, count in (("train", 12), ("val", 2), ("test", 2)):
        for name in COLOURS:
            (folder / split / name).mkdir(parents=True)
            for shade in range(count):
                shown = colour(name, 3 * shade + (split == "val") + 2 * (split == "test"))
                shown.resize((32, 32)).save(folder / split / name / f"{shade}.png")
    return folder


def test_our_loop_and_trainer_take_the_same_steps(tmp_path):
    pytest.importorskip("accelerate")
    flags = ["--raw-dir", str(write_class_folders(tmp_path / "raw")), "--models", "scratch-cnn", "--batch-size", "6"]
    with in_folder(tmp_path):
        classifying.main([*flags, "--steps", "3", "--repeats", "1", "--precision", "fp32", "--output", "out.json"])
    [row] = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert row["unit"] == "pictures/s" and row["ours"][0] > 0 and row["peer"][0] > 0
    with pytest.raises(UserError, match="an epoch of 5 whole steps, --steps is 9"), in_folder(tmp_path):
        classifying.main([*flags, "--steps", "9"])
