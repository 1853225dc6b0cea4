"""A language model as decoder: what it reads, what is shared, what trains."""

import pytest
import torch
from language_models import FAMILIES, KINDS, language_model, with_language_model
from tiny import CAPTIONS, tiny_settings
from transformers import BertConfig, BertLMHeadModel, MambaConfig

from basics.errors import UserError
from losses.cross_entropy import CaptionLoss
from model import make_model
from networks.causal_lm import load_language_model, read_language_config
from networks.decoding_options import DecodingOptions
from networks.encoders import load_encoder
from networks.parameters import blocks_of
from networks.search import generate
from tokenizer import build_tokenizer

PICTURES = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def made(family="gpt2", **changes):
    """(model in eval mode, tokenizer)"""
    settings = tiny_settings(**with_language_model(family, **changes))
    tokenizer = build_tokenizer(settings, [])
    torch.manual_seed(0)
    encoder, image_processor = load_encoder(settings)
    return make_model(encoder, image_processor, tokenizer, settings).eval(), tokenizer


def padded(tokenizer, captions):
    rows = [tokenizer.encode(caption) for caption in captions]
    tokens = torch.full((len(rows), max(map(len, rows))), tokenizer.pad_id)
    for i, row in enumerate(rows):
        tokens[i, : len(row)] = torch.tensor(row)
    lengths = torch.tensor([len(row) for row in rows])
    return tokens, torch.arange(tokens.shape[1] - 1) < lengths[:, None] - 1


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("changes", [{}, {"PREFIX_TOKENS": 2, "PROMPT": ""}], ids=["all", "short"])
def test_it_reads_picture_prompt_and_caption_as_one_text(family, changes):
    """The logits are those of one pass over the embeddings of all, without any cache."""
    model, tokenizer = made(family, **changes)
    prompt = tokenizer.encode(changes.get("PROMPT", "a photo of"))[1:-1]
    assert model.decoder.lead == [tokenizer.start_id, *prompt]
    ids = tokenizer.encode(CAPTIONS[0])[:-1]
    prefix = model.encode(PICTURES[:1])
    if changes:
        prefix = torch.stack([part.mean(1) for part in (prefix[:, :3], prefix[:, 2:])], dim=1)  # 5 tokens as 2
    lm = load_language_model(language_model(family)).eval()
    words = lm.get_input_embeddings()(torch.tensor([[tokenizer.start_id, *prompt, *ids[1:]]]))
    expected = lm(inputs_embeds=torch.cat([prefix, words], dim=1), use_cache=False).logits
    found = model(PICTURES[:1], torch.tensor([ids]))
    torch.testing.assert_close(found, expected[:, -len(ids) :, : len(tokenizer)], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("prompt", ["a photo of", ""])
def test_cross_attention_sees_the_picture_and_the_text_is_prompt_and_caption(prompt):
    model, tokenizer = made("gpt2-cross", PROMPT=prompt)
    ids = tokenizer.encode(CAPTIONS[0])[:-1]
    words = torch.tensor([[tokenizer.start_id, *tokenizer.encode(prompt)[1:-1], *ids[1:]]])
    seen = model.encode(PICTURES[:1])
    expected = model.decoder.lm(input_ids=words, encoder_hidden_states=seen, use_cache=False).logits
    found = model(PICTURES[:1], torch.tensor([ids]))
    torch.testing.assert_close(found, expected[:, -len(ids) :, : len(tokenizer)], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found, model(PICTURES[1:2], torch.tensor([ids])), atol=1e-5)


@pytest.mark.parametrize("family", KINDS)
def test_one_token_at_a_time_gives_the_logits_of_the_whole_caption(family):
    model, tokenizer = made(family)
    tokens = padded(tokenizer, CAPTIONS[:3])[0][:, :-1]
    cache, steps = model.start(model.encode(PICTURES)), []
    for t in range(tokens.shape[1]):
        logits, cache = model.decode(tokens[:, t : t + 1], cache)
        steps.append(logits)
    torch.testing.assert_close(torch.cat(steps, dim=1), model(PICTURES, tokens), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", KINDS)
def test_several_captions_of_a_picture_are_each_as_alone(family):
    model, tokenizer = made(family)
    tokens, mask = padded(tokenizer, CAPTIONS[:6])
    index = torch.tensor([1, 0, 1, 2, 1, 0])
    together = model(PICTURES, tokens[:, :-1], index, mask)
    alone = [
        model(PICTURES[i, None], row[:-1][None, : kept.sum()])[0] for i, row, kept in zip(index.tolist(), tokens, mask)
    ]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-5)
    side_by_side = model(PICTURES, tokens[:, :-1], None, mask)
    dealt = model(PICTURES, tokens[:, :-1], torch.tensor([0, 0, 1, 1, 2, 2]), mask)
    torch.testing.assert_close(side_by_side, dealt)


@pytest.mark.parametrize("family", KINDS)
@pytest.mark.parametrize("options", [{}, {"beam_size": 3}, {"temperature": 1.0, "num_captions": 3, "seed": 1}], ids=str)
def test_a_picture_is_captioned_as_alone(family, options):
    """Pictures leave the batch, beams change rows, and the picture is read once for all of its beams."""
    model, tokenizer = made(family)
    options = DecodingOptions(12, **options)
    image_tokens = model.encode(PICTURES)
    together = generate(model, image_tokens, tokenizer, options)
    alone = [generate(model, one[None], tokenizer, options)[0] for one in image_tokens]
    assert [[c.tokens for c in row] for row in together] == [[c.tokens for c in row] for row in alone]


@pytest.mark.parametrize("family", KINDS)
def test_a_few_captions_can_be_learned_by_heart_and_end(family):
    model, tokenizer = made(family)
    pictures = torch.randn(8, 5, 16, generator=torch.Generator().manual_seed(1))  # as encoded
    captions = [
        f"a {size} {colour} {shape}"
        for size in ("small", "large")
        for colour in ("red", "blue")
        for shape in ("circle", "square")
    ]
    tokens, mask = padded(tokenizer, captions)
    assert (tokens[:, 1:][mask] == tokenizer.end_id).sum() == 8  # the end is learned, padding is not
    batch = {
        "images": pictures,
        "decoder_input_tokens": tokens[:, :-1],
        "target_tokens": tokens[:, 1:],
        "target_mask": mask,
    }
    groups = model.parameter_groups()
    optimizer = torch.optim.AdamW([p for group in groups for p in group.parameters], lr=1e-2)
    for _ in range(100):
        loss, count = CaptionLoss()(model.train(), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    found = generate(model, model.encode(pictures), tokenizer, DecodingOptions())
    assert [tokenizer.decode(row[0].tokens) for row in found] == captions
    assert all(row[0].finished for row in found)


@pytest.mark.parametrize("family", KINDS)
def test_adapters_alone_are_trained_and_can_be_merged(family):
    model, tokenizer = made(family, LORA_RANK=2)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    tokens, mask = padded(tokenizer, CAPTIONS[:3])
    optimizer = torch.optim.AdamW([p for group in model.parameter_groups() for p in group.parameters], lr=1e-2)
    for _ in range(3):
        loss = model.train()(PICTURES, tokens[:, :-1], None, mask).logsumexp(-1).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    of_decoder = {
        name
        for name, w in model.state_dict().items()
        if name.startswith("decoder.") and not torch.equal(w, before[name])
    }
    adapters = {name for name in before if "lora_" in name}
    drawn = {name for name in before if "cross" in name}  # cross-attention that the pretrained model has not
    assert of_decoder == adapters | drawn and adapters and not adapters & drawn
    assert not torch.equal(model.projection[1].weight, before["projection.1.weight"])
    with_adapters = model.eval()(PICTURES, tokens[:, :-1])
    model.decoder.merge()
    assert not [name for name in model.state_dict() if "lora_" in name or "base_layer" in name]
    torch.testing.assert_close(model(PICTURES, tokens[:, :-1]), with_adapters, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "trainable, expected", [("none", set()), (1, {"h", "ln_f"}), ("all", {"wte", "wpe", "h", "ln_f"})]
)
def test_what_of_the_language_model_trains(trainable, expected):
    model, _ = made("gpt2", DECODER_TRAINABLE=trainable)
    trained = {name for name, p in model.decoder.lm.transformer.named_parameters() if p.requires_grad}
    assert {name.split(".")[0] for name in trained} == expected
    assert trainable == "all" or not any(name.startswith("h.0") for name in trained)
    assert model.train().decoder.lm.transformer.h[0].training == (
        trainable == "all"
    )  # dropout of what is frozen is off
    grouped = [p for group in model.parameter_groups() for p in group.parameters]
    assert {id(p) for p in grouped} == {id(p) for p in model.parameters() if p.requires_grad}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("changes", [{}, {"DECODER_TRAINABLE": "none"}, {"LORA_RANK": 2}], ids=str)
def test_blocks_that_are_computed_twice_give_the_same_gradients(kind, changes):
    gradients, calls = [], []
    for checkpointing in (False, True):
        model, tokenizer = made(kind, GRADIENT_CHECKPOINTING=checkpointing, **changes)
        for dropout in (module for module in model.modules() if isinstance(module, torch.nn.Dropout)):
            dropout.p = 0.0
        inner = blocks_of(model.decoder.lm)[0].mlp
        inner.register_forward_pre_hook(lambda *_, made=checkpointing: calls.append(made))
        tokens, mask = padded(tokenizer, CAPTIONS[:6])
        model.train()(PICTURES, tokens[:, :-1], None, mask).logsumexp(-1).sum().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert calls == [False, False, True, True]  # picture, then captions; both at once, and again backwards
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-3, atol=1e-4)


def test_embeddings_are_not_decayed():
    model, _ = made("llama")
    decayed = {id(p) for group in model.parameter_groups() if group.decayed for p in group.parameters}
    lm = model.decoder.lm
    assert id(lm.get_input_embeddings().weight) not in decayed and id(lm.lm_head.weight) in decayed


def test_a_model_whose_tokens_see_those_after_them_is_refused(tmp_path):
    config = BertConfig(vocab_size=320, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    BertLMHeadModel(config).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="see those after them"):
        load_language_model(str(tmp_path))


def test_a_model_without_keys_and_values_is_refused(tmp_path):
    MambaConfig(vocab_size=320, hidden_size=16, num_hidden_layers=1, state_size=4).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="keeps no keys and values"):
        read_language_config(str(tmp_path))
