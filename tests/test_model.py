"""The model: what a token may see, what is tied, what it learns."""

import pytest
import torch
from tiny import tiny_model, tiny_tokenizer

from losses.cross_entropy import CaptionLoss
from networks.packing import Packing
from networks.transformer_decoder import Attention, Dropout


def inputs(images: int = 2, length: int = 6):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(images, 3, 32, 32, generator=generator), torch.randint(
        4, 260, (images, length), generator=generator
    )


def test_a_token_never_sees_the_ones_after_it():
    model, _ = tiny_model()
    images, tokens = inputs()
    changed = tokens.clone()
    changed[:, 4:] = 5
    before, after = model(images, tokens), model(images, changed)
    assert torch.equal(before[:, :4], after[:, :4]) and not torch.equal(before[:, 4:], after[:, 4:])


def test_every_word_sees_every_image_token():
    model, _ = tiny_model()
    images, tokens = inputs(1)
    image_tokens = model.encode(images).detach().requires_grad_()
    logits, _ = model.decode(tokens, model.start(image_tokens))
    logits[:, 0].sum().backward()  # the very first word already
    assert (image_tokens.grad.abs().sum(-1) > 0).all()


def test_image_index_deals_images_to_captions():
    model, _ = tiny_model()
    images, tokens = inputs(2)
    index = torch.tensor([1, 0, 1])
    dealt = model(images, tokens[index], index)
    assert torch.allclose(dealt, model(images[index], tokens[index]), atol=1e-6)


def test_one_token_at_a_time_gives_the_logits_of_the_whole_caption():
    model, _ = tiny_model()
    images, tokens = inputs()
    cache, steps = model.start(model.encode(images)), []
    for t in range(tokens.shape[1]):
        logits, cache = model.decode(tokens[:, t : t + 1], cache)
        steps.append(logits)
    assert torch.allclose(torch.cat(steps, dim=1), model(images, tokens), atol=1e-5)


def test_the_output_is_tied_to_the_token_embeddings():
    model, _ = tiny_model()
    sizes = [tuple(p.shape) for p in model.parameters()]
    assert sizes.count((len(tiny_tokenizer()), 16)) == 1


def test_padding_changes_neither_loss_nor_gradient():
    model, _ = tiny_model()
    images, tokens = inputs(1)
    gradients = []
    for padding in (0, 4):
        model.zero_grad()
        mask = torch.arange(6 + padding)[None] < 6
        padded = torch.nn.functional.pad(tokens, (0, padding))
        batch = {
            "images": images,
            "image_index": torch.tensor([0]),
            "decoder_input_tokens": padded,
            "target_tokens": padded,
            "target_mask": mask,
        }
        loss, count = CaptionLoss()(model, batch)
        loss.backward()
        gradients.append([loss.detach(), *(p.grad for p in model.parameters() if p.grad is not None)])
        assert count == 6
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(*gradients))


def test_the_loss_is_the_summed_cross_entropy_with_label_smoothing():
    model, _ = tiny_model()
    images, tokens = inputs(2)
    batch = {
        "images": images,
        "image_index": torch.arange(2),
        "decoder_input_tokens": tokens,
        "target_tokens": tokens,
        "target_mask": torch.ones_like(tokens, dtype=torch.bool),
    }
    log_probs = model(images, tokens).log_softmax(-1)
    gold = log_probs.gather(2, tokens[:, :, None]).squeeze(2)
    for smoothing in (0.0, 0.1):
        expected = -((1 - smoothing) * gold + smoothing * log_probs.mean(-1)).sum()
        assert torch.allclose(CaptionLoss(smoothing)(model, batch)[0], expected, rtol=1e-5)


def test_one_batch_can_be_learned_by_heart():
    model, _ = tiny_model()
    images, _ = inputs(4)
    tokenizer = tiny_tokenizer()
    ids = torch.tensor([tokenizer.encode(c)[:6] for c in ("a small red circle", "there is a large blue square")] * 2)
    batch = {
        "images": images,
        "image_index": torch.arange(4),
        "decoder_input_tokens": ids[:, :-1],
        "target_tokens": ids[:, 1:],
        "target_mask": torch.ones(4, 5, dtype=torch.bool),
    }
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        loss, count = CaptionLoss()(model, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() / count < 0.05


@pytest.mark.parametrize("grouped", [True, False])
def test_packed_captions_get_the_logits_of_captions_apart(grouped):
    """Lengths differ within an image, so packing must neither mix captions nor move positions."""
    model, _ = tiny_model()
    torch.manual_seed(0)
    images, tokens = torch.randn(2, 3, 32, 32), torch.randint(4, len(tiny_tokenizer()), (6, 9))
    lengths = torch.tensor([2, 3, 5, 1, 7, 9])  # the first row, too, is shorter than the longest
    mask = torch.arange(9) < lengths[:, None]
    index = torch.tensor([0, 0, 0, 1, 1, 1] if grouped else [1, 0, 0, 1, 0, 1])
    expected = model(images, tokens, index)[mask]
    found = model(images, tokens, None if grouped else index, mask)
    assert torch.allclose(found, expected, atol=1e-5)


def test_a_batch_in_parts_has_the_gradient_of_the_whole():
    model, _ = tiny_model()
    torch.manual_seed(0)
    images, tokens = torch.randn(6, 3, 32, 32), torch.randint(4, len(tiny_tokenizer()), (12, 9))
    mask, index = torch.arange(9) < torch.randint(1, 10, (12, 1)), torch.randint(0, 6, (12,))
    gradients = []
    for parts in (1, 4):
        model.zero_grad()
        for rows in torch.arange(12).chunk(parts):
            batch = {
                "images": images,
                "image_index": index[rows],
                "decoder_input_tokens": tokens[rows],
                "target_tokens": tokens[rows],
                "target_mask": mask[rows],
            }
            CaptionLoss()(model, batch)[0].backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    assert (gradients[0] - gradients[1]).norm() < 1e-5 * gradients[0].norm()


def test_attention_in_matrix_products_is_torchs_own():
    attention = Attention(16, 2, dropout=0.0)
    x, allowed = torch.randn(3, 5, 16), torch.ones(5, 5).tril().bool()
    keys, values = attention.keys_values(x)
    queries = attention.split(attention.query(x))
    fused = torch.nn.functional.scaled_dot_product_attention(queries, keys, values, allowed)
    fused = attention.out(fused.transpose(1, 2).reshape(3, 5, 16))
    assert torch.allclose(attention(x, keys, values, allowed), fused, atol=1e-6)


def test_looking_at_image_tokens_is_attention_over_their_keys_and_values():
    attention = Attention(16, 2, dropout=0.0)
    torch.nn.init.normal_(attention.key_value.bias)
    x, image_tokens = torch.randn(6, 4, 16), torch.randn(3, 7, 16)  # two captions an image
    expected = attention(x, *attention.keys_values(image_tokens))
    assert torch.allclose(attention.look_at(x, image_tokens), expected, atol=1e-6)


def test_packed_sizes_are_a_handful_whatever_the_captions():
    sizes = set()
    for seed in range(40):
        lengths = torch.randint(1, 12, (160,), generator=torch.Generator().manual_seed(seed))
        packing = Packing(torch.arange(12) < lengths[:, None], images=32)
        sizes.add((packing.rows, packing.length))
    assert len(sizes) <= 4


def test_a_batch_without_targets_has_no_logits():
    model, _ = tiny_model()
    tokens, mask = torch.ones(2, 3, dtype=torch.long), torch.zeros(2, 3, dtype=torch.bool)
    assert model(torch.ones(1, 3, 32, 32), tokens, None, mask).shape == (0, model.decoder.vocab_size)


def test_dropout_drops_its_rate_and_keeps_the_mean():
    torch.manual_seed(0)
    dropout, x = Dropout(0.3), torch.ones(1001, 99, requires_grad=True)
    y = dropout(x)
    assert (y == 0).float().mean().item() == pytest.approx(0.3, abs=0.01)
    assert y.mean().item() == pytest.approx(1, abs=0.01)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())  # the same elements are dropped on the way back
    assert torch.equal(dropout.eval()(x), x)


def test_nearly_everything_can_be_dropped_but_not_all():
    assert Dropout(0.999)(torch.ones(10_000)).isfinite().all()


def test_cached_features_take_the_place_of_pictures():
    model, _ = tiny_model()
    images = torch.randn(2, 3, 32, 32)
    assert torch.allclose(model.encode(model.encoder(images)), model.encode(images))
