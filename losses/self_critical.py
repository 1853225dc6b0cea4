"""Self-critical sequence training: the model is rewarded for the CIDEr-D of captions it samples itself.

    criterion = SelfCriticalLoss(model, references, tokenizer, settings)
    loss, count = criterion(model, batch)

Rennie et al. 2017 (arXiv 1612.00563); the baseline of a sample is the mean reward of the picture's other samples (Luo
2020, arXiv 2003.09971) or, SCST_BASELINE "greedy", the reward of the greedy caption. SCST_SAMPLING "beam" takes the
captions of a beam search for samples (Cornia et al. 2020, arXiv 1912.08226). Document frequencies are those of the
training references, so the reward never sees another split.
"""

import torch
from torch import Tensor, nn

from basics.devices import Batch
from basics.settings import Settings
from losses.criterion import targets_of_images
from model import ImageToTextModel
from networks.caption import Caption
from networks.decoding_options import DecodingOptions
from networks.search import generate
from scoring.cider_d import CiderD
from scoring.penn_treebank import words
from tokenizer import Tokenizer


class SelfCriticalLoss:
    """A Criterion: its value is minus the mean reward, its gradient REINFORCE's."""

    name = "negative_reward"

    def __init__(self, model: ImageToTextModel, references: list[list[str]], tokenizer: Tokenizer, settings: Settings):
        self.cider = CiderD([[words(reference) for reference in row] for row in references])
        self.model, self.tokenizer, self.greedy = model, tokenizer, settings.SCST_BASELINE == "greedy"
        self.num_samples = settings.SCST_SAMPLES
        self.alone = DecodingOptions(settings.MAX_SEQ_LEN)
        how = {"beam_size": self.num_samples} if settings.SCST_SAMPLING == "beam" else {"temperature": 1.0}
        self.several = DecodingOptions(settings.MAX_SEQ_LEN, num_captions=self.num_samples, **how)

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, int]:
        """batch of dataset.collate_fn -> (each image's loss times its captions' targets, summed, and their number)."""
        numbers = batch["image_numbers"].tolist()
        with torch.no_grad(), self.model.gathered():
            samples, rewards, baseline = self.explore(batch["images"], numbers)
        advantage = rewards - baseline  # (U, K)
        tokens, mask = self.pad(samples, batch["images"].device)
        logits = model(batch["images"], tokens[:, :-1], None, mask)  # (N, V)
        log_probs = logits.float().log_softmax(-1).gather(1, tokens[:, 1:][mask][:, None])[:, 0]  # (N,)
        each = log_probs.new_zeros(mask.shape).masked_scatter(mask, log_probs)  # (U * K, T)
        sampled = mask.view(len(rewards), -1).sum(1)  # tokens of each image's samples
        losses = -(advantage.to(each.device) * each.sum(1).view(advantage.shape)).sum(1) / sampled  # (U,)
        values = losses + (-rewards.mean(1).to(losses.device) - losses).detach()
        return (targets_of_images(batch) * values).sum(), self.count(batch)

    def count(self, batch: Batch) -> int:
        return int(batch["target_mask"].sum())

    def record(self, mean: float) -> dict[str, float | None]:
        """The mean over an epoch's tokens as its record calls it: no loss, but a reward, CIDEr-D from 0 to 10."""
        return {"train_loss": None, "train_reward": -mean}

    def explore(self, images: Tensor, numbers: list[int]) -> tuple[list[Caption], Tensor, Tensor]:
        """Samples of each image, their rewards (U, K), and the baseline (U, K) or (U, 1); with dropout off."""
        model = self.model
        was_training = model.training
        model.eval()
        image_tokens = model.encode(images)
        samples = generate(model, image_tokens, self.tokenizer, self.several)
        rewards = self.reward(samples, numbers)
        if self.greedy:
            baseline = self.reward(generate(model, image_tokens, self.tokenizer, self.alone), numbers)
        else:
            baseline = (rewards.sum(1, keepdim=True) - rewards) / (self.num_samples - 1)
        model.train(was_training)
        return [caption for row in samples for caption in row], rewards, baseline

    def reward(self, captions: list[list[Caption]], numbers: list[int]) -> Tensor:
        """CIDEr-D (U, K) of Captions; one that never ended gets nothing, so that ending is learned too."""
        return torch.tensor(
            [
                [self.cider.score(words(self.tokenizer.decode(c.tokens)), number) if c.finished else 0.0 for c in row]
                for row, number in zip(captions, numbers)
            ]
        )

    def pad(self, samples: list[Caption], device: torch.device) -> tuple[Tensor, Tensor]:
        """Captions -> tokens (B, T + 1) with <s> and </s>, and the mask (B, T) of the targets."""
        rows = [[self.tokenizer.start_id, *c.tokens, *[self.tokenizer.end_id] * c.finished] for c in samples]
        tokens = torch.full((len(rows), max(map(len, rows))), self.tokenizer.pad_id)
        for i, row in enumerate(rows):
            tokens[i, : len(row)] = torch.tensor(row)
        lengths = torch.tensor([len(row) - 1 for row in rows])
        mask = torch.arange(tokens.shape[1] - 1) < lengths[:, None]
        return tokens.to(device), mask.to(device)
