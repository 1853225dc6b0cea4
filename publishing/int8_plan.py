"""What of an ONNX part is computed in 8 bits, and what is seen of it on pictures. For export.py.

plan = plan_int8(model.graph)
seen = Seen(plan)
part = watched(model, seen)     # a part of an export that keeps what it sees
seen.low, seen.high, seen.moments
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper

from captioner.exported_parts import Arrays, PartFunction, open_session, run_session
from publishing.int8_rounding import attributes, patches, second_moments
from publishing.int8_weights import SMALL

# Convolutions that stay float32, in the graph's order: the first three of an EfficientNet-Lite2 made about half of the
# error of all 64, and take no longer in float32
FIRST = 3
ROUNDED_WELL = 2048  # a kernel of more weights an output is rounded to the nearest: moments grow with the square
ACTIVATIONS = ("Clip", "Relu")  # onnxruntime makes them part of an 8-bit convolution


@dataclass
class Plan:
    """Nodes by the name of their output, and the tensors that are 8-bit numbers between them."""

    convolutions: dict[str, NodeProto]
    kernels: dict[str, tuple[int, ...]]  # shapes, of the convolutions that are rounded well
    products: dict[str, str]  # of matrices: the name of the weight
    additions: set[str]
    embeddings: set[str]  # the names of the weights
    tensors: list[str]


def plan_int8(graph: GraphProto) -> Plan:
    plan, tensors = Plan({}, {}, {}, set(), set(), []), dict[str, None]()
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    matrices = {name for name, shape in shapes.items() if len(shape) == 2 and np.prod(shape) >= SMALL}
    transposed = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Transpose"}
    given = {place.name for place in (*graph.input, *graph.output)}
    first = [node.output[0] for node in graph.node if node.op_type == "Conv"][:FIRST]
    for node in graph.node:
        inputs, output = node.input, node.output[0]
        if node.op_type == "Conv" and output not in first and inputs[0] not in given and fits_8_bits(node, shapes):
            plan.convolutions[output], shape = node, shapes[inputs[1]]
            if np.prod(shape[1:]) <= ROUNDED_WELL:
                plan.kernels[output] = shape
            tensors |= dict.fromkeys((inputs[0], after_activation(graph, node)))
        elif (node.op_type == "MatMul" or is_linear(node)) and inputs[0] not in given:
            weight = transposed.get(inputs[1], inputs[1])
            if weight in matrices:
                plan.products[output] = weight
                tensors[inputs[0]] = None
        elif node.op_type == "Add" and all(name in tensors for name in inputs):
            plan.additions.add(output)
            tensors[after_activation(graph, node)] = None
        elif node.op_type == "Gather" and inputs[0] in matrices and not attributes(node).get("axis"):
            plan.embeddings.add(inputs[0])
    plan.tensors = [name for name in tensors if name not in given]
    return plan


def is_linear(node: NodeProto) -> bool:
    """Inputs times a matrix whose rows are outputs, and a bias: what the last layer of a classifier is."""
    given = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0} | attributes(node)
    plain = given["alpha"] == given["beta"] == given["transB"] == 1 and not given["transA"]
    return node.op_type == "Gemm" and plain and len(node.input) == 3


def fits_8_bits(convolution: NodeProto, shapes: dict[str, tuple[int, ...]]) -> bool:
    """Of pictures, with weights that are known and nothing but padding and strides."""
    given = attributes(convolution)
    known = all(name in shapes for name in convolution.input[1:]) and len(shapes[convolution.input[1]]) == 4
    return known and set(given.get("dilations", [1])) == {1} and given.get("auto_pad", b"NOTSET") == b"NOTSET"


def after_activation(graph: GraphProto, node: NodeProto) -> str:
    """The output of the activation that alone reads what the node gives, or that itself."""
    readers = [reader for reader in graph.node if node.output[0] in reader.input]
    alone = len(readers) == 1 and readers[0].op_type in ACTIVATIONS
    return readers[0].output[0] if alone else node.output[0]


class Seen:
    """The range of each tensor of a plan, and the moments of what each kernel is multiplied with."""

    def __init__(self, plan: Plan):
        self.plan = plan
        self.low: dict[str, float] = dict.fromkeys(plan.tensors, 0.0)  # 0 is always a whole number
        self.high: dict[str, float] = dict.fromkeys(plan.tensors, 0.0)
        self.moments: dict[str, np.ndarray] = {}

    def look(self, arrays: Iterable[np.ndarray]) -> None:
        """At the plan's tensors."""
        found = dict(zip(self.plan.tensors, arrays, strict=True))
        for name, array in found.items():
            self.low[name] = min(self.low[name], float(array.min(initial=0)))
            self.high[name] = max(self.high[name], float(array.max(initial=0)))
        for output, shape in self.plan.kernels.items():
            node = self.plan.convolutions[output]
            more = second_moments(patches(node, found[node.input[0]], shape))
            self.moments[output] = self.moments.get(output, 0) + more


def watched(model: ModelProto, seen: Seen) -> PartFunction:
    """The part, which has `seen` look at what it computes."""
    outputs = len(model.graph.output)
    inner = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in seen.plan.tensors]
    model.graph.output.extend(inner)
    part = run_model(model)
    del model.graph.output[outputs:]

    def run(*arrays: np.ndarray) -> Arrays:
        found = part(*arrays)
        seen.look(found[outputs:])
        return found[:outputs]

    return run


def run_model(model: ModelProto) -> PartFunction:
    return partial(run_session, open_session(model.SerializeToString(), eight_bit=True))
