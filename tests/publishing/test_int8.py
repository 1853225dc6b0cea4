"""8-bit arithmetic of exported parts: what is rounded, how far numbers move, and where it is left out."""

import re
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from tiny import tiny_settings

import export
from captioner import exported_parts
from captioner.exported_parts import may_overflow
from networks.language_model import LanguageModelDecoder
from publishing import export_checks, int8_arithmetic
from publishing.export_captioner import ExportableCaptioner
from publishing.int8_arithmetic import distance, in_int8, with_int8_arithmetic
from publishing.int8_plan import Seen, plan_int8, run_model, watched
from publishing.int8_rounding import patches, round_kernel, second_moments
from sources.pictures import Pictures

RANDOM = np.random.default_rng(0)
KERNELS = {"stem": (8, 3, 3, 3), "two": (8, 8, 1, 1), "three": (8, 8, 1, 1), "wide": (16, 8, 1, 1)}
KERNELS |= {"deep": (16, 1, 3, 3), "narrow": (8, 16, 1, 1), "last": (16, 8, 1, 1)}


def normal(*shape: int) -> np.ndarray:
    return RANDOM.normal(size=shape).astype(np.float32)


def model_of(nodes, inputs, outputs, weights):
    """An ONNX model; inputs and outputs are names, and of which type."""
    places = [[helper.make_tensor_value_info(*place, None) for place in side.items()] for side in (inputs, outputs)]
    tensors = [numpy_helper.from_array(np.asarray(values), name) for name, values in weights.items()]
    graph = helper.make_graph(nodes, "part", *places, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def convolution(name, read, written, **attributes):
    return helper.make_node("Conv", [read, name, f"{name}.bias"], [written], **attributes)


@pytest.fixture
def residual():
    """Three convolutions that stay float32, then a block with a depthwise one, ReLU6 and a sum, and one more."""
    weights = {name: normal(*shape) for name, shape in KERNELS.items()}
    weights |= {f"{name}.bias": normal(shape[0]) for name, shape in KERNELS.items()}
    nodes = [
        convolution("stem", "pixels", "a", pads=[1] * 4),
        convolution("two", "a", "b"),
        convolution("three", "b", "x"),
        convolution("wide", "x", "c"),
        helper.make_node("Clip", ["c", "zero", "six"], ["d"]),
        convolution("deep", "d", "e", group=16, pads=[1] * 4),
        helper.make_node("Relu", ["e"], ["f"]),
        convolution("narrow", "f", "g"),
        helper.make_node("Add", ["x", "g"], ["sum"]),
        convolution("last", "sum", "features"),  # read by nothing in 8 bits
    ]
    weights |= {"zero": np.float32(0), "six": np.float32(6)}
    return model_of(nodes, {"pixels": TensorProto.FLOAT}, {"features": TensorProto.FLOAT}, weights)


def seen_on(model, *arrays):
    """What is seen of one run."""
    seen = Seen(plan_int8(model.graph))
    watched(model, seen)(*arrays)
    return seen


def test_an_encoder_of_8_bits_moves_its_numbers_little_and_its_convolutions_are_whole(residual, tmp_path):
    pixels = normal(4, 3, 12, 12)
    smaller = with_int8_arithmetic(residual, seen_on(residual, pixels))
    assert distance(run_model(residual)(pixels), run_model(smaller)(pixels)) < 0.05
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    left_out = ["WeightBiasQuantization"]
    onnxruntime.InferenceSession(smaller.SerializeToString(), options, disabled_optimizers=left_out)
    operators = re.findall(rb"QLinearConv|QLinearAdd", (tmp_path / "optimized.onnx").read_bytes())
    assert operators.count(b"QLinearConv") == 3 and b"QLinearAdd" in operators


def test_the_first_convolutions_stay_as_they_are(residual):
    smaller = with_int8_arithmetic(residual, seen_on(residual, normal(1, 3, 8, 8)))
    stored = {tensor.name: tensor.data_type for tensor in smaller.graph.initializer}
    assert {name for name in KERNELS if stored.get(name) == TensorProto.FLOAT} == {"stem", "two", "three"}


def test_a_tied_embedding_is_stored_once_in_8_bits_for_reading_and_for_logits():
    table = normal(64, 32)
    nodes = [
        helper.make_node("Gather", ["table", "tokens"], ["read"]),
        helper.make_node("Transpose", ["table"], ["turned"], perm=[1, 0]),
        helper.make_node("Gelu", ["read"], ["state"]),
        helper.make_node("MatMul", ["state", "turned"], ["logits"]),
    ]
    model = model_of(nodes, {"tokens": TensorProto.INT64}, {"logits": TensorProto.FLOAT}, {"table": table})
    tokens = np.arange(64).reshape(8, 8)
    smaller = with_int8_arithmetic(model, seen_on(model, tokens))
    assert distance(run_model(model)(tokens), run_model(smaller)(tokens)) < 0.02
    assert smaller.ByteSize() < 0.5 * model.ByteSize()


@pytest.fixture
def linear():
    """The last layer of a classifier."""
    nodes = [
        helper.make_node("ReduceMean", ["images", "axes"], ["pooled"], keepdims=0),
        helper.make_node("Gemm", ["pooled", "head", "head.bias"], ["logits"], transB=1),
    ]
    weights = {"head": normal(40, 32), "head.bias": normal(40), "axes": np.array([2, 3])}
    return model_of(nodes, {"images": TensorProto.FLOAT}, {"logits": TensorProto.FLOAT}, weights)


def test_a_linear_layer_multiplies_8_bit_numbers_and_adds_its_bias(linear):
    images = normal(8, 32, 4, 4)
    smaller = with_int8_arithmetic(linear, seen_on(linear, images))
    assert distance(run_model(linear)(images), run_model(smaller)(images)) < 0.02
    assert {tensor.name for tensor in smaller.graph.initializer if tensor.data_type == TensorProto.INT8} == {
        "head.int8"
    }


@pytest.mark.parametrize(
    "limit, arithmetic, said", [(0.25, ["model"], r"\d%\n"), (0.0, [], r"too far, its weights alone")]
)
def test_arithmetic_that_moves_numbers_too_far_stays_float32_and_says_so(
    linear, monkeypatch, capsys, limit, arithmetic, said
):
    monkeypatch.setattr(int8_arithmetic, "MOVED", limit)
    batches = [normal(4, 32, 4, 4) for _ in range(4)]
    smaller, eight_bit = in_int8({"model": linear}, batches, lambda parts, pixels: parts["model"](pixels))
    assert eight_bit == arithmetic and re.search(
        rf"8-bit model     its numbers move by .*{said}", capsys.readouterr().out
    )
    quantized = {node.op_type for node in smaller["model"].graph.node}
    assert ("QuantizeLinear" in quantized) == bool(arithmetic) and "DequantizeLinear" in quantized


@pytest.mark.parametrize("groups, stride, pads", [(1, 1, [0] * 4), (4, 2, [1, 0, 1, 2]), (2, 1, [1] * 4)])
def test_moments_tell_the_size_of_what_a_convolution_gives(groups, stride, pads):
    inputs, kernel = normal(2, 4, 9, 8), normal(8, 4 // groups, 3, 3)
    attributes = {"group": groups, "strides": [stride] * 2, "pads": pads}
    seen = second_moments(patches(convolution("kernel", "x", "y", **attributes), inputs, kernel.shape))
    top, left, bottom, right = pads
    padded = torch.nn.functional.pad(torch.from_numpy(inputs), (left, right, top, bottom))
    outputs = torch.nn.functional.conv2d(padded, torch.from_numpy(kernel), stride=stride, groups=groups)
    rows = kernel.reshape(groups, -1, seen.shape[1])
    found = np.einsum("goi,gij,goj->go", rows, seen, rows).reshape(-1)
    assert found == pytest.approx(outputs.square().sum((0, 2, 3)).numpy(), rel=1e-3)


@pytest.mark.parametrize("shape", [(6, 1, 3, 3), (6, 90, 1, 1)], ids=["depthwise", "blocks"])
def test_rounding_changes_what_a_kernel_gives_less_than_the_nearest_numbers_do(shape):
    """Inputs have a mean, as those after an activation."""
    groups, width = (6, 9) if shape[1] == 1 else (1, 90)
    kernel, inputs = normal(*shape), 3 + normal(groups, width, 500)
    scale = np.abs(kernel).max((1, 2, 3)) / 127

    def error(whole: np.ndarray) -> float:
        change = (kernel - whole * scale[:, None, None, None]).reshape(groups, -1, width)
        return float(np.square(change @ inputs).mean())

    nearest = np.round(kernel / scale[:, None, None, None])
    rounded = round_kernel(kernel, second_moments(inputs), scale)
    assert rounded.dtype == np.int8 and error(rounded) < 0.6 * error(nearest)


def captioner_with(decoder) -> ExportableCaptioner:
    model = SimpleNamespace(decoder=decoder)
    return ExportableCaptioner(SimpleNamespace(model=model, settings=tiny_settings()))


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """20 pictures in a folder, and no prepared data."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for number in range(20):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(tmp_path / "photos" / f"{number}.png")
    return str(tmp_path / "photos")


def test_calibration_is_on_training_pictures_else_on_those_given(photos, capsys, monkeypatch):
    assert len(export.calibration(captioner_with(None), photos)) == 20
    assert capsys.readouterr().out == f"int8            calibrated on 20 pictures ({photos})\n"
    train = Pictures("train", [*range(30)], [[]] * 30, [])
    monkeypatch.setattr(export_checks, "pictures_of", lambda split, *_: train if split == "train" else None)
    assert export.calibration(captioner_with(None), photos) == train.paths
    assert capsys.readouterr().out == "int8            calibrated on 30 pictures (train)\n"


@pytest.mark.parametrize("decoder", [None, LanguageModelDecoder.__new__(LanguageModelDecoder)])
def test_where_weights_alone_become_int8_one_line_says_why(photos, capsys, monkeypatch, decoder):
    monkeypatch.setattr(export_checks, "FEWEST", 21)
    assert export.calibration(captioner_with(decoder), photos) == []
    why = "neither" if decoder is None else "language model"
    assert re.fullmatch(rf"int8            weights alone.*{why}.*\n", capsys.readouterr().out)


@pytest.mark.parametrize("machine, flags, slower", [("x86_64", "avx2", True), ("AMD64", "avx_vnni", False)])
def test_sums_may_overflow_on_x86_before_vnni_alone(machine, flags, slower, tmp_path, monkeypatch):
    (tmp_path / "cpuinfo").write_text(f"flags : sse {flags}\n")
    monkeypatch.setattr(exported_parts, "CPU_FLAGS", tmp_path / "cpuinfo")
    monkeypatch.setattr(exported_parts.platform, "machine", lambda: machine)
    assert may_overflow() == slower
    monkeypatch.setattr(exported_parts.platform, "machine", lambda: "aarch64")
    assert not may_overflow()
