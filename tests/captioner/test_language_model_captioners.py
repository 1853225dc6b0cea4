"""Captioners with a language model that say something wrong of themselves are refused in one line."""

import json

import pytest
import torch
from language_models import KINDS, with_language_model
from PIL import Image
from tiny import tiny_settings

from basics.errors import UserError
from captioner.ensemble import load_captioners
from captioner.folder import Captioner, captioner_config, load_captioner, save_captioner
from model import make_model
from networks.decoding_options import DecodingOptions
from networks.encoders import load_encoder
from tokenizer import build_tokenizer


def captioner_of(kind, **changes):
    settings = tiny_settings(**with_language_model(kind, **changes))
    torch.manual_seed(0)
    tokenizer, (encoder, image_processor) = build_tokenizer(settings, []), load_encoder(settings)
    model = make_model(encoder, image_processor, tokenizer, settings)
    return Captioner(model, tokenizer, image_processor, captioner_config(model, tokenizer, settings.to_dict(), epoch=1))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("captioner") / "best"
    save_captioner(captioner_of("llama"), folder, 1, {})
    (folder / "checksums.json").unlink()
    return folder


def test_it_loads_as_it_was_saved(saved):
    assert load_captioner(saved).model.architecture["decoder"] == "language_model"


def held(captioner):
    captioner.make_fast(torch.bfloat16)
    return {parameter.dtype for parameter in captioner.model.parameters() if parameter.ndim >= 2} == {torch.bfloat16}


@pytest.mark.parametrize("changes", [{}, {"LORA_RANK": 2}])
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_held_in_bf16(kind, changes):
    assert held(captioner_of(kind, **changes))


def test_an_ensemble_is_held_in_bf16(saved):
    assert held(load_captioners(f"{saved},{saved}"))


def test_two_caption_together_as_each_of_them_alone(saved):
    picture, options = Image.new("RGB", (32, 32), "red"), DecodingOptions(12, beam_size=2)
    together, alone = load_captioners(f"{saved},{saved}"), load_captioner(saved)
    assert together.caption(picture, options)[0][0] == alone.caption(picture, options)[0][0]


WRONG = {
    "no JSON": {"decoder_config": "{"},
    "no mapping": {"decoder_config": "[1]"},
    "another family": {"decoder_config": '{"model_type": "gpt2"}'},
    "no family": {"decoder_config": '{"model_type": "none"}'},
    "no words": {"decoder_lead": ""},
    "words that are no tokens": {"decoder_lead": "many"},
    "words beyond the vocabulary": {"decoder_lead": "100000"},
    "another width": {"decoder_embed_dim": 16},
    "another vocabulary": {"decoder_vocab_size": 10},
    "a number": {"decoder_config": 5},
    "adapters that are not there": {"decoder_lora_rank": 2, "decoder_lora_alpha": 2, "decoder_lora_targets": "q_proj"},
    "adapters nowhere": {"decoder_lora_rank": 2, "decoder_lora_alpha": 2, "decoder_lora_targets": "none"},
}


@pytest.mark.parametrize("changes", WRONG.values(), ids=WRONG)
def test_a_wrong_architecture_is_one_line(saved, tmp_path, changes):
    check_refused(saved, tmp_path, changes)


@pytest.mark.parametrize("size", ["hidden_size", "num_hidden_layers", "vocab_size", "intermediate_size"])
@pytest.mark.parametrize("value", [10**7, 10**12, -1, "x"])
def test_sizes_that_are_not_its_own_are_one_line_and_no_memory(saved, tmp_path, size, value):
    config = json.loads(json.loads((saved / "config.json").read_text())["architecture"]["decoder_config"])
    check_refused(saved, tmp_path, {"decoder_config": json.dumps(config | {size: value})})


def with_text(saved, folder, name, text):
    """The captioner in the folder, with another text in one of its files."""
    for path in saved.rglob("*.*"):
        (folder / path.relative_to(saved)).parent.mkdir(exist_ok=True)
        (folder / path.relative_to(saved)).symlink_to(path)
    (folder / name).unlink()
    (folder / name).write_text(text)
    return folder


def check_refused(saved, folder, changes):
    config = json.loads((saved / "config.json").read_text())
    config["architecture"] |= changes
    with pytest.raises(UserError, match="is damaged") as error:
        load_captioner(with_text(saved, folder, "config.json", json.dumps(config)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("text", ["", "{}", "[]", '{"bos_token": 1}', "\x00"])
def test_a_damaged_tokenizer_is_one_line(saved, tmp_path, name, text):
    with pytest.raises(UserError, match="is damaged"):
        load_captioner(with_text(saved, tmp_path, name, text))
