"""Weights of convolutions rounded to 8 bits so that what they give changes least (GPTQ, arXiv:2210.17323).

    seen += second_moments(patches(node, inputs, kernel_shape))   # what each weight is multiplied with, over pictures
    whole = round_kernel(kernel, seen, scale)

Rounded to the nearest, a kernel whose weights sum to nearly 0 moves its outputs by the mean of its inputs; here each
weight's error goes into those that are rounded after it. Shapes: G groups, O outputs a group, I weights an output, N
places of a picture.
"""

import numpy as np
from onnx import NodeProto, helper

DAMPING = 0.03  # of the mean square of the inputs, added to each: few pictures are not to be trusted wholly
BLOCK = 64  # weights whose errors are passed on at once
PLACES = 150  # of an input picture's that are looked at


def attributes(node: NodeProto) -> dict:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def patches(node: NodeProto, inputs: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """What the kernel (G x O, C, height, width) of a convolution meets in inputs (U, G x C, H, W) -> (G, I, N)."""
    given, (height, width) = attributes(node), shape[2:]
    top, left, bottom, right = given.get("pads", (0, 0, 0, 0))
    down, across = given.get("strides", (1, 1))
    padded = np.pad(inputs, ((0, 0), (0, 0), (top, bottom), (left, right)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(2, 3))[:, :, ::down, ::across]
    rows, columns = windows.shape[2:4]
    some = np.random.default_rng(0).permutation(rows * columns)[:PLACES]
    seen = windows[:, :, some // columns, some % columns]  # (U, G x C, N, height, width)
    groups = given.get("group", 1)
    return seen.transpose(1, 3, 4, 0, 2).reshape(groups, shape[1] * height * width, -1)


def second_moments(seen: np.ndarray) -> np.ndarray:
    """(G, I, N) -> (G, I, I)."""
    return seen @ seen.transpose(0, 2, 1)


def round_kernel(kernel: np.ndarray, seen: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """A kernel (G x O, C, height, width) as whole numbers of its scale (G x O,), for moments (G, I, I)."""
    groups, width = seen.shape[:2]
    size = seen.diagonal(axis1=1, axis2=2).astype(np.float64)
    order = np.argsort(-size, axis=1)  # the largest inputs first: their errors are made good by most
    first, second = order[:, :, None], order[:, None, :]
    sorted_moments = seen.astype(np.float64)[np.arange(groups)[:, None, None], first, second]
    damping = np.maximum(DAMPING * size.mean(1), 1e-12)
    upper = np.linalg.cholesky(np.linalg.inv(sorted_moments + damping[:, None, None] * np.eye(width)))
    left = np.take_along_axis(kernel.reshape(groups, -1, width).astype(np.float64), second, 2)
    whole = round_in_order(left, upper.transpose(0, 2, 1), scale.reshape(groups, -1))
    result = np.empty_like(whole)
    np.put_along_axis(result, np.broadcast_to(second, whole.shape), whole, 2)
    return result.reshape(kernel.shape).astype(np.int8)


def round_in_order(left: np.ndarray, upper: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Weights (G, O, I), changed on the way, one after the other -> whole numbers of scale (G, O)."""
    width, whole = left.shape[2], np.empty_like(left)
    for start in range(0, width, BLOCK):
        end = min(start + BLOCK, width)
        errors = np.zeros((*left.shape[:2], end - start))
        for i in range(start, end):
            whole[:, :, i] = np.clip(np.round(left[:, :, i] / scale), -127, 127)
            error = (left[:, :, i] - whole[:, :, i] * scale) / upper[:, i, i, None]
            left[:, :, i:end] -= error[:, :, None] * upper[:, None, i, i:end]
            errors[:, :, i - start] = error
        left[:, :, end:] -= errors @ upper[:, start:end, end:]
    return whole
