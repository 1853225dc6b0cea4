"""What export.py writes of a classifier: the same logits and labels as PyTorch's, without PyTorch."""

import json
import re
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from colours import COLOURS, colour, save_colours
from tiny import ROOT, environment

import classify_onnx
import export
import inference
from basics.errors import UserError
from classifier.exported import ONNX_MODEL, open_onnx_classifier
from classifier.folder import load_classifier
from publishing import export_classifier, export_folder
from sources.images import load_image

NETWORK = {"ENCODER_MODEL_NAME": "scratch-cnn", "SCRATCH_PATCH_SIZE": 2, "SCRATCH_LAYERS": 2, "SCRATCH_EMBED_DIM": 32}
SHADES = range(0, 50, 6)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """best/, pictures/ in folders of their classes, best/ exported as float32/ and int8/ (ONNX) and torch/."""
    folder, traced, trace_part = tmp_path_factory.mktemp("export"), [], export_classifier.trace_part
    classifier = save_colours(folder / "best", **NETWORK)
    for name in COLOURS:
        (folder / "pictures" / name).mkdir(parents=True)
        for shade in SHADES:
            colour(name, shade).save(folder / "pictures" / name / f"{shade}.png")
    paths = sorted((folder / "pictures").rglob("*.png"))
    images = [load_image(path) for path in paths]
    with pytest.MonkeyPatch.context() as patch:  # tracing takes seconds, and both forms are made of the same program
        patch.setattr(export_classifier, "trace_part", lambda *given: traced or traced.append(trace_part(*given)))
        patch.setattr(
            export_classifier, "as_model", lambda name, _, make=export_classifier.as_model: make(name, *traced)
        )
        patch.setattr(
            export_classifier,
            "write_program",
            lambda _, path, write=export_classifier.write_program: write(*traced, path),
        )
        export_classifier.export_classifier(classifier, images, "onnx", ["float32", "int8"], folder, paths)
        (folder / "programs").mkdir()
        export_classifier.export_classifier(classifier, images, "torch", ["float32"], folder / "programs")
    (folder / "programs/float32").rename(folder / "torch")
    return folder


@pytest.fixture(scope="module")
def pixels():
    return torch.rand(7, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("opened", [open_onnx_classifier, export_classifier.open_classifier_program])
@pytest.mark.parametrize("pictures", [1, 2, 7])
def test_logits_are_those_of_pytorch_of_one_picture_and_of_several(made, pixels, opened, pictures):
    name = "float32" if opened is open_onnx_classifier else "torch"
    expected = load_classifier(made / "best").logits(pixels[:pictures]).numpy()
    assert np.abs(opened(made / name).logits(pixels[:pictures].numpy()) - expected).max() < 1e-4


def test_8_bits_are_smaller_move_logits_little_and_answer_alike(made, pixels):
    exact, smaller = (open_onnx_classifier(made / name) for name in ("float32", "int8"))
    config = json.loads((made / "int8/config.json").read_text())
    assert config["int8_arithmetic"] == ["model"] and b"QuantizeLinear" in (made / "int8" / ONNX_MODEL).read_bytes()
    assert (made / "int8" / ONNX_MODEL).stat().st_size < 0.6 * (made / "float32" / ONNX_MODEL).stat().st_size
    assert 0 < np.abs(exact.logits(pixels.numpy()) - smaller.logits(pixels.numpy())).max() < 0.5
    images = [colour(name, shade) for name in COLOURS for shade in SHADES]
    answers = [[row[0][0] for row in each.classify_images(images)] for each in (exact, smaller)]
    assert answers[0] == answers[1] == [name for name in COLOURS for _ in SHADES]


@pytest.fixture
def inference_prints(made, capsys, monkeypatch):
    """What `python inference.py pictures --top-k 2` prints, in the folder where it was called."""
    monkeypatch.chdir(made)
    inference.main(["pictures", "--checkpoint", "best", "--top-k", "2"])
    return capsys.readouterr().out


def test_the_command_prints_what_inference_prints(made, inference_prints, capsys):
    assert classify_onnx.main(["pictures", "--model", "float32", "--top-k", "2", "--batch-size", "4"]) == 0
    assert capsys.readouterr() == (inference_prints, "")
    assert inference_prints.count("\n") == 2 * len(COLOURS) * len(SHADES)


@pytest.mark.parametrize("flags", [["--format", "json"], ["--output", "out.csv"]])
def test_the_command_writes_what_inference_writes(made, flags, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    found = []
    for main, model in ((inference.main, ["--checkpoint", "best"]), (classify_onnx.main, ["--model", "float32"])):
        assert main([str(made / "pictures"), model[0], str(made / model[1]), "--overwrite", *flags]) == 0
        found.append(str((capsys.readouterr(), [path.read_text() for path in tmp_path.iterdir()])))
    numbers = re.compile(r"0\.\d+")  # probabilities, to their last digits
    assert numbers.sub("", found[0]) == numbers.sub("", found[1]) and found[0].count("red/0.png") == 1
    probabilities = [[float(number) for number in numbers.findall(each)] for each in found]
    assert len(probabilities[0]) == len(COLOURS) * len(SHADES)
    assert probabilities[0] == pytest.approx(probabilities[1], abs=1e-5)


def test_an_export_classifies_alone_wherever_it_lies_and_never_imports_torch(made, inference_prints, tmp_path):
    shutil.copytree(made / "float32", tmp_path / "moved")
    shutil.copytree(made / "pictures", tmp_path / "pictures")
    command = [sys.executable, "-X", "importtime", "moved/classify_onnx.py", "pictures", "--top-k", "2"]
    found = subprocess.run(command, cwd=tmp_path, env=environment(), text=True, capture_output=True, timeout=60)
    imported = {line.rpartition("|")[2].strip() for line in found.stderr.splitlines()}
    assert found.stdout == inference_prints and {"onnxruntime", "classifier.exported"} <= imported
    assert not {"torch", "torchvision", "transformers", "timm", "tokenizers", "yaml", "tqdm"} & imported
    assert export_folder.is_export(tmp_path / "moved")  # with the __pycache__ of its modules
    assert all(str(ROOT).encode() not in path.read_bytes() for path in (made / "float32").rglob("*") if path.is_file())


@pytest.fixture
def retold(made, monkeypatch):
    """export.main without the seconds that tracing takes: the networks are those of made/."""

    def copy_network(network, pixels, form, folders, shown):
        for name, folder in folders.items():
            shutil.copytree(made / ("torch" if form == "torch" else name), folder, dirs_exist_ok=True)
        return ["model"] if "int8" in folders and [*shown] else []

    def main(output, *flags):
        export.main(["--checkpoint", str(made / "best"), "--output", str(output), *flags])

    monkeypatch.setattr(export_classifier, "write_network", copy_network)
    return main


def test_the_command_says_how_large_how_fast_and_how_right_the_export_is(made, retold, tmp_path, capsys):
    retold(tmp_path / "out", "--int8", "--pictures", str(made / "pictures"))
    out, readme = capsys.readouterr().out, (tmp_path / "out/README.md").read_text()
    assert "int8            calibrated on 27 pictures" in out and "answers         27 pictures" in out
    for name in ("PyTorch", "float32", "int8"):
        assert re.search(rf"^{name} +\d\.\d MB +\d+\.\d  1\.0000  27 of 27$", out, re.MULTILINE), name
    assert out[out.index("PyTorch  ") : out.index("written")] in readme + "\n" and "8-bit numbers" in readme
    assert f"next            python classify_onnx.py photo.jpg --model {tmp_path / 'out'}" in out


def test_without_data_drawn_pictures_are_compared_and_only_weights_become_int8(retold, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    retold("out", "--int8", "--num-pictures", "3")
    out = capsys.readouterr().out
    assert "int8            weights alone" in out and "3 pictures (drawn)" in out and "-  3 of 3" in out


def test_an_export_of_a_captioner_makes_way_for_that_of_a_classifier(retold, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/config.json").write_text(json.dumps({"model_type": export_folder.CAPTIONER}))
    (tmp_path / "out/encoder.pt2").touch()
    retold(tmp_path / "out", "--format", "torch", "--overwrite", "--num-pictures", "2")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"config.json", "README.md", "model.pt2"}


def test_an_export_that_differs_from_pytorch_is_not_written(made, retold, tmp_path, monkeypatch):
    monkeypatch.setattr(export_classifier, "TOLERANCE", -1.0)
    with pytest.raises(UserError, match="differs from PyTorch"):
        retold(tmp_path / "out", "--pictures", str(made / "pictures"))
    assert not [*tmp_path.iterdir()]


def test_anyones_classifier_is_not_measured_on_the_pictures_of_config_py():
    own, others = (
        export_classifier.ExportableClassifier(SimpleNamespace(config=config, settings="those of config.py"))
        for config in ({"settings": {}}, {})
    )
    assert own.settings and others.settings is None


@pytest.mark.parametrize(
    "arguments, part",
    [
        (["pictures", "--model", "best"], "no ONNX export"),
        (["pictures", "--model", "cut"], "damaged"),
        (["pictures", "--model", "other"], "3. numbers for 2 classes"),
        (["pictures", "--model", "float32", "--top-k", "0"], "--top-k"),
        (["pictures", "--model", "float32", "--batch-size", "0"], "--batch-size"),
        (["pictures"], "--model"),
        (["best", "--model", "float32"], "no pictures"),
    ],
)
def test_what_a_user_can_get_wrong_is_one_line(made, monkeypatch, arguments, part):
    monkeypatch.chdir(made)
    for name in ("cut", "other"):
        shutil.copytree("float32", name, dirs_exist_ok=True)
    (made / "cut" / ONNX_MODEL).write_bytes((made / "float32" / ONNX_MODEL).read_bytes()[:1000])
    config = json.loads((made / "float32/config.json").read_text())
    (made / "other/config.json").write_text(json.dumps({**config, "classes": COLOURS[:2]}))
    with pytest.raises(UserError, match=f"^.*{part}.*$"):
        classify_onnx.main(arguments)
