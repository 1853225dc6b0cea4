"""Self-critical training: the value is the reward, the gradient raises it, the baseline is the other samples'."""

import pytest
import torch
from tiny import CAPTIONS, tiny_model, tiny_settings, tiny_tokenizer

from losses.self_critical import SelfCriticalLoss
from networks.caption import Caption
from networks.decoding_options import DecodingOptions
from networks.search import generate

REFERENCES = [["a small red circle"], ["a large blue square"], ["there is a large blue square"]]


def make(model=None, **settings):
    return SelfCriticalLoss(model, REFERENCES, tiny_tokenizer(), tiny_settings(MAX_SEQ_LEN=12, **settings))


def batch(images=3):
    torch.manual_seed(1)
    return {
        "images": torch.randn(images, 3, 32, 32),
        "image_numbers": torch.arange(images),
        "target_mask": torch.ones(images, 5, dtype=torch.bool),
    }


def caption(text, finished=True):
    return Caption(tiny_tokenizer().encode(text)[1:-1], 0.0, finished)


def test_the_reward_is_cider_with_the_training_references():
    rewards = make().reward([[caption("a small red circle"), caption("a large blue square")]], [0])
    assert rewards[0, 0] > 5 * rewards[0, 1]


def test_a_caption_that_never_ended_earns_nothing():
    rewards = make().reward([[caption("a small red circle", finished=False)]], [0])
    assert rewards.item() == 0


def test_the_value_is_minus_the_mean_reward_a_target_token(monkeypatch):
    model, _ = tiny_model(MAX_SEQ_LEN=12)
    criterion = make(model)
    monkeypatch.setattr(criterion, "reward", lambda captions, numbers: torch.tensor([[1.0, 2, 3, 4, 5]] * 3))
    loss, count = criterion(model, batch())
    assert count == 15 and loss.item() == pytest.approx(-3 * 15)


@pytest.mark.parametrize("baseline", ["samples", "greedy"])
@pytest.mark.parametrize("sampling", ["sample", "beam"])
def test_equal_rewards_leave_no_gradient(monkeypatch, baseline, sampling):
    model, _ = tiny_model(MAX_SEQ_LEN=12)
    criterion = make(model, SCST_BASELINE=baseline, SCST_SAMPLING=sampling)
    monkeypatch.setattr(criterion, "reward", lambda captions, numbers: torch.ones(3, len(captions[0])))
    loss, _ = criterion(model, batch())
    loss.backward()
    assert all(p.grad is None or p.grad.abs().max() == 0 for p in model.parameters())


def test_training_on_it_raises_the_reward():
    """A model that half knows the captions learns to prefer those its pictures are rewarded for."""
    torch.manual_seed(0)
    model, _ = tiny_model(MAX_SEQ_LEN=12)
    tokenizer = tiny_tokenizer()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    ids = torch.tensor([(tokenizer.encode(c) + [0] * 12)[:12] for c in CAPTIONS[:3]])
    pictures = batch()["images"]
    for _ in range(60):  # cross-entropy first: every caption for every picture
        optimizer.zero_grad()
        logits = model(pictures, ids[:, :-1].repeat(3, 1), torch.arange(3).repeat_interleave(3))
        torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), ids[:, 1:].repeat(3, 1).flatten(), ignore_index=0
        ).backward()
        optimizer.step()
    criterion, values = make(model, SCST_SAMPLES=8), []
    for _ in range(60):
        optimizer.zero_grad()
        loss, count = criterion(model, batch())
        (loss / count).backward()
        optimizer.step()
        values.append(-loss.item() / count)
    assert sum(values[-10:]) > 1.3 * sum(values[:10])
    best = generate(model.eval(), model.encode(pictures), tokenizer, DecodingOptions(12))
    assert tokenizer.decode(best[0][0].tokens) != tokenizer.decode(best[1][0].tokens)
