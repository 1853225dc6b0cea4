"""Weights of an ONNX export as 8-bit numbers that become floats when it is opened. For export.py.

model = with_int8_weights(model)    # a quarter of the size; arithmetic and speed stay those of float32
"""

import numpy as np
from onnx import ModelProto, NodeProto, helper, numpy_helper

from publishing.int8_rounding import attributes

SMALL = 1024  # weights of fewer numbers stay as they are
QUANTIZED = ("MatMul", "Gemm", "Conv", "Gather")  # the operators whose weights can become int8


def with_int8_weights(model: ModelProto) -> ModelProto:
    """A copy whose matrices, kernels and embeddings are 8-bit numbers and a float32 scale for each output."""
    copy = ModelProto()
    copy.CopyFrom(model)
    graph, kept, added = copy.graph, [], []
    users = {name: node for node in reversed(graph.node) for name in node.input}
    for tensor in graph.initializer:
        user, values = users.get(tensor.name), numpy_helper.to_array(tensor)
        matrix = values.ndim >= 2 and values.size >= SMALL and values.dtype == np.float32
        if not matrix or user is None or user.op_type not in QUANTIZED:
            kept.append(tensor)
            continue
        axis = axis_of_outputs(user)
        whole, scale = to_int8(values, axis)
        new = f"{tensor.name}.int8", f"{tensor.name}.scale"
        kept += [numpy_helper.from_array(whole, new[0]), numpy_helper.from_array(scale, new[1])]
        added.append(helper.make_node("DequantizeLinear", new, [tensor.name], axis=axis))
    nodes = [*added, *graph.node]
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(kept)
    graph.node.extend(nodes)
    return copy


def axis_of_outputs(node: NodeProto) -> int:
    """Of the weight of a MatMul, Gemm, Conv or Gather."""
    return 1 if node.op_type == "MatMul" or node.op_type == "Gemm" and not attributes(node).get("transB") else 0


def to_int8(values: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Whole numbers of -127..127 and the scale (N,) of each of the N places along the axis."""
    others = tuple(i for i in range(values.ndim) if i != axis)
    scale = np.maximum(np.abs(values).max(others, keepdims=True) / 127, np.float32(1e-12))
    return np.round(values / scale).astype(np.int8), scale.reshape(-1)
