"""What export.py writes: the same numbers and captions as PyTorch's, without PyTorch."""

import contextlib
import functools
import io
import json
import os
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from coarse_pictures import SIZES, coarse_pictures
from tiny import ROOT, environment, tiny_model, tiny_settings, tiny_tokenizer

import caption_onnx
import export
import inference
from basics.errors import UserError
from captioner.exported import ONNX_PARTS, open_onnx
from captioner.folder import Captioner, captioner_config, load_captioner, save_captioner
from networks.decoding_options import DecodingOptions
from networks.encoder import prepare_pixels
from publishing import export_captioner, export_folder, int8_arithmetic
from publishing.export_parts import open_programs, write_models
from sources.images import load_image

MAX_LEN = 12
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


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """best/, pictures/, and best/ exported as float32/ and int8/ (ONNX) and torch/; the tests only read it."""
    folder = tmp_path_factory.mktemp("export")
    (folder / "pictures").mkdir()
    for number, picture in enumerate(coarse_pictures()):
        picture.save(folder / "pictures" / f"{number}.png")
    save_captioner(varied_captioner(), folder / "best", epoch=1, extra_files={})
    captioner, traced = load_captioner(folder / "best"), {}
    with pytest.MonkeyPatch.context() as patch:
        trace = export_captioner.trace  # takes seconds, and both forms are made of the same programs
        patch.setattr(export_captioner, "trace", lambda *given: traced or traced.update(trace(*given)) or traced)
        for form, weights, work in (("onnx", ["float32", "int8"], folder), ("torch", ["float32"], folder / "programs")):
            work.mkdir(exist_ok=True)
            export_captioner.export_captioner(captioner, tiny_settings(), images(folder), form, weights, work)
    (folder / "programs/float32").rename(folder / "torch")
    return folder


@pytest.fixture(scope="module")
def opened(made):
    """An export by name; opening a torch.export program takes seconds."""
    return functools.cache(lambda name: open_programs(made / name) if name == "torch" else open_onnx(made / name))


def images(made):
    return [load_image(path) for path in sorted((made / "pictures").iterdir())]


@pytest.mark.parametrize("name", ["float32", "torch"])
@pytest.mark.parametrize("pictures, captions", [(1, 1), (1, 4), (3, 1), (4, 3)])
def test_prefill_and_steps_give_the_logits_of_captions_read_at_once(made, opened, name, pictures, captions):
    model, exported = load_captioner(made / "best").model, opened(name)
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


def test_a_step_from_an_empty_cache_is_prefill(opened):
    exported = opened("float32")
    tokens, cross = np.full((2, 3), 1), exported.encoder(np.ones((2, 3, 32, 32), np.float32))
    first = exported.prefill(tokens, *cross)
    again = exported.step(tokens, *cross, *(array[:, :, :, :0] for array in first[1:]))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize("name", ["float32", "torch"])
@pytest.mark.parametrize("beam, length_penalty", [(1, 1.0), (2, 0.0), (3, 1.0), (5, 2.0)])
def test_captions_and_scores_are_those_of_inference(made, opened, name, beam, length_penalty):
    captioner, exported = load_captioner(made / "best"), opened(name)
    options = DecodingOptions(MAX_LEN, beam_size=beam, num_captions=beam, length_penalty=length_penalty)
    rows = captioner.caption(images(made), options)
    found = exported.caption_images(images(made), options)
    assert [[text for text, _ in row] for row in found] == [[text for text, _ in row] for row in rows]
    pixels = prepare_pixels(captioner.image_processor, images(made)).numpy()  # the same to the last bit, so are scores
    scores = [[caption.score for caption in row] for row in exported.search(pixels, options)]
    assert scores == [pytest.approx([caption.score for _, caption in row], abs=1e-4) for row in rows]


def test_the_captions_compared_differ_in_length_and_some_never_end(made):
    captions = [row[0][1] for row in load_captioner(made / "best").caption(images(made), DecodingOptions(MAX_LEN))]
    assert len({len(c.tokens) for c in captions}) > 1 and {c.finished for c in captions} == {True, False}


@pytest.fixture
def inference_prints(made, capsys, monkeypatch):
    """What `python inference.py pictures --beam 3` prints, in the folder where it was called."""
    monkeypatch.chdir(made)
    inference.main(["pictures", "--checkpoint", "best", "--beam", "3"])
    return capsys.readouterr().out


def test_the_command_prints_what_inference_prints(made, inference_prints, capsys):
    assert caption_onnx.main(["pictures", "--model", "float32", "--beam", "3", "--batch-size", "2"]) == 0
    assert capsys.readouterr() == (inference_prints, "") and inference_prints.count("\n") == len(SIZES)


@pytest.mark.parametrize("flags", [["--format", "json"], ["--output", "out.csv"], ["--output", "out.json"]])
def test_the_command_writes_what_inference_writes(made, flags, capsys, monkeypatch, tmp_path):
    pictures, flags = str(made / "pictures"), [*flags, "--num-captions", "3", "--overwrite"]
    monkeypatch.chdir(tmp_path)
    found = []
    for main, captioner in (
        (inference.main, ["--checkpoint", str(made / "best")]),
        (caption_onnx.main, ["--model", str(made / "float32")]),
    ):
        assert main([pictures, *captioner, *flags]) == 0
        found.append((capsys.readouterr(), [path.read_text() for path in tmp_path.iterdir()]))
    numbers = re.compile(r"-\d+\.\d+")  # scores, to their last digits
    texts = [numbers.sub("", str(each)) for each in found]
    assert texts[0] == texts[1] and texts[0].count("pictures/0.png") in (1, 3)
    scores = [[float(number) for number in numbers.findall(str(each))] for each in found]
    assert len(scores[0]) == 3 * len(SIZES) and scores[0] == pytest.approx(scores[1], abs=2e-3)


def test_an_export_captions_alone_wherever_it_lies_and_never_imports_torch(made, inference_prints, tmp_path):
    shutil.copytree(made / "float32", tmp_path / "moved")
    shutil.copytree(made / "pictures", tmp_path / "pictures")
    found = python("-X", "importtime", "moved/caption_onnx.py", "pictures", "--beam", "3", cwd=tmp_path)
    imported = {line.rpartition("|")[2].strip() for line in found.stderr.splitlines()}
    assert found.stdout == inference_prints and {"onnxruntime", "captioner.exported"} <= imported
    assert not {"torch", "torchvision", "transformers", "timm", "yaml", "tqdm"} & imported
    assert export_folder.is_export(tmp_path / "moved")  # with the __pycache__ of its modules
    (tmp_path / "moved/basics/notes.txt").touch()
    assert not export_folder.is_export(tmp_path / "moved")


def test_a_reader_that_has_gone_ends_the_command_quietly(made):
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, str(made / "float32/caption_onnx.py"), "pictures"]
    found = subprocess.run(command, cwd=made, env=environment(), text=True, stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert (found.returncode, found.stderr) == (141, "")


def python(*arguments, cwd):
    """Python as the project's folder is not on its path."""
    command = [sys.executable, *arguments]
    result = subprocess.run(command, cwd=cwd, env=environment(PYTHONPATH=""), text=True, capture_output=True)
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
    python("-c", code + f"torch.save(logits, {str(tmp_path / 'out.pt')!r})", cwd=made / "torch")
    assert torch.allclose(torch.load(tmp_path / "out.pt")[:, 0], expected[:, 0], atol=1e-4)


def test_int8_weights_are_smaller_and_still_caption(made, opened):
    import onnx

    model = onnx.load(made / "int8" / "encoder.onnx", load_external_data=False)
    stored = {np.dtype(onnx.helper.tensor_dtype_to_np_dtype(t.data_type)).name: 0 for t in model.graph.initializer}
    assert "int8" in stored
    sizes = [(made / name / "decoder.weights").stat().st_size for name in ("float32", "int8")]
    assert sizes[1] < 0.6 * sizes[0]  # biases and norms stay float32, much of so small a decoder
    captions = [row[0][1] for row in opened("int8").caption_images(images(made), DecodingOptions())]
    assert len(captions) == len(SIZES) and all(np.isfinite(caption.score) for caption in captions)


def test_parts_calibrated_on_pictures_multiply_8_bit_numbers(made, tmp_path, monkeypatch, capsys):
    import onnx

    float32, pixels = made / "float32", np.random.default_rng(0).normal(size=(3, 4, 3, 32, 32)).astype(np.float32)
    models = {Path(name).stem: onnx.load(float32 / name) for name in ONNX_PARTS}
    for limit, expected in ((np.inf, ["encoder", "prefill", "step"]), (-1, ["prefill", "step"])):
        monkeypatch.setattr(int8_arithmetic, "MOVED", limit)
        use = partial(export_captioner.caption_greedily, float32)
        smaller, eight_bit = int8_arithmetic.in_int8(models, [*pixels], use)
        assert eight_bit == expected and ("too far" in capsys.readouterr().out) == (limit < 0)
        folder = shutil.copytree(float32, tmp_path / str(limit))
        write_models(smaller, folder)
        (folder / "config.json").write_text(json.dumps({**open_onnx(float32).config, "int8_arithmetic": eight_bit}))
        assert (folder / "decoder.weights").stat().st_size < 0.6 * (float32 / "decoder.weights").stat().st_size
        own, others = (open_onnx(each).start(pixels[0])[0] for each in (float32, folder))
        assert 0 < np.abs(own - others).max() < 0.2 * np.abs(own).max()


def test_the_decoder_is_stored_once_and_no_file_names_this_machine(made):
    parameters = sum(p.numel() for p in load_captioner(made / "best").model.decoder.parameters())
    assert (made / "float32" / "decoder.weights").stat().st_size < 1.5 * 4 * parameters
    for path in (path for name in EXPORTS for path in (made / name).rglob("*") if path.is_file()):
        assert str(ROOT).encode() not in path.read_bytes() and sys.prefix.encode() not in path.read_bytes(), path


@pytest.fixture
def retold(made, monkeypatch):
    """export.main without the seconds that tracing takes: the parts are those of made/."""

    def copy_parts(model, pixels, form, folders, shown):
        for name, folder in folders.items():
            shutil.copytree(made / ("torch" if form == "torch" else name), folder, dirs_exist_ok=True)
        return []

    def main(output, *flags):
        pictures = [] if "--num-pictures" in flags else ["--pictures", str(made / "pictures")]
        export.main(["--checkpoint", str(made / "best"), "--output", str(output), *pictures, *flags])

    monkeypatch.setattr(export_captioner, "write_parts", copy_parts)
    return main


def test_foreign_files_are_left_alone(retold, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="other files"):
        retold(tmp_path)
    with pytest.raises(UserError, match="is a file"):
        retold(tmp_path / "config.json")
    assert os.listdir(tmp_path) == ["config.json"]


@pytest.mark.parametrize("flags, suffix", [(["--int8"], ".onnx"), (["--format", "torch"], ".pt2")])
def test_an_older_export_is_replaced(retold, tmp_path, flags, suffix):
    """The older one is of a project whose code lay elsewhere."""
    old = {"model_type": export_folder.CAPTIONER, "code": ["old/words.py"]}
    (tmp_path / "out/old").mkdir(parents=True)
    (tmp_path / "out/config.json").write_text(json.dumps(old))
    (tmp_path / "out/old/words.py").touch()
    (tmp_path / "out/encoder.onnx").write_bytes(b"")
    (tmp_path / "out/encoder.pt2").write_bytes(b"")
    retold(tmp_path / "out", *flags, "--overwrite")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"encoder.pt2", "encoder.onnx", "old"} & names == {"encoder" + suffix}
    assert ("caption_onnx.py" in names) == (suffix == ".onnx") and os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("answer, replaced", [("y\n", True), ("\n", False), ("", False)])
def test_an_older_export_goes_after_a_yes_alone(retold, tmp_path, capsys, monkeypatch, answer, replaced):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/config.json").write_text(json.dumps({"model_type": export_folder.CAPTIONER}))
    terminal = io.StringIO(answer)
    monkeypatch.setattr(sys, "stdin", terminal)
    with pytest.raises(UserError, match="^.*holds an older export; --overwrite replaces it.*$"):
        retold(tmp_path / "out")
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    with contextlib.nullcontext() if replaced else pytest.raises(UserError, match="left as it is"):
        retold(tmp_path / "out")
    assert "Replace it? [y/N]" in capsys.readouterr().out
    assert (tmp_path / "out/encoder.onnx").exists() == replaced


def test_the_command_says_how_large_and_how_right_the_export_is(retold, tmp_path, capsys):
    retold(tmp_path / "out", "--int8")
    out = capsys.readouterr().out
    assert out.index("checking        float32") < out.index("checking        int8") < out.index("captions   ")
    files = {path.name for path in (tmp_path / "out").iterdir() if path.is_file()} - {"caption_onnx.py", "config.py"}
    assert {line.split()[0] for line in out.splitlines() if " MB" in line} == {*files, "PyTorch", "float32", "int8"}
    assert out[out.index("PyTorch  ") : out.index("written")] in (tmp_path / "out/README.md").read_text() + "\n"
    assert f"{len(SIZES)} of {len(SIZES)}" in out and f"written         {tmp_path / 'out'}" in out


def test_without_pictures_and_data_drawn_ones_are_compared(retold, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    retold("out", "--num-pictures", "3")
    assert "3 pictures (drawn)" in capsys.readouterr().out and os.listdir(tmp_path) == ["out"]


def test_an_export_that_differs_from_pytorch_is_not_written(retold, tmp_path, monkeypatch):
    monkeypatch.setattr(export_captioner, "TOLERANCE", -1.0)
    with pytest.raises(UserError, match="differs from PyTorch"):
        retold(tmp_path / "out")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    "main, arguments",
    [(caption_onnx.main, ["pictures/0.png", "--model", "float32"]), (export.main, ["--checkpoint", "best"])],
    ids=["caption_onnx", "export"],
)
def test_a_missing_onnxruntime_is_one_line_that_says_what_to_install(made, monkeypatch, main, arguments):
    monkeypatch.chdir(made)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match="^.*pip install.*$"):
        main(arguments)


def test_a_bad_picture_is_named_and_the_rest_go_on(made, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(made)
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    assert caption_onnx.main([str(tmp_path), "pictures/0.png", "gone.png", "--model", "float32"]) == 1
    out, err = capsys.readouterr()
    assert out.startswith("pictures/0.png\t") and out.count("\n") == 1
    assert err.count("error: ") == 2 and "broken.jpg" in err and "gone.png" in err


@pytest.mark.parametrize(
    "arguments, part",
    [
        (["pictures/0.png", "--model", "best"], "no ONNX export"),
        (["pictures/0.png", "--model", "cut"], "damaged"),
        (["pictures/0.png", "--model", "float32", "--beam", "0"], "beam"),
        (["pictures/0.png"], "--model"),
        (["empty", "--model", "float32"], "no pictures"),
    ],
)
def test_what_a_user_can_get_wrong_is_one_line(made, monkeypatch, arguments, part):
    monkeypatch.chdir(made)
    (made / "empty").mkdir(exist_ok=True)
    (made / "cut").mkdir(exist_ok=True)
    for path in (path for path in (made / "float32").iterdir() if path.is_file()):
        (made / "cut" / path.name).write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match=f"^.*{part}.*$"):
        caption_onnx.main(arguments)
