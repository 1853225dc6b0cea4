"""A captioner as three parts that need no Python of ours: encoder, prefill and step. For export.py.

    modules = make_modules(captioner.model)             # plain tensors in and out
    parts = trace(modules, pixels, max_seq_len)         # torch.export programs whose U, K and T are free
    write_models(to_onnx(parts), folder)                # .onnx
    write_programs(parts, folder)                       # .pt2

U pictures, K captions of each, side by side, T tokens so far; H heads, S image tokens, D head width, V vocabulary.
"""

import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from basics.errors import UserError, first_line
from captioner.exported import ONNX_PARTS, ExportedCaptioner
from captioner.exported_parts import PartFunction
from model import ImageToTextModel
from networks.language_model import LanguageModelDecoder
from networks.transformer_decoder import Attention, Cache, KeysValues, TransformerDecoder
from publishing.export_folder import PROGRAMS, SHARED_WEIGHTS, say_phase
from publishing.export_language_model import language_model_parts

if TYPE_CHECKING:  # onnx is for ONNX exports alone
    from onnx import ModelProto, TensorProto

SMALL = 1024  # weights of fewer bytes stay where they are


class EncoderPart(nn.Module):
    """Pixels (U, 3, height, width) -> what cross-attention reads: keys and values of each layer, (U, H, S, D)."""

    cross: Sequence[Attention]

    def __init__(self, model: ImageToTextModel, decoder: TransformerDecoder):
        super().__init__()
        self.encoder, self.projection = model.encoder, model.projection
        # not the decoder itself: a program stores all weights of its module, used or not
        cross = nn.ModuleList(layer.cross_attention for layer in decoder.layers)
        self.cross = cross  # type: ignore[assignment]  # ModuleList's annotations do not say what it holds

    def forward(self, pixels: Tensor) -> list[Tensor]:
        image_tokens = self.projection(self.encoder(pixels))
        return [tensor for attention in self.cross for tensor in attention.keys_values(image_tokens)]


class DecoderPart(nn.Module):
    """One token (U, K) of each caption -> logits (U, K, V), then the longer own keys and values, (U, K, H, T, D)."""

    def __init__(self, decoder: TransformerDecoder):
        super().__init__()
        self.decoder = decoder

    def read(self, tokens: Tensor, cross: list[Tensor], own: Sequence[KeysValues | None], length: int) -> list[Tensor]:
        U, K = tokens.shape
        logits, cache = self.decoder.decode(tokens.reshape(U * K, 1), Cache(pairs(cross), own, length))
        longer = [tensor for pair in cache.own if pair is not None for tensor in pair]
        return [tensor.unflatten(0, (U, K)) for tensor in (logits[:, 0], *longer)]


class PrefillPart(DecoderPart):
    """The first token of each caption: there are no own keys and values yet."""

    def forward(self, tokens: Tensor, cross: list[Tensor]) -> list[Tensor]:
        return self.read(tokens, cross, [None] * (len(cross) // 2), 0)


class StepPart(DecoderPart):
    """One more token of each caption, after own keys and values (U, K, H, T, D)."""

    def forward(self, tokens: Tensor, cross: list[Tensor], own: list[Tensor]) -> list[Tensor]:
        return self.read(tokens, cross, pairs([tensor.flatten(0, 1) for tensor in own]), own[0].shape[3])


def make_modules(model: ImageToTextModel) -> dict[str, nn.Module]:
    """Encoder, prefill and step. Raises UserError for a decoder whose keys and values nobody knows."""
    decoder: object = model.decoder
    if isinstance(decoder, TransformerDecoder):
        return {"encoder": EncoderPart(model, decoder), "prefill": PrefillPart(decoder), "step": StepPart(decoder)}
    if isinstance(decoder, LanguageModelDecoder):
        return language_model_parts(model, decoder)
    raise UserError(
        f"the decoder ({type(decoder).__name__}) cannot be exported; expected DECODER transformer or language_model"
    )


def pairs(tensors: list[Tensor]) -> list[KeysValues]:
    return list(zip(tensors[::2], tensors[1::2]))


@dataclass
class Part:
    """A traced part: the program, its sizes that are free, and what goes in and out by name."""

    program: ExportedProgram
    free: tuple
    inputs: list[str]
    outputs: list[str]


@torch.no_grad()
def trace(modules: dict[str, nn.Module], pixels: Tensor, max_seq_len: int) -> dict[str, Part]:
    """Every part as a program whose U, K and T are free; pixels (U, 3, height, width) are examples, U above 1."""
    U, K, T = Dim("pictures"), Dim("captions"), Dim("length", max=max_seq_len - 1)
    tokens = torch.ones(len(pixels), 3, dtype=torch.long)
    cross = modules["encoder"](pixels)
    own = [torch.cat([tensor] * 2, dim=3) for tensor in modules["prefill"](tokens, cross)[1:]]
    names = [f"{kind}_{layer}" for layer in range(len(cross) // 2) for kind in ("key", "value")]
    cross_names, own_names, new_names = ([f"{kind}_{name}" for name in names] for kind in ("cross", "own", "new"))
    free = {0: U}, {0: U, 1: K}, [{0: U}] * len(cross), [{0: U, 1: K, 3: T}] * len(own)
    cases = {
        "encoder": ((pixels,), free[:1], ["pixels"], cross_names),
        "prefill": ((tokens, cross), free[1:3], ["tokens", *cross_names], ["logits", *new_names]),
        "step": ((tokens, cross, own), free[1:], ["tokens", *cross_names, *own_names], ["logits", *new_names]),
    }
    parts = {}
    for name, (examples, sizes, inputs, outputs) in cases.items():
        say_phase("tracing", name)
        parts[name] = trace_part(modules[name], examples, sizes, inputs, outputs)
    return parts


def trace_part(module: nn.Module, examples: tuple, sizes: tuple, inputs: list[str], outputs: list[str]) -> Part:
    # strict: there len(tensor) stays a free size
    program = torch.export.export(module, examples, dynamic_shapes=sizes, strict=True)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # the paths of this machine
    return Part(program, sizes, inputs, outputs)


@contextmanager
def tracing(what: str) -> Iterator[None]:
    """Quiet; what fails within is one line: every encoder and every language model fails in its own way."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Exception as error:
        raise UserError(f"torch.export cannot follow this {what}: {first_line(error)} (--debug shows where)") from error


def to_onnx(parts: dict[str, Part]) -> dict[str, "ModelProto"]:
    return {name: as_model(name, part) for name, part in parts.items()}


def as_model(name: str, part: Part) -> "ModelProto":
    say_phase("to ONNX", name)
    program = torch.onnx.export(
        part.program,
        dynamo=True,
        input_names=part.inputs,
        output_names=part.outputs,
        dynamic_shapes=part.free,
        verbose=False,
    )
    assert program is not None  # as it always is with dynamo
    model = program.model_proto
    graph = model.graph
    for thing in (model, graph, *graph.node, *graph.input, *graph.output, *graph.initializer, *graph.value_info):
        del thing.metadata_props[:]  # the source lines of each node
    return model


def write_models(models: dict[str, "ModelProto"], folder: Path) -> None:
    """The decoder's weights go to one file that prefill.onnx and step.onnx both read; the models lose them.

    The encoder reads it too where a language model is a part of it.
    """
    with open(folder / SHARED_WEIGHTS, "wb") as file:
        places: dict[bytes, int] = {}  # content -> offset
        for name in ("prefill", "step", "encoder"):
            for tensor in models[name].graph.initializer:
                if len(tensor.raw_data) >= SMALL and (name != "encoder" or tensor.raw_data in places):
                    move_out(tensor, file, places)
    for path in ONNX_PARTS:
        model = models[Path(path).stem]
        (folder / path).write_bytes(model.SerializeToString(deterministic=True))


def move_out(tensor: "TensorProto", file: BinaryIO, places: dict[bytes, int]) -> None:
    """The tensor's content goes to the file, once for all that have the same."""
    from onnx.external_data_helper import set_external_data  # not installed for everyone

    content = tensor.raw_data
    if content not in places:
        file.write(bytes(-file.tell() % 64))  # aligned
        places[content] = file.tell()
        file.write(content)
    set_external_data(tensor, SHARED_WEIGHTS, places[content], len(content))
    tensor.ClearField("raw_data")


def write_programs(parts: dict[str, Part], folder: Path) -> None:
    for path in PROGRAMS:
        write_program(parts[Path(path).stem], folder / path)


def write_program(part: Part, path: Path) -> None:
    part.program.example_inputs = None  # they would be pickled
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of weights that are tied
        torch.export.save(part.program, path)


def open_programs(folder: Path) -> ExportedCaptioner:
    """The .pt2 files behind the same searches as the .onnx files."""
    layers = json.loads((folder / "config.json").read_text(encoding="utf-8"))["layers"]
    return ExportedCaptioner(folder, *(open_program(folder / path, 2 * layers) for path in PROGRAMS))


def open_program(path: Path, group: int) -> PartFunction:
    """A program over a flat list of arrays: the first alone, the others `group` a list.

    Its guards would refuse a single caption a picture, which it computes all the same: tests/scripts/test_export.py.
    """
    module = torch.export.load(path).module(check_guards=False)

    @torch.no_grad()
    def part(*arrays: np.ndarray) -> list[np.ndarray]:
        first, *rest = (torch.from_numpy(array) for array in arrays)
        lists = [rest[i : i + group] for i in range(0, len(rest), group)]
        return [tensor.numpy() for tensor in module(first, *lists)]

    return part
