"""What export.py writes: the same numbers and captions as PyTorch's, without PyTorch."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from test_decoding import END, TABLES, Chain
from tiny import ROOT, environment, run, tiny_model, tiny_settings, tiny_tokenizer
from transformers import BitImageProcessor, CLIPImageProcessor, ConvNextImageProcessor, ViTImageProcessor
from transformers.models.timm_wrapper.image_processing_timm_wrapper import TimmWrapperImageProcessor

import export
from basics.errors import UserError
from caption_onnx import beam_search, greedy, open_onnx
from captioner.folder import Captioner, captioner_config, load_captioner, save_captioner
from networks.decoding_options import DecodingOptions
from networks.encoder import prepare_pixels
from networks.search import generate
from publishing.export_checks import check_preprocessing, describe_preprocessing
from publishing.export_parts import open_programs
from sources.images import load_image

MAX_LEN = 12
SIZES = [(33, 97), (120, 41), (32, 32), (50, 40), (5, 3), (200, 151), (64, 65)]
EXPORTS = ("float32", "int8", "torch")


def varied_captioner() -> Captioner:
    """Random weights, large enough for captions that differ in words and length, ended or not."""
    settings = tiny_settings(DECODER_LAYERS=2, MAX_SEQ_LEN=MAX_LEN)
    model, processor = tiny_model(seed=5, DECODER_LAYERS=2, MAX_SEQ_LEN=MAX_LEN)
    tokenizer = tiny_tokenizer()
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if name.startswith(("decoder", "projection")) and tensor.ndim > 1:
                tensor.mul_(15)
        model.decoder.token_embedding.weight[tokenizer.end_id] *= 2.5
    return Captioner(model, tokenizer, processor, captioner_config(model, tokenizer, settings.to_dict(), epoch=1))


def save_pictures(folder):
    folder.mkdir()
    noise = np.random.default_rng(0)
    for number, (width, height) in enumerate(SIZES):
        coarse = noise.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """best/, pictures/, and best/ exported as float32/ and int8/ (ONNX) and torch/; the tests only read it."""
    folder = tmp_path_factory.mktemp("export")
    save_pictures(folder / "pictures")
    save_captioner(varied_captioner(), folder / "best", epoch=1, extra_files={})
    captioner, flags = load_captioner(folder / "best"), ["--pictures", str(folder / "pictures")]
    export.export(captioner, tiny_settings(), export.parse_arguments([*flags, "--int8"]), folder)
    export.main(["--checkpoint", str(folder / "best"), "--format", "torch", *flags])
    return folder


def opened(made, name):
    return open_programs(made / name) if name == "torch" else open_onnx(made / name)


def images(made):
    return [load_image(path) for path in sorted((made / "pictures").iterdir())]


@pytest.mark.parametrize("name", ["float32", "torch"])
@pytest.mark.parametrize("pictures, captions", [(1, 1), (1, 4), (3, 1), (4, 3)])
def test_prefill_and_steps_give_the_logits_of_captions_read_at_once(made, name, pictures, captions):
    model, exported = load_captioner(made / "best").model, opened(made, name)
    pixels = torch.randn(pictures, 3, 32, 32)
    tokens = torch.randint(model.architecture["decoder_vocab_size"], (pictures, captions, MAX_LEN))
    with torch.inference_mode():
        expected, _ = model.decode(tokens.flatten(0, 1), model.start(model.encode(pixels)))
    cross = exported.encoder(pixels.numpy())
    logits, *own = exported.prefill(tokens[:, :, 0].numpy(), *cross)
    found = [logits]
    for t in range(1, MAX_LEN):
        logits, *own = exported.step(tokens[:, :, t].numpy(), *cross, *own)
        found.append(logits)
    assert np.abs(np.stack(found, axis=2).reshape(expected.shape) - expected.numpy()).max() < 1e-4


def test_a_step_from_an_empty_cache_is_prefill(made):
    exported = open_onnx(made / "float32")
    tokens, cross = np.full((2, 3), 1), exported.encoder(np.ones((2, 3, 32, 32), np.float32))
    first = exported.prefill(tokens, *cross)
    again = exported.step(tokens, *cross, *(array[:, :, :, :0] for array in first[1:]))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize("name", ["float32", "torch"])
@pytest.mark.parametrize("beam, length_penalty", [(1, 1.0), (2, 0.0), (3, 1.0), (5, 2.0)])
def test_captions_and_scores_are_those_of_inference(made, name, beam, length_penalty):
    captioner, exported = load_captioner(made / "best"), opened(made, name)
    options = DecodingOptions(max_seq_len=MAX_LEN, beam_size=beam, length_penalty=length_penalty)
    rows = captioner.caption(images(made), options)
    assert [text for text, _ in exported.caption(images(made), beam, length_penalty)] == [row[0][0] for row in rows]
    pixels = prepare_pixels(captioner.image_processor, images(made)).numpy()  # the same to the last bit, so are scores
    _, scores = greedy(exported, pixels) if beam == 1 else beam_search(exported, pixels, beam, length_penalty)
    assert scores.tolist() == pytest.approx([row[0][1].score for row in rows], abs=1e-4)


def test_the_captions_compared_differ_in_length_and_some_never_end(made):
    captions = [row[0][1] for row in load_captioner(made / "best").caption(images(made), DecodingOptions(MAX_LEN))]
    assert len({len(c.tokens) for c in captions}) > 1 and {c.finished for c in captions} == {True, False}


class ChainInNumpy:
    """test_decoding.Chain as the searches of caption_onnx.py see a model; its three pictures are alike."""

    start_id, end_id, max_seq_len = 1, END, 5

    def __init__(self, table):
        self.logits = np.log(np.array(table, np.float32), where=np.array(table) > 0, out=np.full((5, 5), -np.inf, "f"))

    def start(self, pixels):
        return self.logits[np.full((3, 1), self.start_id)], [], []

    def read(self, tokens, cross, own):
        return self.logits[tokens], []


NEVER_ENDS = [[0.2] * 5, [0.05, 0.07, 0.1, 0.6, 0.18], [0.2] * 5, [0.0, 0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.3, 0.7]]


@pytest.mark.parametrize("table", [*TABLES, NEVER_ENDS])
@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("beam", [1, 2, 4])
def test_the_searches_find_what_those_of_decoding_find(table, length_penalty, beam):
    options = DecodingOptions(5, beam_size=beam, length_penalty=length_penalty)
    rows = generate(Chain(table), torch.zeros(3, 1, 1), tiny_tokenizer(), options)
    model = ChainInNumpy(table)
    tokens, scores = greedy(model, np.zeros(3)) if beam == 1 else beam_search(model, np.zeros(3), beam, length_penalty)
    assert scores.tolist() == pytest.approx([row[0].score for row in rows], abs=1e-5)
    assert [END in row for row in tokens.tolist()] == [row[0].finished for row in rows]


def test_the_command_prints_what_inference_prints_and_never_imports_torch(made):
    code = """import sys, caption_onnx
caption_onnx.main(["pictures", "--model", "float32", "--beam", "3", "--batch-size", "2"])
print({"torch", "torchvision", "transformers", "timm", "yaml", "tqdm"} & set(sys.modules), file=sys.stderr)"""
    found = python(code, made, PYTHONPATH=str(ROOT))
    reference = run("inference.py", "pictures", "--checkpoint", "best", "--beam", 3, cwd=made)
    assert (found.stdout, found.stderr) == (reference.stdout, "set()\n") and found.stdout.count("\n") == len(SIZES)


def python(code, folder, **variables):
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment(**variables), text=True, capture_output=True
    )
    assert result.returncode == 0, result.stderr
    return result


def test_the_programs_run_as_their_readme_says_without_this_project(made, tmp_path):
    model = load_captioner(made / "best").model
    pixels, tokens = torch.randn(2, 3, 32, 32), torch.ones(2, 1, dtype=torch.long)
    with torch.inference_mode():
        _, cache = model.decode(tokens, model.start(model.encode(pixels)))
        expected, _ = model.decode(tokens, cache)
    torch.save([pixels, tokens], tmp_path / "in.pt")
    usage = "\n".join(line[4:] for line in (made / "torch/README.md").read_text().split("\n\n")[1].splitlines())
    code = f"import torch\npixels, tokens = torch.load({str(tmp_path / 'in.pt')!r})\n{usage}\n"
    python(code + f"torch.save(logits, {str(tmp_path / 'out.pt')!r})", made / "torch", PYTHONPATH="")
    assert torch.allclose(torch.load(tmp_path / "out.pt")[:, 0], expected[:, 0], atol=1e-4)


def test_int8_weights_are_smaller_and_still_caption(made):
    import onnx

    model = onnx.load(made / "int8" / "encoder.onnx", load_external_data=False)
    stored = {np.dtype(onnx.helper.tensor_dtype_to_np_dtype(t.data_type)).name: 0 for t in model.graph.initializer}
    assert "int8" in stored
    sizes = [(made / name / "decoder.weights").stat().st_size for name in ("float32", "int8")]
    assert sizes[1] < 0.6 * sizes[0]  # biases and norms stay float32, much of so small a decoder
    captions = open_onnx(made / "int8").caption(images(made))
    assert len(captions) == len(SIZES) and all(np.isfinite(score) for _, score in captions)


def test_the_decoder_is_stored_once_and_no_file_names_this_machine(made):
    parameters = sum(p.numel() for p in load_captioner(made / "best").model.decoder.parameters())
    assert (made / "float32" / "decoder.weights").stat().st_size < 1.5 * 4 * parameters
    for path in (path for name in EXPORTS for path in (made / name).iterdir()):
        assert str(ROOT).encode() not in path.read_bytes() and sys.prefix.encode() not in path.read_bytes(), path


@pytest.mark.parametrize(
    "processor",
    [
        ViTImageProcessor(size={"height": 48, "width": 40}),
        ViTImageProcessor(do_normalize=False, do_rescale=False),
        CLIPImageProcessor(size={"shortest_edge": 60}, crop_size={"height": 47, "width": 49}),
        BitImageProcessor(size={"shortest_edge": 64}, crop_size={"height": 56, "width": 56}, resample=1),
        BitImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 41, "width": 41}),
        ConvNextImageProcessor(size={"shortest_edge": 64}),
        ConvNextImageProcessor(size={"shortest_edge": 384}),
        TimmWrapperImageProcessor({"input_size": [3, 61, 61], "crop_pct": 0.9, "interpolation": "bicubic"}),
        TimmWrapperImageProcessor({"input_size": [3, 64, 64], "crop_pct": 1.0, "crop_mode": "squash"}),
    ],
    ids=lambda p: type(p).__name__,
)
def test_preprocessing_is_reproduced_without_torch(made, processor):
    check_preprocessing(processor, describe_preprocessing(processor), images(made))


class Upside(ViTImageProcessor):
    def resize(self, image, **options):
        return super().resize(image.flip(-2), **options)


@pytest.mark.parametrize(
    "processor",
    [
        Upside(),
        ViTImageProcessor(size={"max_height": 50, "max_width": 50}),
        TimmWrapperImageProcessor({"input_size": [3, 64, 64], "crop_mode": "border"}),
    ],
    ids=["another order", "another size", "another step"],
)
def test_preprocessing_that_cannot_be_reproduced_is_refused(made, processor):
    with pytest.raises(UserError, match="cannot be"):
        check_preprocessing(processor, describe_preprocessing(processor), images(made))


@pytest.fixture
def retold(made, monkeypatch):
    """export.main without the seconds that tracing takes: the parts are those of made/."""
    monkeypatch.setattr(
        export,
        "write_parts",
        lambda captioner, pixels, output_format, folders: shutil.copytree(
            made / "torch", folders["float32"], dirs_exist_ok=True
        ),
    )
    pictures = ["--pictures", str(made / "pictures")]
    return lambda output, *flags: export.main(
        ["--checkpoint", str(made / "best"), "--format", "torch", "--output", str(output), *(flags or pictures)]
    )


def test_foreign_files_are_left_alone(retold, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="other files"):
        retold(tmp_path)
    with pytest.raises(UserError, match="is a file"):
        retold(tmp_path / "config.json")
    assert os.listdir(tmp_path) == ["config.json"]


def test_an_older_export_is_replaced(retold, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/config.json").write_text(json.dumps({"model_type": export.MODEL_TYPE}))
    (tmp_path / "out/encoder.onnx").write_bytes(b"")
    retold(tmp_path / "out")
    assert {"encoder.pt2", "encoder.onnx"} & set(os.listdir(tmp_path / "out")) == {"encoder.pt2"}
    assert os.listdir(tmp_path) == ["out"]


def test_without_pictures_and_data_drawn_ones_are_compared(retold, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    retold("out", "--num-pictures", "3")
    assert "3 pictures (drawn)" in capsys.readouterr().out and os.listdir(tmp_path) == ["out"]


def test_an_export_that_differs_from_pytorch_is_not_written(retold, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    with pytest.raises(UserError, match="differs from PyTorch"):
        retold(tmp_path / "out")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    "script, arguments",
    [("caption_onnx.py", ["pictures/0.png", "--model", "float32"]), ("export.py", ["--checkpoint", "best"])],
)
def test_a_missing_onnxruntime_is_one_line_that_says_what_to_install(made, tmp_path, script, arguments):
    (tmp_path / "onnxruntime.py").write_text("raise ModuleNotFoundError(\"No module named 'onnxruntime'\")")
    result = run(script, *arguments, cwd=made, PYTHONPATH=str(tmp_path))
    assert result.returncode == 1 and result.stderr.count("\n") == 1 and "pip install" in result.stderr


def test_a_bad_picture_is_named_and_the_rest_go_on(made, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    result = run("caption_onnx.py", tmp_path, "pictures/0.png", "gone.png", "--model", "float32", cwd=made)
    assert result.returncode == 1 and result.stdout.startswith("pictures/0.png\t") and result.stdout.count("\n") == 1
    assert result.stderr.count("error: ") == 2 and "broken.jpg" in result.stderr and "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "arguments, part",
    [
        (["pictures/0.png", "--model", "best"], "no ONNX export"),
        (["pictures/0.png", "--model", "cut"], "damaged"),
        (["pictures/0.png", "--model", "float32", "--beam", "0"], "--beam"),
        (["empty", "--model", "float32"], "no pictures"),
    ],
)
def test_what_a_user_can_get_wrong_is_one_line(made, arguments, part):
    (made / "empty").mkdir(exist_ok=True)
    (made / "cut").mkdir(exist_ok=True)
    for path in (made / "float32").iterdir():
        (made / "cut" / path.name).write_bytes(path.read_bytes()[:100])
    result = run("caption_onnx.py", *arguments, cwd=made)
    assert result.returncode == 1 and part in result.stderr and result.stderr.count("\n") == 1
