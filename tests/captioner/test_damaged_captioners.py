"""Whatever best/ says: one line, or a captioner that captions, and never more memory than its weights have."""

import json
import random
import shutil
import time
from pathlib import Path

import pytest
import torch
from attack.child import in_child
from attack.mutate import mutate_bytes, mutate_value, places, with_value
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny import save_tiny_vit, tiny_model, tiny_settings, tiny_tokenizer, wrap

from basics.errors import UserError
from captioner.folder import Captioner, captioner_config, load_captioner, save_captioner
from networks.decoding_options import DecodingOptions
from networks.encoders import load_encoder
from tasks.captioning import load_origin

ENCODER = "encoder/config.json"
DESCRIPTIONS = ("config.json", ENCODER, "encoder/preprocessor_config.json")
CHECKED = (*DESCRIPTIONS, "model.safetensors", "vocab.json", "merges.txt", "checksums.json")
PICTURE = Image.linear_gradient("L").convert("RGB")


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("captioner")
    settings = tiny_settings(ENCODER_MODEL_NAME=str(save_tiny_vit(folder / "vit")))
    encoder, image_processor = load_encoder(settings)
    model, tokenizer = wrap(encoder, image_processor, settings), tiny_tokenizer()
    config = captioner_config(model, tokenizer, settings.to_dict(), 1)
    save_captioner(Captioner(model, tokenizer, image_processor, config), folder / "best", 1, {"README.md": "a card"})
    return folder / "best"


@pytest.fixture
def best(whole, tmp_path) -> Path:
    return shutil.copytree(whole, tmp_path / "best")


@pytest.fixture
def older(best) -> Path:
    """As it was saved before there were checksums."""
    (best / "checksums.json").unlink()
    return best


def captions(folder: Path) -> list[str]:
    return [text for text, _ in load_captioner(folder).caption(PICTURE, DecodingOptions(max_seq_len=5))]


def tried(folder: Path) -> str | None:
    """None where it captions; the line of a UserError, with what it came of."""
    try:
        captions(folder)
    except UserError as error:
        return f"{error} <- {type(error.__cause__).__name__}: {error.__cause__}"
    return None


def one_line(line: str | None) -> bool:
    return line is None or "\n" not in line.partition(" <- ")[0] and "alloc" not in line and "MemoryError" not in line


@pytest.mark.parametrize(
    "name, key, value",
    [
        ("config.json", "decoder_layers", 10**9),
        ("config.json", "decoder_layers", 100_000),
        ("config.json", "decoder_vocab_size", 20_000_000),
        ("config.json", "decoder_max_seq_len", 20_000_000),
        ("config.json", "decoder_ff_dim", 10**8),
        (ENCODER, "hidden_size", 40_000),
        (ENCODER, "intermediate_size", 10**6),
        (ENCODER, "num_hidden_layers", 10**9),
        (ENCODER, "num_hidden_layers", 10**6),
        (ENCODER, "image_size", 10**6),
        ("encoder/preprocessor_config.json", "size", {"height": 10**5, "width": 10**5}),
    ],
)
def test_sizes_that_the_weights_do_not_have_take_neither_memory_nor_time(older, tmp_path, name, key, value):
    content = json.loads((older / name).read_text())
    (content["architecture"] if key.startswith("decoder") else content)[key] = value
    if key == "decoder_max_seq_len":
        content["settings"]["MAX_SEQ_LEN"] = value
    (older / name).write_text(json.dumps(content))
    started = time.monotonic()
    line, grown = in_child(lambda: tried(older), tmp_path / "answer")
    assert line is not None and str(older) in line and one_line(line)
    assert grown < 300 and time.monotonic() - started < 5


def test_settings_that_training_would_build_another_model_by_are_refused(older):
    config = json.loads((older / "config.json").read_text())
    config["settings"]["DECODER_LAYERS"] = 1000
    (older / "config.json").write_text(json.dumps(config))
    assert captions(older)  # which does not ask them
    with pytest.raises(UserError, match="DECODER_LAYERS is 1000 in its settings, 1 in its architecture"):
        load_origin(tiny_settings(FINETUNE_FROM=str(older)), None)


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_whatever_stands_at_any_place_of_a_description_is_one_line_or_captions(older, tmp_path, name):
    rng, content = random.Random(name), json.loads((older / name).read_text())

    def walk():
        found = {}
        for place in places(content):
            (older / name).write_text(json.dumps(mutate_value(rng, content, place)[1]))
            found[str(place)] = tried(older)
        return found

    found, grown = in_child(walk, tmp_path / "answer")
    assert {place: line for place, line in found.items() if not one_line(line)} == {} and grown < 300
    assert sum(line is not None for line in found.values()) > len(found) / 3


@pytest.mark.parametrize("text", ["[]", "null", "{", "7", '"text"', "[" * 5000, '{"a": ' * 5000, "\x00"])
@pytest.mark.parametrize("name", [*DESCRIPTIONS, "vocab.json", "checksums.json"])
def test_json_that_is_no_mapping_is_one_line_that_names_the_file(best, name, text):
    if name != "checksums.json":
        (best / "checksums.json").unlink()
    (best / name).write_text(text)
    line = tried(best)
    assert line is not None and one_line(line) and name in line


@pytest.mark.parametrize("name", CHECKED)
def test_changed_bytes_in_any_file_are_one_line_that_names_it(whole, best, name):
    rng, content, expected = random.Random(name), (best / name).read_bytes(), captions(whole)
    for _ in range(6):
        how, mutant = mutate_bytes(rng, content)
        (best / name).write_bytes(mutant)
        try:
            assert captions(best) == expected and name == "checksums.json", how  # of what is not used, or a space
        except UserError as error:
            assert str(best) in str(error) and "\n" not in str(error)
            assert name in str(error) or name == "checksums.json"


def test_a_card_may_be_written_anew_and_older_folders_have_no_checksums(whole, best):
    expected = captions(whole)
    (best / "README.md").write_text("another card")
    assert captions(best) == expected
    (best / "checksums.json").unlink()
    assert captions(best) == expected


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["decoder.norm.bias", "encoder.backbone.layernorm.weight"])
def test_weights_that_are_not_finite_are_refused_by_name(older, name, value):
    weights = load_file(older / "model.safetensors")
    weights[name][3] = value
    save_file(weights, older / "model.safetensors")
    with pytest.raises(UserError, match=f"{name} holds numbers that are not finite"):
        load_captioner(older)


def test_large_finite_weights_are_none_of_these(older):
    weights = load_file(older / "model.safetensors")
    weights["decoder.norm.bias"][:] = 3e38  # their sum is no longer finite
    save_file(weights, older / "model.safetensors")
    assert load_captioner(older)


def test_loading_draws_no_random_numbers_and_leaves_drawing_as_it_was(whole):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    load_captioner(whole)
    assert torch.equal(torch.rand(3), expected) and torch.empty(1000).uniform_(1, 2).min() >= 1
    assert all(torch.equal(a, b) for a, b in zip(tiny_model()[0].parameters(), tiny_model()[0].parameters()))


def test_mutants_are_of_their_place_alone():
    value = {"a": [1, {"b": 2}], "c": 3}
    assert places(value) == [(), ("a",), ("a", 0), ("a", 1), ("a", 1, "b"), ("c",)]
    assert with_value(value, ("a", 1, "b"), 9) == {"a": [1, {"b": 9}], "c": 3} and value["a"] == [1, {"b": 2}]
    assert [mutate_bytes(random.Random(5), b"content") for _ in "ab"][0] == mutate_bytes(random.Random(5), b"content")
