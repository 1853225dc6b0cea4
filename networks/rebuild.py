"""A model for weights that are stored: what describes it may say what it likes, and takes no more than they do.

model = rebuild(lambda: ImageToTextModel(encoder(), **architecture), load_file("model.safetensors"))
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)
from transformers.initialization import no_init_weights

M = TypeVar("M", bound=nn.Module)
UNSTORED_PARTS = 100  # parameters and buffers that are made with a model and not stored: poolers, constants
UNSTORED_BYTES = 2**26  # of buffers that are made with a model and not stored
PARTS_A_TENSOR = 10  # modules there may be for each stored tensor: containers, activations, dropout
DRAWING = ("uniform_", "normal_", "erfinv_")  # methods of tensors


def rebuild(make: Callable[[], M], weights: dict[str, Tensor]) -> M:
    """What make() makes, with the weights in place of random numbers. Raises ValueError where they are not its own.

    It is made twice: first without memory, to be compared with the weights, then in earnest, as constants are computed.
    """
    check_described(make, weights)
    with without_random_numbers():
        model = make()
    model.load_state_dict(weights)
    return model


def check_described(make: Callable[[], nn.Module], weights: dict[str, Tensor]) -> None:
    """Raises ValueError unless what make() makes has tensors of just these names, shapes and kinds."""
    for name, tensor in weights.items():
        check_stored(name, tensor)
    with without_random_numbers(), torch.device("meta"), no_more_than(len(weights)):
        model = make()
    described = model.state_dict()
    for names, what in (
        (described.keys() - weights.keys(), "stored"),
        (weights.keys() - described.keys(), "described"),
    ):
        if names:
            raise ValueError(f"{min(names)} is not {what}, nor {len(names) - 1} others")
    for name, tensor in described.items():
        stored = weights[name]
        if tensor.shape != stored.shape or tensor.is_floating_point() != stored.is_floating_point():
            raise ValueError(f"{name} is described as {list(tensor.shape)} and stored as {list(stored.shape)}")
    if sum(buffer.nbytes for buffer in model.buffers()) > UNSTORED_BYTES + 4 * sum(t.nbytes for t in weights.values()):
        raise ValueError("its constants would take more memory than all that is stored")


def check_stored(name: str, tensor: Tensor) -> None:
    """Raises ValueError for a tensor that claims more numbers than the file holds, and for numbers that are none."""
    dense = tensor.layout is torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
    if not dense or end_of(tensor) > tensor.untyped_storage().nbytes():
        raise ValueError(f"{name} is stored in another way than train.py does")
    # the sum is quick; where it overflows, each number is looked at
    if tensor.is_floating_point() and not tensor.sum().isfinite() and not tensor.isfinite().all():
        raise ValueError(f"{name} holds numbers that are not finite (NaN or infinity)")


def end_of(tensor: Tensor) -> int:
    """Bytes of storage that it takes, if its numbers lie one after the other."""
    return int(tensor.storage_offset()) * tensor.element_size() + int(tensor.nbytes)


@contextlib.contextmanager
def without_random_numbers() -> Iterator[None]:
    """Within, weights are what memory holds: drawing them takes the most of making a model. timm draws them itself.

    What is drawn all the same leaves the random numbers outside alone.
    """
    for name in DRAWING:
        setattr(torch.Tensor, name, lambda tensor, *_, **__: tensor)  # before its base's own
    try:
        with no_init_weights(), torch.random.fork_rng(devices=[]):
            yield
    finally:
        for name in DRAWING:
            delattr(torch.Tensor, name)


@contextlib.contextmanager
def no_more_than(num_tensors: int) -> Iterator[None]:
    """Within, making modules ends with a ValueError where they become far more than so many stored tensors can fill."""
    made = {"tensors": 0, "modules": 0}

    def count(what: str, limit: int) -> Callable[..., None]:
        def hook(*_: object) -> None:
            made[what] += 1
            if made[what] > limit:
                raise ValueError(f"it has more {what} than the {num_tensors} stored tensors can fill")

        return hook

    tensors = count("tensors", 2 * num_tensors + UNSTORED_PARTS)
    handles = [
        register_module_parameter_registration_hook(tensors),
        register_module_buffer_registration_hook(tensors),
        register_module_module_registration_hook(count("modules", PARTS_A_TENSOR * (num_tensors + UNSTORED_PARTS))),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
