"""Captioning speed: our decoding beside transformers' generate(), encoder included, on the CPU.

    python -m benchmarks.captioning --encoder FOLDER --pictures FOLDER
    python -m benchmarks.captioning --encoder FOLDER --pictures FOLDER --profile        # and what bounds ours

Both have the same encoder with the same weights and a random decoder of the same sizes, so that nothing is said of
what they say. Ours is made fast as inference.py does it, the peer's weights and pixels are cast. Each caption has
exactly --length tokens: </s> is forbidden, and the search stops there, so the work is equal. Rows: all from prepared
pixels, all from picture files, and the parts of it. The text is not decoded from the tokens.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoImageProcessor
from transformers.modeling_outputs import BaseModelOutput

from basics.devices import autocast
from basics.errors import UserError, run_script
from basics.settings import load_settings
from basics.timing import in_turn, rates
from benchmarks.peer import make_peer, read_pixels
from benchmarks.side_by_side import Row, add_model_flags, command, compare, make_parser, set_up, top_operators
from model import ImageToTextModel
from networks.attention import measure_attention
from networks.decoding_options import DecodingOptions
from networks.encoder import example_pixels, prepare_pixels, token_shape
from networks.encoders import load_encoder
from networks.fast import make_fast
from networks.search import generate
from sources.images import find_pictures, load_image

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
BEAMS = {"greedy": 1, "beam 5": 5}
Work = Callable[[], object]


@dataclass(frozen=True)
class Vocabulary:
    """What both sides need of a tokenizer."""

    size: int
    pad_id: int = 0
    start_id: int = 1
    end_id: int = 2

    def __len__(self) -> int:
        return self.size


class Endless(ImageToTextModel):
    """Our model, which never says </s>."""

    end_id: int

    def decode(self, tokens, cache):
        logits, cache = super().decode(tokens, cache)
        logits[..., self.end_id] = float("-inf")
        return logits, cache


class Ours:
    def __init__(self, arguments: argparse.Namespace, vocabulary: Vocabulary):
        settings = load_settings(ENCODER_MODEL_NAME=arguments.encoder, ENCODER_TRAINABLE="none")
        encoder, self.image_processor = load_encoder(settings)
        self.model = Endless(
            encoder,
            token_shape(encoder, self.image_processor)[1],
            decoder_vocab_size=len(vocabulary),
            decoder_embed_dim=arguments.width,
            decoder_heads=arguments.heads,
            decoder_layers=arguments.layers,
            decoder_ff_dim=4 * arguments.width,
            decoder_max_seq_len=arguments.length + 1,
            decoder_dropout=0.0,
            decoder_pad_idx=vocabulary.pad_id,
        ).eval()
        self.model.end_id = vocabulary.end_id
        self.vocabulary, self.length = vocabulary, arguments.length

    def use(self, dtype: torch.dtype) -> None:
        """As inference.py does with a captioner."""
        pixels, encoder = example_pixels(self.image_processor), self.model.encoder
        encoder.attention = measure_attention(encoder, pixels, dtype)
        make_fast(self.model, dtype, lambda: self.logits(pixels))
        self.dtype = dtype

    def logits(self, pixels: Tensor) -> Tensor:
        """Of the first token: the decoder's own, which are finite."""
        cache = self.model.start(self.model.encode(pixels))
        return self.model.decoder.decode(torch.ones(1, 1, dtype=torch.long), cache)[0]

    def read(self, paths: list[Path]) -> Tensor:
        return prepare_pixels(self.image_processor, [load_image(path) for path in paths])

    def encode(self, pixels: Tensor) -> Tensor:
        with autocast(pixels.device, self.dtype):
            return self.model.encode(pixels)

    def caption(self, image_tokens: Tensor, beam: int) -> list[list[int]]:
        options = DecodingOptions(max_seq_len=self.length + 1, beam_size=beam)  # <s> is one of them
        with autocast(image_tokens.device, self.dtype):
            captions = generate(self.model, image_tokens, self.vocabulary, options)
        return [row[0].tokens for row in captions]


class Peer:
    def __init__(self, arguments: argparse.Namespace, vocabulary: Vocabulary):
        self.model = make_peer(
            arguments.encoder,
            vocabulary,
            width=arguments.width,
            layers=arguments.layers,
            heads=arguments.heads,
            max_seq_len=arguments.length + 1,
        ).eval()
        self.image_processor, self.length = AutoImageProcessor.from_pretrained(arguments.encoder), arguments.length

    def use(self, dtype: torch.dtype) -> None:
        self.model.to(dtype)

    def read(self, paths: list[Path]) -> Tensor:
        return read_pixels(self.image_processor, paths)

    def encode(self, pixels: Tensor) -> Tensor:
        return self.model.encoder(pixel_values=pixels).last_hidden_state

    def caption(self, image_tokens: Tensor, beam: int) -> list[list[int]]:
        tokens = self.model.generate(
            encoder_outputs=BaseModelOutput(image_tokens),
            num_beams=beam,
            do_sample=False,
            min_new_tokens=self.length,
            max_new_tokens=self.length,
        )
        return tokens[:, 1:].tolist()


class Works:
    """The measured pieces of one side, all of a batch."""

    def __init__(self, side: Ours | Peer, paths: list[Path], dtype: torch.dtype):
        self.side, self.paths, self.dtype = side, paths, dtype
        side.use(dtype)
        self.pixels = self.read()
        self.image_tokens = self.encode()

    def read(self) -> Tensor:
        return self.side.read(self.paths).to(self.dtype)

    @torch.inference_mode()
    def encode(self) -> Tensor:
        return self.side.encode(self.pixels)

    @torch.inference_mode()
    def decode(self, beam: int) -> None:
        self.check(self.side.caption(self.image_tokens, beam))

    @torch.inference_mode()
    def pixels_to_captions(self, beam: int) -> None:
        self.check(self.side.caption(self.side.encode(self.pixels), beam))

    @torch.inference_mode()
    def files_to_captions(self, beam: int) -> None:
        self.check(self.side.caption(self.side.encode(self.read()), beam))

    def check(self, captions: list[list[int]]) -> None:
        lengths = {len(tokens) for tokens in captions}
        assert lengths == {self.side.length} and len(captions) == len(self.paths), (lengths, len(captions))

    def pieces(self) -> dict[str, Work]:
        works: dict[str, Work] = {"reading and preprocessing": self.read, "encoder": self.encode}
        for name, beam in BEAMS.items():
            works[f"{name}, decoder"] = partial(self.decode, beam)
            works[f"{name}, from pixels"] = partial(self.pixels_to_captions, beam)
            works[f"{name}, from files"] = partial(self.files_to_captions, beam)
        return works


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    parser = make_parser("captioning", __doc__, repeats=5)
    add_model_flags(parser)
    parser.add_argument("--pictures", required=True, help="folder of pictures, of which the first are taken")
    parser.add_argument("--length", type=int, default=12, help="tokens of every caption")
    parser.add_argument("--vocabulary", type=int, default=4000, help="tokens")
    parser.add_argument("--precision", nargs="+", choices=list(DTYPES), default=list(DTYPES))
    return parser.parse_args(argv)


def main(argv: list[str]) -> None:
    arguments = parse_arguments(argv)
    paths = find_pictures([arguments.pictures])[: arguments.batch_size]
    if len(paths) < arguments.batch_size:
        raise UserError(f"{arguments.pictures} holds {len(paths)} pictures, --batch-size is {arguments.batch_size}")
    torch.manual_seed(0)
    vocabulary, rows, notes = Vocabulary(arguments.vocabulary), [], []
    with set_up():
        for precision in arguments.precision:
            sides = {"ours": Ours(arguments, vocabulary), "peer": Peer(arguments, vocabulary)}
            works = {name: Works(side, paths, DTYPES[precision]).pieces() for name, side in sides.items()}
            for piece, ours in works["ours"].items():
                seconds = in_turn({"ours": ours, "peer": works["peer"][piece]}, arguments.repeats)
                speeds = {name: rates(len(paths), values) for name, values in seconds.items()}
                rows.append(Row(f"{precision} {piece}", "images/s", **speeds))
                if arguments.profile and "from pixels" in piece:
                    notes.append(top_operators(f"{precision} {piece}", ours))
    compare(rows, command("captioning", argv), arguments.output, notes)


if __name__ == "__main__":
    run_script(main)
