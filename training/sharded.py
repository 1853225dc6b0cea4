"""FSDP2: a model whose weights, gradients and moments are split over processes, gathered block by block where used.

shard(model)                                        # in place; its parameters are DTensors from here on
whole(model.state_dict(), keep=is_main)             # plain tensors on the CPU, as other runs have them
shard_like(tensor, like=parameter)                  # and back

Zhao et al. 2023 (arXiv 2304.11277); https://docs.pytorch.org/docs/stable/distributed.fsdp.fully_shard.html
"""

import contextlib
import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.distributed import get_world_size, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from networks.parameters import TrainableModel


def shard(model: TrainableModel) -> TrainableModel:
    """Split each part that runs by itself, then what is left; what calls the model beside forward() gathers too."""
    # it holds for what changes a block's output in place, as nothing here does
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor")
    for parameter in model.parameters():  # FSDP2 takes no convolution that lies channels last
        parameter.data = parameter.data.contiguous()
    mesh = init_device_mesh(next(model.parameters()).device.type, (get_world_size(),))
    for part in [*model.parts_that_run_alone(), model]:
        # the outermost too: what stays gathered after validation would be trained on, whatever the average has changed
        fully_shard(part, mesh=mesh, reshard_after_forward=True)
    for name in model.entries:
        register_fsdp_forward_method(model, name)
    model.gathered = partial(gathered, model)  # type: ignore[method-assign]
    with model.gathered():  # what is gathered for the first time in inference mode never trains again
        return model


@contextlib.contextmanager
def gathered(model: TrainableModel) -> Iterator[None]:
    """Captions of different pictures take different numbers of steps, in which processes cannot wait for each other."""
    parts = [part for part in model.modules() if isinstance(part, FSDPModule)]
    for part in parts:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    try:
        yield
    finally:
        for part in parts:
            part.set_reshard_after_forward(True, recurse=False)
            part.reshard()


def whole(state: Any, keep: bool) -> Any:
    """The same dicts and lists with whole tensors for DTensors, on the CPU; empty ones where they are not kept."""
    if isinstance(state, DTensor):
        full = state.full_tensor()  # of all processes, one tensor at a time
        return full.cpu() if keep else torch.empty(0)
    if isinstance(state, dict):
        return {name: whole(value, keep) for name, value in state.items()}
    return [whole(value, keep) for value in state] if isinstance(state, list) else state


def shard_like(tensor: Tensor, like: Tensor) -> Tensor:
    """This process's part of a tensor that each has whole."""
    if not isinstance(like, DTensor):
        return tensor
    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
