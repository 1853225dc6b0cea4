"""Parts of an ONNX export that multiply 8-bit numbers, calibrated on pictures: faster on CPUs with VNNI. For export.py.

    smaller, eight_bit = in_int8(models, batches, use)      # of float32 models; use(parts, pixels): how they are run

Convolutions and matrix products read whole numbers of 0..255, whose range is that seen on the pictures, and weights of
-127..127 with a scale for each output. Between convolutions numbers stay whole; all else is computed in float32.
onnxruntime knows the pairs of QuantizeLinear and DequantizeLinear that say so.
"""

from collections.abc import Callable

import numpy as np
from onnx import ModelProto, NodeProto, helper, numpy_helper

from captioner.exported_parts import PartFunction
from publishing.export_folder import say_phase
from publishing.int8_plan import Seen, plan_int8, run_model, watched
from publishing.int8_rounding import round_kernel
from publishing.int8_weights import to_int8, with_int8_weights

MOVED = 0.25  # of the root mean square of what the part gives that reads pixels: from there on it stays float32
Use = Callable[[dict[str, PartFunction], np.ndarray], object]  # runs parts on pixels (U, 3, H, W), as they are used


def in_int8(
    models: dict[str, ModelProto], batches: list[np.ndarray], use: Use
) -> tuple[dict[str, ModelProto], list[str]]:
    """The models with 8-bit weights, and the names of those that multiply 8-bit numbers; the first reads pixels."""
    if not batches:
        return {name: with_int8_weights(model) for name, model in models.items()}, []
    say_phase("calibrating", f"{sum(map(len, batches))} pictures")
    made, moved = calibrated(models, batches, use)
    first, *others = models
    if moved <= MOVED:  # and not NaN
        say_phase(f"8-bit {first}", f"its numbers move by {moved:.0%}")
        return made, [first, *others]
    say_phase(f"8-bit {first}", f"its numbers move by {moved:.0%}: too far, its weights alone are 8-bit")
    return {**made, first: with_int8_weights(models[first])}, others


def calibrated(
    models: dict[str, ModelProto], batches: list[np.ndarray], use: Use
) -> tuple[dict[str, ModelProto], float]:
    """The models multiplying 8-bit numbers, and how far the numbers of the first are moved.

    The last of the batches of pixels (U, 3, H, W) is not calibrated on, and tells how far that is.
    """
    *shown, last = batches
    seen = {name: Seen(plan_int8(model.graph)) for name, model in models.items()}
    parts = {name: watched(model, seen[name]) for name, model in models.items()}
    for pixels in shown:
        use(parts, pixels)
    made = {name: with_int8_arithmetic(model, seen[name]) for name, model in models.items()}
    first = next(iter(models))
    return made, distance(run_model(models[first])(last), run_model(made[first])(last))


def distance(expected: list[np.ndarray], found: list[np.ndarray]) -> float:
    """As a part of the root mean square of what is expected."""
    squares = [(np.square(one - other).sum(), np.square(one).sum()) for one, other in zip(expected, found, strict=True)]
    error, size = np.sum(squares, axis=0)
    return float(np.sqrt(error / size))


def with_int8_arithmetic(model: ModelProto, seen: Seen) -> ModelProto:
    """A copy; weights that are read by nothing in 8 bits, and small ones, stay float32."""
    part = EightBitPart(model, seen)
    for node in part.graph.node:
        part.add(node)
    return part.finished()


class EightBitPart:
    """A graph in the making: its nodes one after the other, and what they read in place of float32."""

    def __init__(self, model: ModelProto, seen: Seen):
        self.model = ModelProto()
        self.model.CopyFrom(model)
        self.graph, self.seen, self.plan = self.model.graph, seen, seen.plan
        self.floats = {tensor.name: tensor for tensor in self.graph.initializer}
        self.added: dict[str, np.ndarray] = {}  # values of new initializers
        self.weights: list[NodeProto] = []  # nodes that read initializers alone
        self.nodes: list[NodeProto] = []

    def add(self, node: NodeProto) -> None:
        output = node.output[0]
        if output in self.plan.convolutions:
            self.convolve(node)
        elif output in self.plan.products:
            self.multiply(node)
        elif node.op_type == "Gather" and node.input[0] in self.plan.embeddings:
            return self.look_up(node)
        elif output in self.plan.additions or node.op_type not in ("Clip", "Relu"):
            for place, name in enumerate(node.input):
                node.input[place] = self.whole(name)
        self.nodes.append(node)
        for name in node.output:
            if name in self.seen.high:
                self.make_whole(name)

    def whole(self, name: str) -> str:
        """What is read in place of a tensor of the plan."""
        return f"{name}.whole" if name in self.seen.high else name

    def scale_of(self, name: str) -> np.float32:
        return np.float32(max(self.seen.high[name] - self.seen.low[name], 1e-8) / 255)

    def make_whole(self, name: str) -> None:
        scale = self.scale_of(name)
        zero = np.uint8(np.clip(np.round(-self.seen.low[name] / scale), 0, 255))
        how = self.store(f"{name}.scale", scale), self.store(f"{name}.zero", zero)
        self.nodes += [
            helper.make_node("QuantizeLinear", [name, *how], [f"{name}.uint8"]),
            helper.make_node("DequantizeLinear", [f"{name}.uint8", *how], [f"{name}.whole"]),
        ]

    def store(self, name: str, values: np.ndarray | np.generic) -> str:
        self.added[name] = np.asarray(values)
        return name

    def convolve(self, node: NodeProto) -> None:
        """Biases are whole numbers of the product of both scales, as onnxruntime wants them."""
        inputs, weight, *bias = node.input
        kernel, step = numpy_helper.to_array(self.floats[weight]), self.scale_of(inputs)
        biases = numpy_helper.to_array(self.floats[bias[0]]) if bias else np.zeros(len(kernel), np.float32)
        scale = to_int8(kernel, axis=0)[1]
        scale = np.maximum(scale, np.abs(biases) / step / 2**30)  # where a kernel is all but nothing beside its bias
        moments = self.seen.moments.get(node.output[0])
        nearest = np.round(kernel / scale[:, None, None, None]).astype(np.int8)
        values = nearest if moments is None else round_kernel(kernel, moments, scale)
        whole = np.round(biases / (scale * step)).astype(np.int32)
        names = [
            self.float_again(f"{node.output[0]}.kernel", values, scale),
            self.float_again(f"{node.output[0]}.bias", whole, scale * step),
        ]
        node.input[:] = [self.whole(inputs), *names]

    def float_again(self, name: str, values: np.ndarray, scale: np.ndarray) -> str:
        """The name of whole numbers times their scales, one for each output."""
        pair = [self.store(name, values), self.store(f"{name}.scale", scale)]
        self.weights.append(helper.make_node("DequantizeLinear", pair, [f"{name}.float"], axis=0))
        return f"{name}.float"

    def multiply(self, node: NodeProto) -> None:
        """A bias stays float32."""
        weight, inputs = self.plan.products[node.output[0]], self.whole(node.input[0])
        as_it_is = node.op_type == "MatMul" and node.input[1] == weight
        values, scale = to_int8(numpy_helper.to_array(self.floats[weight]), axis=1 if as_it_is else 0)
        name = self.store(f"{weight}.int8", values)
        if not as_it_is:  # an embedding, or the weight of a layer: its rows are outputs
            self.weights.append(helper.make_node("Transpose", [name], [f"{name}.transposed"], perm=[1, 0]))
            name = f"{name}.transposed"
        pair = [name, self.store(f"{weight}.scale", scale)]
        self.weights.append(helper.make_node("DequantizeLinear", pair, [f"{name}.float"], axis=1))
        if node.op_type == "MatMul":
            node.input[:] = [inputs, f"{name}.float"]
            return
        product = f"{node.output[0]}.product"
        self.nodes.append(helper.make_node("MatMul", [inputs, f"{name}.float"], [product]))
        node.CopyFrom(helper.make_node("Add", [product, node.input[2]], node.output))

    def look_up(self, node: NodeProto) -> None:
        """Rows of whole numbers times their scales."""
        (weight, places), output = node.input, node.output[0]
        values, scale = to_int8(numpy_helper.to_array(self.floats[weight]), axis=0)
        tables = self.store(f"{weight}.int8", values), self.store(f"{weight}.rows", scale[:, None])
        rows, scales, floats = f"{output}.rows", f"{output}.scales", f"{output}.floats"
        self.nodes += [
            helper.make_node("Gather", [tables[0], places], [rows]),
            helper.make_node("Gather", [tables[1], places], [scales]),
            helper.make_node("Cast", [rows], [floats], to=1),
            helper.make_node("Mul", [floats, scales], [output]),
        ]

    def finished(self) -> ModelProto:
        nodes = [*self.weights, *self.nodes]
        read = {name for node in nodes for name in node.input} | {place.name for place in self.graph.output}
        nodes = [node for node in nodes if any(name in read for name in node.output)]  # no Transpose of floats
        read = {name for node in nodes for name in node.input}
        kept = [tensor for name, tensor in self.floats.items() if name in read]
        new = [numpy_helper.from_array(values, name) for name, values in self.added.items()]
        del self.graph.initializer[:], self.graph.node[:]
        self.graph.initializer.extend([*kept, *new])
        self.graph.node.extend(nodes)
        return self.model
