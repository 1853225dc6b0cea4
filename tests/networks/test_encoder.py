"""Encoders: every family becomes image tokens; freezing; rebuilding without a network."""

import pytest
import torch
import transformers
from PIL import Image
from tiny import SHARED, tiny_settings
from transformers import (
    BitImageProcessor,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    Dinov2Config,
    Dinov2Model,
    ResNetConfig,
    ResNetModel,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
    TimmWrapperConfig,
    TimmWrapperModel,
    ViTConfig,
    ViTImageProcessor,
    ViTModel,
)

from basics.errors import UserError
from networks.encoder import describe_encoder, prepare_pixels, rebuild_encoder, token_shape
from networks.encoders import load_encoder
from networks.parameters import blocks_of

SMALL = dict(
    hidden_size=32, num_hidden_layers=3, num_attention_heads=2, intermediate_size=64, image_size=32, patch_size=16
)
TEXT = dict(
    hidden_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=16,
    vocab_size=64,
    bos_token_id=1,
    eos_token_id=2,
    pad_token_id=0,
)
SIZE = {"height": 32, "width": 32}


def timm_config(architecture: str, width: int) -> TimmWrapperConfig:
    """What a timm repository on the Hub holds."""
    pretrained_cfg = {
        "input_size": [3, 64, 64],
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
        "interpolation": "bicubic",
        "crop_pct": 1.0,
        "crop_mode": "center",
    }
    return TimmWrapperConfig(architecture=architecture, pretrained_cfg=pretrained_cfg, num_features=width, num_labels=0)


FAMILIES = {
    "vit": (lambda: ViTModel(ViTConfig(**SMALL)), lambda: ViTImageProcessor(size=SIZE), (5, 32)),
    "clip": (
        lambda: CLIPModel(CLIPConfig(vision_config=SMALL, text_config=TEXT)),
        lambda: CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=SIZE),
        (5, 32),
    ),
    "siglip": (
        lambda: SiglipModel(SiglipConfig(vision_config=SMALL, text_config=TEXT)),
        lambda: SiglipImageProcessor(size=SIZE),
        (4, 32),
    ),
    "dinov2": (
        lambda: Dinov2Model(
            Dinov2Config(hidden_size=32, num_hidden_layers=3, num_attention_heads=2, image_size=32, patch_size=16)
        ),
        lambda: BitImageProcessor(size={"shortest_edge": 32}, crop_size=SIZE),
        (5, 32),
    ),
    "resnet": (
        lambda: ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8, 16, 32, 64], depths=[1, 1, 1, 1])),
        lambda: ViTImageProcessor(size={"height": 64, "width": 64}),
        (4, 64),
    ),
    "timm cnn": (lambda: TimmWrapperModel(timm_config("mobilenetv3_small_050", 288)), None, (4, 288)),
    "tinyvit": (lambda: TimmWrapperModel(timm_config("tiny_vit_5m_224", 320)), None, (4, 320)),
    "timm swin": (lambda: TimmWrapperModel(timm_config("swin_s3_tiny_224", 768)), None, (49, 768)),
}


def save(name: str, folder):
    make_model, make_processor, shape = FAMILIES[name]
    torch.manual_seed(0)
    model = make_model()
    if name == "timm swin":
        model.config.pretrained_cfg["input_size"] = [3, 224, 224]  # built for one size only
    model.save_pretrained(folder)
    if make_processor:
        make_processor().save_pretrained(folder)
    return shape


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_becomes_image_tokens_and_is_rebuilt_without_a_network(name, tmp_path):
    shape = save(name, tmp_path)
    encoder, processor = load_encoder(tiny_settings(ENCODER_MODEL_NAME=str(tmp_path), ENCODER_TRAINABLE="all"))
    assert token_shape(encoder, processor) == shape
    again, same_processor = rebuild_encoder(describe_encoder(encoder, processor))
    again.load_state_dict(encoder.state_dict())
    picture = Image.linear_gradient("L").convert("RGB")
    tokens, expected = [
        e.eval()(prepare_pixels(p, [picture])) for e, p in ((again, same_processor), (encoder, processor))
    ]
    assert torch.equal(tokens, expected)


def test_weights_stored_in_half_precision_load_in_full(tmp_path):
    ViTModel(ViTConfig(**SMALL)).half().save_pretrained(tmp_path)
    ViTImageProcessor(size=SIZE).save_pretrained(tmp_path)
    encoder, _ = load_encoder(tiny_settings(ENCODER_MODEL_NAME=str(tmp_path), ENCODER_TRAINABLE="none"))
    assert {p.dtype for p in encoder.parameters()} == {torch.float32}


def test_the_blank_picture_goes_where_the_encoder_is(tmp_path):
    save("vit", tmp_path)
    encoder, image_processor = load_encoder(tiny_settings(ENCODER_MODEL_NAME=str(tmp_path)))
    assert token_shape(encoder.to("meta"), image_processor) == (5, 32)  # as it would be on a GPU


def test_the_last_blocks_and_what_follows_are_tuned(tmp_path):
    save("vit", tmp_path)
    encoder, _ = load_encoder(tiny_settings(ENCODER_MODEL_NAME=str(tmp_path), ENCODER_TRAINABLE=1))
    tuned = {
        name.removeprefix("backbone.").rsplit(".", 1)[0] for name, p in encoder.named_parameters() if p.requires_grad
    }
    assert "layernorm" in tuned and all(name.startswith(("layers.2.", "layernorm")) for name in tuned)
    with pytest.raises(UserError, match="has 3 blocks"):
        load_encoder(tiny_settings(ENCODER_MODEL_NAME=str(tmp_path), ENCODER_TRAINABLE=4))


def test_a_frozen_encoder_stays_in_eval_mode_and_its_statistics_do_not_drift(tmp_path):
    save("timm cnn", tmp_path)
    encoder, _ = load_encoder(tiny_settings(ENCODER_MODEL_NAME=str(tmp_path), ENCODER_TRAINABLE="none"))
    encoder.train()
    assert not any(module.training for module in encoder.modules())
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    encoder(torch.randn(4, 3, 64, 64))
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())


def test_batch_norm_keeps_its_statistics_while_the_encoder_is_tuned(tmp_path):
    save("timm cnn", tmp_path)
    encoder, _ = load_encoder(tiny_settings(ENCODER_MODEL_NAME=str(tmp_path), ENCODER_TRAINABLE="all"))
    before = {name: tensor.clone() for name, tensor in encoder.named_buffers()}
    encoder.train()(torch.randn(4, 3, 64, 64)).sum().backward()
    assert encoder.training and all(torch.equal(tensor, before[name]) for name, tensor in encoder.named_buffers())
    assert any("bn" in name and p.grad is not None for name, p in encoder.named_parameters())


def test_frozen_blocks_stay_in_eval_mode_beside_tuned_ones(tmp_path):
    save("vit", tmp_path)
    encoder, _ = load_encoder(tiny_settings(ENCODER_MODEL_NAME=str(tmp_path), ENCODER_TRAINABLE=1))
    modes = [block.training for block in blocks_of(encoder.train())]
    assert modes == [False, False, True]


@pytest.mark.parametrize("damage", ["no weights", "no config", "other weights"])
def test_an_encoder_that_cannot_be_loaded_is_one_clear_error(damage, tmp_path):
    save("vit", tmp_path)
    if damage == "no config":
        (tmp_path / "config.json").unlink()
    elif damage == "no weights":
        (tmp_path / "model.safetensors").unlink()
    else:
        ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1])).save_pretrained(
            tmp_path / "other"
        )
        (tmp_path / "other/model.safetensors").replace(tmp_path / "model.safetensors")
    with pytest.raises(UserError) as caught:
        load_encoder(tiny_settings(ENCODER_MODEL_NAME=str(tmp_path), ENCODER_TRAINABLE="none"))
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name, shape",
    [("efficientnet-lite2", (81, 1280)), ("efficientnet-lite0", (49, 1280)), ("vit-small-saliency", (257, 384))],
)
def test_real_weights_load(name, shape):
    folder = SHARED / "models" / name
    if not folder.is_dir():
        pytest.skip(f"no real weights at {folder}")
    encoder, processor = load_encoder(tiny_settings(ENCODER_MODEL_NAME=str(folder), ENCODER_TRAINABLE="none"))
    assert token_shape(encoder, processor) == shape


def test_a_model_that_sees_no_pictures_is_one_clear_error(tmp_path):
    config = transformers.BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    transformers.BertModel(config).save_pretrained(tmp_path)
    ViTImageProcessor(size=SIZE).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="no image tokens"):
        token_shape(*load_encoder(tiny_settings(ENCODER_MODEL_NAME=str(tmp_path), ENCODER_TRAINABLE="none")))


def test_transformers_is_as_talkative_as_before():
    before = transformers.logging.get_verbosity()
    load_encoder(tiny_settings())
    assert transformers.logging.get_verbosity() == before


@pytest.mark.parametrize("name", ["vit", "clip"])
def test_sixteen_bits_on_a_cpu_take_the_plain_attention_and_give_the_same_tokens(tmp_path, name):
    save(name, tmp_path)
    encoder, processor = load_encoder(tiny_settings(ENCODER_MODEL_NAME=str(tmp_path), ENCODER_TRAINABLE="all"))
    encoder.eval()
    pixels, used, tokens = prepare_pixels(processor, [Image.linear_gradient("L").convert("RGB")]), [], []
    for half in (False, True, False):
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=half):
            tokens.append(encoder(pixels).float())
        used.append(encoder.backbone.config._attn_implementation)
    assert used == ["sdpa", "eager", "sdpa"] and torch.equal(tokens[0], tokens[2])
    torch.testing.assert_close(tokens[0], tokens[1], rtol=0.05, atol=0.05)
