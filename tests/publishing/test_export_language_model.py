"""Exports of captioners with a language model: the same numbers and captions as PyTorch's, without PyTorch."""

import copy
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from coarse_pictures import coarse_pictures
from language_models import FAMILIES, with_language_model
from tiny import environment, tiny_settings
from transformers import DynamicCache, EncoderDecoderCache, MistralConfig

import inference
from basics.errors import UserError
from captioner.exported import open_onnx
from captioner.folder import Captioner, captioner_config, save_captioner
from model import make_model
from networks.decoding_options import DecodingOptions
from networks.encoders import load_encoder
from networks.language_model import LanguageCache
from networks.transformer_decoder import Cache
from publishing import export_captioner
from publishing.export_parts import make_modules, open_programs, write_programs
from tokenizer import build_tokenizer

MAX_LEN = 8
OPEN = {"float32": open_onnx, "torch": open_programs}


def captioner_with(family: str, **changes) -> Captioner:
    """Random weights, adapters among them, large enough for captions that differ and sometimes end."""
    settings = tiny_settings(**with_language_model(family, MAX_SEQ_LEN=MAX_LEN, **changes))
    tokenizer = build_tokenizer(settings, [])
    torch.manual_seed(1)
    encoder, image_processor = load_encoder(settings)
    model = make_model(encoder, image_processor, tokenizer, settings).eval().requires_grad_(False)
    for name, tensor in model.named_parameters():
        if name.endswith("lora_B.default.weight"):
            tensor.normal_(std=0.1)
        elif name.startswith(("decoder", "projection")) and tensor.ndim > 1:
            tensor.mul_(4)
    config = captioner_config(model, tokenizer, settings.to_dict(), epoch=1)
    return Captioner(model, tokenizer, image_processor, config)


@pytest.fixture(scope="module")
def adapted() -> Captioner:
    return captioner_with("gpt2", LORA_RANK=2)


@pytest.fixture(scope="module")
def made(tmp_path_factory, adapted):
    """best/, pictures/, and best/ exported as float32/ and int8/ (ONNX) and, of the same traced parts, torch/."""
    folder, traced, trace = tmp_path_factory.mktemp("export"), {}, export_captioner.trace
    (folder / "pictures").mkdir()
    for number, picture in enumerate(coarse_pictures()):
        picture.save(folder / "pictures" / f"{number}.png")
    save_captioner(adapted, folder / "best", epoch=1, extra_files={})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export_captioner, "trace", lambda *given: traced.update(trace(*given)) or traced)
        weights = ["float32", "int8"]
        export_captioner.export_captioner(adapted, adapted.settings, coarse_pictures(), "onnx", weights, folder)
    shutil.copytree(folder / "float32", folder / "torch", ignore=shutil.ignore_patterns("*.onnx", "*.weights"))
    write_programs(traced, folder / "torch")
    return folder


def logits_at_once(captioner: Captioner, pixels, tokens):
    """(U, 3, H, W) and (U, K, T) -> (U, K, T, V)."""
    with torch.inference_mode():
        model = captioner.model
        return model.decode(tokens.flatten(0, 1), model.start(model.encode(pixels)))[0].unflatten(0, tokens.shape[:2])


def example(captioner: Captioner, pictures: int, captions: int):
    torch.manual_seed(0)
    tokens = torch.randint(len(captioner.tokenizer), (pictures, captions, MAX_LEN))
    return torch.randn(pictures, 3, 32, 32), tokens


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("prompt", ["a photo of", ""])
def test_the_parts_give_the_logits_of_captions_read_at_once(family, prompt):
    captioner = captioner_with(family, PROMPT=prompt, PREFIX_TOKENS=2)
    parts, (pixels, tokens) = make_modules(captioner.model), example(captioner, 2, 3)
    cross = parts["encoder"](pixels)
    logits, *own = parts["prefill"](tokens[:, :, 0], cross)
    found = [logits]
    for t in range(1, MAX_LEN):
        logits, *own = parts["step"](tokens[:, :, t], cross, own)
        found.append(logits)
    torch.testing.assert_close(torch.stack(found, 2), logits_at_once(captioner, pixels, tokens), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("pictures, captions", [(1, 1), (3, 2)])
def test_an_export_gives_the_logits_of_the_model_with_its_adapters(made, adapted, pictures, captions):
    exported, (pixels, tokens) = open_onnx(made / "float32"), example(adapted, pictures, captions)
    cross = exported.encoder(pixels.numpy())
    logits, *own = exported.prefill(tokens[:, :, 0].numpy(), *cross)
    found = [logits]
    for t in range(1, MAX_LEN):
        logits, own = exported.read(tokens[:, :, t].numpy(), cross, own)
        found.append(logits)
    assert np.abs(np.stack(found, axis=2) - logits_at_once(adapted, pixels, tokens).numpy()).max() < 1e-4


@pytest.mark.parametrize("name", ["float32", "torch"])
def test_captions_and_scores_are_those_of_inference(made, adapted, name):
    exported = OPEN[name](made / name)
    for beam in (1, 3):
        options = DecodingOptions(MAX_LEN, beam_size=beam, num_captions=beam)
        rows, found = (each.caption_images(coarse_pictures(), options) for each in (adapted, exported))
        assert [[text for text, _ in row] for row in found] == [[text for text, _ in row] for row in rows]
        assert len({text for row in rows for text, _ in row}) > beam
        for ours, theirs in zip(rows, found, strict=True):
            assert [c.score for _, c in theirs] == pytest.approx([c.score for _, c in ours], abs=0.05)  # pixels round


def test_an_export_captions_alone_and_never_imports_torch(made, capsys, monkeypatch):
    monkeypatch.chdir(made)
    inference.main(["pictures", "--checkpoint", "best", "--beam", "3"])
    command = [sys.executable, "-X", "importtime", "float32/caption_onnx.py", "pictures", "--beam", "3"]
    found = subprocess.run(command, env=environment(PYTHONPATH=""), text=True, capture_output=True)
    imported = {line.rpartition("|")[2].strip() for line in found.stderr.splitlines()}
    assert found.stdout == capsys.readouterr().out and "captioner.exported" in imported
    assert not {"torch", "transformers", "networks.language_tokenizer"} & imported


def test_the_language_model_is_stored_once_for_all_parts_and_int8_weights_still_caption(made, adapted):
    stored = sum(p.numel() for name, p in adapted.model.decoder.named_parameters() if "lora_" not in name)
    sizes = {name: (made / name / "decoder.weights").stat().st_size for name in ("float32", "int8")}
    assert 0.8 < sizes["float32"] / (4 * stored) < 1.1 and sizes["int8"] < 0.5 * sizes["float32"]
    for name in sizes:
        graphs = sum((made / name / f"{part}.onnx").stat().st_size for part in ("encoder", "prefill", "step"))
        encoder = sum(p.numel() for p in adapted.model.encoder.parameters())
        assert graphs < 4 * encoder + 100_000
    captions = [row[0][1] for row in open_onnx(made / "int8").caption_images(coarse_pictures(), DecodingOptions())]
    assert all(np.isfinite(caption.score) for caption in captions)


WINDOWED = LanguageCache(DynamicCache(config=MistralConfig(num_hidden_layers=2, sliding_window=4)), torch.arange(1))


CROSS = LanguageCache(EncoderDecoderCache(DynamicCache(), DynamicCache()), torch.arange(1))


@pytest.mark.parametrize("cache", [WINDOWED, Cache([], []), CROSS], ids=["windows", "another cache", "cross-attention"])
def test_what_keeps_anything_but_keys_and_values_of_each_token_is_refused_in_one_line(adapted, cache):
    decoder = copy.copy(adapted.model.decoder)
    decoder.start = lambda *_: cache
    refused(SimpleNamespace(decoder=decoder), adapted.tokenizer, "^.*keeps a .*cannot be exported; expected.*GPT-2.*$")


def test_an_unknown_decoder_and_an_unknown_vocabulary_are_refused_in_one_line(adapted):
    refused(SimpleNamespace(decoder=torch.nn.Identity()), adapted.tokenizer, "^.*Identity.*expected DECODER.*$")
    refused(adapted.model, object(), "^.*object.*expected.*TOKENIZER.*$")


def refused(model, tokenizer, line):
    with pytest.raises(UserError, match=line):
        export_captioner.check_exportable(SimpleNamespace(model=model, tokenizer=tokenizer))
