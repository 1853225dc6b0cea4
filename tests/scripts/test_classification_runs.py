"""train.py --task classify: what a run leaves, to the bit after a stop, with every way to learn from another model."""

import json
import shutil

import pytest
from in_process import train
from tiny import load_weights, same_weights, save_tiny_vit

from classifier.folder import load_classifier

RUN = {
    "TASK": "classify",
    "SHAPES_NUM_IMAGES": 60,
    "NUM_EPOCHS": 2,
    "BATCH_SIZE": 10,
    "CHECKPOINT_EVERY_STEPS": 1,
    "KEEP_LAST_N": 20,
    "BEST_METRIC": "top1",
    "VAL_FRACTION": 0.3,
    "RUN_NAME": "a",
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with drawn classes and a run, which may teach."""
    folder = tmp_path_factory.mktemp("classified")
    result = train(folder, **RUN)
    assert result.returncode == 0
    (folder / "printed.txt").write_text(result.stdout)
    save_tiny_vit(folder / "vit")
    return folder


@pytest.fixture
def folder(finished, tmp_path):
    for name in ("data", "vit"):
        shutil.copytree(finished / name, tmp_path / name)
    shutil.copytree(finished / "checkpoints/a/best", tmp_path / "teacher")
    return tmp_path


def test_a_run_prints_a_confusion_matrix_and_leaves_a_classifier_that_transformers_loads(finished):
    printed, run = (finished / "printed.txt").read_text(), finished / "checkpoints/a"
    assert "top-1" in printed and "answered: columns" in printed and "answers: top-1" in printed
    evaluation = json.loads((run / "evaluation.json").read_text())
    record = json.loads((run / "log.jsonl").read_text().splitlines()[-1])
    assert 0 <= record["top1"] <= record["top5"] <= 1 and evaluation["scores"]["top-1"]["score"] >= record["top1"]
    assert (run / "confusion.png").read_bytes().startswith(b"\x89PNG")

    from transformers import pipeline

    classifier, picture = load_classifier(run / "best"), sorted((finished / "data").rglob("*.png"))[0]
    ours = classifier.classify(picture, top_k=2)
    theirs = pipeline("image-classification", model=str(run / "best"))(str(picture), top_k=2)
    assert [label for label, _ in ours] == [answer["label"] for answer in theirs]
    assert [value for _, value in ours] == pytest.approx([answer["score"] for answer in theirs], abs=1e-5)
    assert "pipeline_tag: image-classification" in (run / "best/README.md").read_text()


TAUGHT = {"DISTILL": "teacher", "TEACHER_MODEL_NAME": "teacher", "DISTILL_TEMPERATURE": 2.0}
AUGMENTED = {"AUGMENT": True, "RANDAUGMENT_OPS": 1, "RANDOM_ERASING": 0.5}


@pytest.mark.parametrize(
    "changes",
    [
        {"EMA_DECAY": 0.9, "DISTILL": "momentum", **AUGMENTED, "MIXUP_ALPHA": 0.2, "CUTMIX_ALPHA": 1.0},
        {**TAUGHT, "PRECISION": "bf16", "ENCODER_MODEL_NAME": "scratch-cnn", "DISTILL_LOSS": "decoupled"},
        {
            **TAUGHT,
            **AUGMENTED,
            "DISTILL_STANDARDIZE": True,
            "DISTILL_FEATURES": "encoder.backbone.vit.layers.0=encoder.backbone.vit",
        },
        {"ENCODER_MODEL_NAME": "vit", "ENCODER_TRAINABLE": "none", "CACHE_FEATURES": True, "AUGMENT": True},
    ],
)
def test_a_stopped_run_goes_on_to_the_bit(folder, changes):
    assert train(folder, **{**RUN, **changes}).returncode == 0
    whole, again = (folder / "checkpoints" / name for name in ("a", "b"))
    steps = sorted(whole.glob("checkpoint_step_*.pt"))
    start = steps[len(steps) // 2 - 2]  # in the middle of the first epoch
    shutil.rmtree(folder / "vit")  # a run that goes on needs no encoder to start from
    result = train(folder, "--resume-checkpoint-path", start, **{**RUN, **changes, "RUN_NAME": "b"})
    assert result.returncode == 0
    assert same_weights(load_weights(steps[-1]), load_weights(again / steps[-1].name))
    records = [(path / "log.jsonl").read_text().splitlines() for path in (whole, again)]
    scores = [[json.loads(line)[name] for line in lines for name in ("val_loss", "top1")] for lines in records]
    assert scores[0] == scores[1]


def test_a_teacher_that_looks_along_says_what_it_was_asked_once(folder):
    runs = []
    for name, cached in (("cached", True), ("live", False)):
        changes = {**RUN, **TAUGHT, "DISTILL_CACHE": cached, "RUN_NAME": name, "NUM_EPOCHS": 1}
        result = train(folder, **changes)
        assert result.returncode == 0 and "teacher      top-1" in result.stdout
        runs.append(json.loads((folder / "checkpoints" / name / "log.jsonl").read_text()))
    assert runs[0]["train_loss"] == pytest.approx(runs[1]["train_loss"], rel=1e-5)
    assert [*(folder / "data/shapes-classify/teacher").glob("logits-*.bin")]


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"BEST_METRIC": "cider"}, 'BEST_METRIC "cider" is for captions'),
        ({"SCST_EPOCHS": 1, "BEST_METRIC": "top1"}, "SCST_EPOCHS is for captions"),
        ({"FINETUNE_FROM": "teacher"}, "name a classifier to start from as ENCODER_MODEL_NAME"),
        ({**TAUGHT, "TEACHER_MODEL_NAME": "vit"}, "it is an encoder, expected a classifier"),
        ({**TAUGHT, "DISTILL_FEATURES": "encoder.nothing=encoder.backbone.vit"}, "has no module 'encoder.nothing'"),
        ({"MIXUP_ALPHA": 0.2, "DISTILL": "momentum", "EMA_DECAY": 0.9, "DISTILL_LOSS": "decoupled"}, "of one class"),
        (
            {
                **TAUGHT,
                "ENCODER_MODEL_NAME": "vit",
                "ENCODER_TRAINABLE": "none",
                "CACHE_FEATURES": True,
                "AUGMENT": True,
            },
            "no pictures",
        ),
        ({"ENCODER_MODEL_NAME": "vit", "ENCODER_IMAGE_SIZE": 48}, "ENCODER_IMAGE_SIZE that it takes"),
    ],
)
def test_what_cannot_be_learned_is_one_line(folder, changes, words):
    result = train(folder, **{**RUN, **changes, "RUN_NAME": "no"})
    assert result.returncode == 1 and words in result.stderr and "Traceback" not in result.stderr


def test_a_checkpoint_brings_its_task_and_keeps_its_classes(folder, finished):
    checkpoint = finished / "checkpoints/a/checkpoint_step_00000002.pt"
    changes = {**RUN, "RUN_NAME": "b", "NUM_EPOCHS": 1, "BEST_METRIC": "val_loss"}
    del changes["TASK"]
    result = train(folder, "--resume-checkpoint-path", checkpoint, **changes)
    assert result.returncode == 0 and "TASK stays 'classify'" in result.stdout
    captions = folder / "data/shapes-classify/captions.json"
    content = json.loads(captions.read_text())
    other = {name: [label.replace("red", "pink") for label in labels] for name, labels in content.items()}
    captions.write_text(json.dumps(other))
    refused = train(folder, "--resume-checkpoint-path", checkpoint, **{**RUN, "RUN_NAME": "c"})
    assert refused.returncode == 1 and "was trained on" in refused.stderr


def test_a_branch_brings_the_best_of_its_own_epochs_and_keeps_todays_settings(folder):
    assert train(folder, **RUN).returncode == 0
    one = folder / "checkpoints/a"
    middle = sorted(one.glob("checkpoint_step_*.pt"))[-1]  # of two epochs
    longer = {**RUN, "NUM_EPOCHS": 3, "BEST_METRIC": "val_loss", "LEARNING_RATE": 2e-3}
    assert train(folder, "--resume-checkpoint-path", middle, **longer).returncode == 0
    training = json.loads((one / "best/training.json").read_text())
    assert training["epoch"] == 3 and training["settings"]["LEARNING_RATE"] == 2e-3
    branch = train(folder, "--resume-checkpoint-path", middle, **{**RUN, "RUN_NAME": "b"})
    assert branch.returncode == 0 and "is no longer that of epoch" in branch.stdout
    assert json.loads((folder / "checkpoints/b/best/training.json").read_text())["epoch"] <= 2


def test_what_a_checkpoints_task_cannot_do_is_said_before_it_goes_on(folder, finished):
    checkpoint = finished / "checkpoints/a/checkpoint_step_00000002.pt"
    for changes, words in (({"BEST_METRIC": "cider"}, "is for captions"), ({"NUM_EPOCHS": 0}, "NUM_EPOCHS must be")):
        settings = {name: value for name, value in {**RUN, "RUN_NAME": "c", **changes}.items() if name != "TASK"}
        result = train(folder, "--resume-checkpoint-path", checkpoint, **settings)
        assert result.returncode == 1 and words in result.stderr
