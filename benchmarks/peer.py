"""The peer: what a user of transformers takes today, VisionEncoderDecoderModel and Seq2SeqTrainer.

    model = make_peer("path/of/encoder", tokenizer, width=384, layers=3, heads=6, max_seq_len=40)
    trainer = make_trainer(model, PeerRows(dataset, encoder), steps=12, batch_size=32, precision="bf16", folder=folder)
    trainer.train()

A frozen encoder and a GPT-2 decoder with cross-attention from scratch, its feed-forward part four times the width, as
GPT-2 has it. One caption a row, whose picture is read and preprocessed each time; rows are padded to the longest of
the batch, which is kinder than the padding to a fixed length of most examples.
"""

from collections.abc import Callable
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from transformers import (
    AutoImageProcessor,
    AutoModel,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
    VisionEncoderDecoderModel,
)
from transformers.utils import is_accelerate_available

from basics.errors import UserError
from dataset import ImageTextDataset
from networks.encoder import quiet_transformers

IGNORED = -100  # label that has no loss


def make_peer(
    encoder: str, tokenizer, *, width: int, layers: int, heads: int, max_seq_len: int
) -> VisionEncoderDecoderModel:
    """In fp32; len(tokenizer) is the vocabulary, its pad_id, start_id and end_id are used."""
    ids = {"pad_token_id": tokenizer.pad_id, "bos_token_id": tokenizer.start_id, "eos_token_id": tokenizer.end_id}
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=max_seq_len,
        n_embd=width,
        n_layer=layers,
        n_head=heads,
        is_decoder=True,
        add_cross_attention=True,
        **ids,
    )
    with quiet_transformers():
        # the dtype is said because many checkpoints are stored in fp16 and would load so
        backbone = AutoModel.from_pretrained(encoder, dtype=torch.float32).requires_grad_(False)
        model = VisionEncoderDecoderModel(encoder=backbone, decoder=GPT2LMHeadModel(config))
    for name, value in {**ids, "decoder_start_token_id": tokenizer.start_id}.items():
        setattr(model.config, name, value)
        setattr(model.generation_config, name, value)
    return model


def read_pixels(image_processor, paths: list) -> Tensor:
    """Picture files through the peer's preprocessing, (U, 3, H, W)."""
    images = []
    for path in paths:
        with Image.open(path) as image:
            images.append(image.convert("RGB"))
    return image_processor(images=images, return_tensors="pt")["pixel_values"]


class PeerRows(Dataset):
    """The pairs of an ImageTextDataset as Trainer takes them."""

    def __init__(self, dataset: ImageTextDataset, encoder: str):
        self.dataset, self.image_processor = dataset, AutoImageProcessor.from_pretrained(encoder)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        path = self.dataset.pictures.path(self.dataset.image_numbers[index])
        labels = torch.tensor(self.dataset.tokens[index][1:], dtype=torch.long)  # the model itself puts <s> before them
        return {"pixel_values": read_pixels(self.image_processor, [path])[0], "labels": labels}


def collate(rows: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    labels = torch.nn.utils.rnn.pad_sequence([row["labels"] for row in rows], batch_first=True, padding_value=IGNORED)
    return {"pixel_values": torch.stack([row["pixel_values"] for row in rows]), "labels": labels}


def need_trainer() -> None:
    """Raises UserError where what Trainer needs is not installed."""
    if not is_accelerate_available():
        raise UserError("transformers' Trainer needs accelerate: pip install -r benchmarks/requirements.txt")


def make_trainer(
    model: PreTrainedModel,
    rows: Dataset,
    *,
    steps: int,
    batch_size: int,
    precision: str,
    folder: str,
    kind: str = "Seq2Seq",
    collate: Callable = collate,
    **more: Any,
):
    """A Trainer of that kind on the CPU that neither saves nor logs."""
    import transformers

    arguments = getattr(transformers, f"{kind}TrainingArguments")(
        output_dir=folder,
        use_cpu=True,
        max_steps=steps,
        per_device_train_batch_size=batch_size,
        bf16=precision == "bf16",
        fp16=False,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
    )
    make = getattr(transformers, f"{kind}Trainer")
    trainer = make(model=model, args=arguments, train_dataset=rows, data_collator=collate, **more)
    trainer.remove_callback(transformers.PrinterCallback)
    return trainer
