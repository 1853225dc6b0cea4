"""A small language model where none can be downloaded: GPT-2's shape, trained on captions' text alone, no pictures.

    python -m benchmarks.small_lm --data-dir data/flickr8k --output small-lm          # about a minute an epoch
    python -m benchmarks.small_lm --data-dir data/flickr8k --text book.txt more.txt --output small-lm

Text is the training captions of prepared data, a line each, and the lines of any text files; a byte-level BPE of it is
the vocabulary. The folder is in transformers' format: a DECODER_MODEL_NAME, or AutoModelForCausalLM.from_pretrained().
Prints perplexity a word piece on the validation captions, which nothing is chosen by.
"""

import argparse
import math
from collections.abc import Iterator
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from basics.devices import autocast, pick_device
from basics.errors import UserError, run_script
from basics.files import atomic_folder
from basics.progress_bar import progress_bar
from sources.prepared import is_prepared, read_prepared
from training.optimizer import learning_rate_factor

END = "<|endoftext|>"  # before each text and after the last, as GPT-2 was trained
BLOCK = 128  # tokens of a training row, several texts one after the other
BATCH = 32  # rows
WARMUP = 0.05  # share of all steps


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.small_lm", description=__doc__, allow_abbrev=False)
    parser.add_argument("--data-dir", type=Path, required=True, help="prepared data, such as data/flickr8k")
    parser.add_argument("--text", type=Path, nargs="*", default=[], help="text files, a text a line")
    parser.add_argument("--output", type=Path, required=True, help="folder to write, which must not be there yet")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--vocab-size", type=int, default=4000)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--heads", type=int, default=6)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--device")
    parser.add_argument("--bf16", action="store_true")
    return parser.parse_args(argv)


def read_texts(arguments: argparse.Namespace) -> tuple[list[str], list[str]]:
    """Texts to train on and captions to measure on. Raises UserError."""
    if not is_prepared(arguments.data_dir):
        raise UserError(f"{arguments.data_dir} holds no prepared data; run prepare_dataset.py first")
    data = read_prepared(arguments.data_dir)
    texts = data.captions_of("train")
    for path in arguments.text:
        texts += [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return texts, data.captions_of("val")


def train_vocabulary(texts: list[str], size: int) -> PreTrainedTokenizerFast:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=[END], initial_alphabet=alphabet, show_progress=False)
    bpe.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token=END, eos_token=END, unk_token=END)


def rows_of(texts: list[str], vocabulary: PreTrainedTokenizerFast) -> Tensor:
    """Texts one after the other, each after an END, cut into (rows, BLOCK)."""
    end = vocabulary.eos_token_id
    ids = [token for text in vocabulary(texts)["input_ids"] for token in (end, *text)]
    return torch.tensor(ids[: len(ids) // BLOCK * BLOCK]).view(-1, BLOCK)


def train_model(model: GPT2LMHeadModel, rows: Tensor, arguments: argparse.Namespace, dtype: torch.dtype) -> None:
    batches = math.ceil(len(rows) / BATCH)
    steps, device = arguments.epochs * batches, next(model.parameters()).device
    optimizer = torch.optim.AdamW(model.parameters(), arguments.learning_rate, betas=(0.9, 0.98), weight_decay=0.05)
    model.train()
    bar = progress_bar(total=steps, desc="training", unit=" steps")
    for step, batch in enumerate(shuffled(rows, arguments.epochs, arguments.seed)):
        factor = learning_rate_factor(step, int(WARMUP * steps), steps, "cosine")
        optimizer.param_groups[0]["lr"] = arguments.learning_rate * factor
        with autocast(device, dtype):
            loss = model(batch.to(device), labels=batch.to(device)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        bar.update()
        bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
    bar.close()


def shuffled(rows: Tensor, epochs: int, seed: int) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        yield from rows[torch.randperm(len(rows), generator=generator)].split(BATCH)


@torch.inference_mode()
def perplexity(model: GPT2LMHeadModel, rows: Tensor) -> float:
    model.eval()
    device = next(model.parameters()).device
    losses = [model(part.to(device), labels=part.to(device)).loss.item() for part in rows.split(BATCH)]
    return math.exp(sum(losses) / len(losses))


def main(argv: list[str]) -> None:
    arguments = parse_arguments(argv)
    if arguments.output.exists():
        raise UserError(f"--output {arguments.output} is there already; name another folder")
    texts, unseen = read_texts(arguments)
    vocabulary = train_vocabulary(texts, arguments.vocab_size)
    torch.manual_seed(arguments.seed)
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(vocabulary),
            n_positions=2 * BLOCK,
            n_embd=arguments.width,
            n_layer=arguments.layers,
            n_head=arguments.heads,
            bos_token_id=vocabulary.bos_token_id,
            eos_token_id=vocabulary.eos_token_id,
        )
    ).to(pick_device(arguments.device))
    print(f"model        {model.num_parameters():,} parameters, {len(vocabulary):,} tokens; {len(texts):,} texts")
    train_model(model, rows_of(texts, vocabulary), arguments, torch.bfloat16 if arguments.bf16 else torch.float32)
    print(
        f"perplexity   {perplexity(model, rows_of(unseen, vocabulary)):.2f} a token on {len(unseen):,} unseen captions"
    )
    with atomic_folder(arguments.output) as fresh:
        model.save_pretrained(fresh)
        vocabulary.save_pretrained(fresh)
    print(f"written      {arguments.output}")


if __name__ == "__main__":
    run_script(main)
