"""A model that has learned all it will, made fast: the same results with less work.

    make_fast(model, torch.bfloat16, lambda: model.encode(pixels))  # in place; what it does not bear stays as it was

Batch norms become part of the convolutions before them, matrices are held in the precision that computes, so that
nothing is cast at each product, and on a CPU in the order in which its matrix products read them. What comes of it can
neither be trained nor saved.
"""

from collections import Counter
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from basics.devices import autocast
from basics.memory import machine_memory
from networks.hooks import ActivationHooks

CLOSE = {torch.float32: 1e-3, torch.bfloat16: 0.1}  # how far results may move, as a share of their norm
ROWS = 2048  # of the matrices that a product is laid out for; a few or many more are as fast
Run = Callable[[], Tensor]


class PackedLinear(nn.Module):
    """nn.Linear whose weight lies in the blocks of oneDNN's products, as PyTorch's own compiler lays them out.

    `weight` says its shape and dtype and holds nothing.
    """

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), ROWS)
        self.weight, self.bias = nn.Parameter(linear.weight.to("meta"), requires_grad=False), linear.bias

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.weight.dtype)
        return torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")


@torch.inference_mode()
def make_fast(model: nn.Module, dtype: torch.dtype, run: Run) -> None:
    """In place; run() computes with the model and gives what must stay. dtype is float32 or that of autocast.

    Models that this machine has no memory for four times over stay as they are: each step has old and new at once.
    """
    model.eval().requires_grad_(False)
    device = next(model.parameters()).device
    memory = machine_memory()
    if memory and 4 * sum(p.numel() * p.element_size() for p in model.parameters()) > memory:
        return
    with torch.autocast(device.type, enabled=False):
        result = fold_batch_norms(model, run)
    if dtype == torch.float16:  # too narrow for some encoders' own numbers: weights stay float32, and are cast
        return

    def run_in_precision() -> Tensor:
        with autocast(device, dtype):
            return run()

    if dtype == torch.bfloat16:
        result = run_in_precision()
        hold_parameters(model, dtype, run_in_precision, result)
    pack_products(model, dtype, run_in_precision, result)


def fold_batch_norms(model: nn.Module, run: Run) -> Tensor:
    """Each batch norm that reads what a convolution has just made becomes a part of that -> what run() gave."""
    new: dict[str, nn.Module] = {}
    norm_of, result = norms_after_convolutions(model, run)
    for conv_name, norm_name in norm_of.items():
        conv, norm = model.get_submodule(conv_name), model.get_submodule(norm_name)
        assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
        new[conv_name] = fuse_conv_bn_eval(conv, norm)
        new[norm_name] = nn.Sequential(*(getattr(norm, part) for part in ("drop", "act") if hasattr(norm, part)))
    replace_modules(model, new, run, result, torch.float32)
    return result


def norms_after_convolutions(model: nn.Module, run: Run) -> tuple[dict[str, str], Tensor]:
    """Of each convolution the batch norm that alone is given its very output, by name -> those, and what run() gave."""
    modules = dict(model.named_modules())
    convolutions = [name for name, module in modules.items() if isinstance(module, nn.Conv2d)]
    norms = {name: module for name, module in modules.items() if isinstance(module, nn.BatchNorm2d)}
    given: dict[str, Tensor] = {}
    handles = [
        norm.register_forward_pre_hook(partial(keep_input, given, name))
        for name, norm in norms.items()
        if norm.running_mean is not None
    ]
    try:
        with ActivationHooks(model, convolutions) as made:
            result = run()
            maker = {id(output): name for name, output in made.items()}
    finally:
        for handle in handles:
            handle.remove()
    makers = {norm: maker[id(x)] for norm, x in given.items() if id(x) in maker}
    norms_of = Counter(makers.values())
    return {conv: norm for norm, conv in makers.items() if norms_of[conv] == 1}, result


def keep_input(given: dict[str, Tensor], name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    given[name] = inputs[0]


def hold_parameters(model: nn.Module, dtype: torch.dtype, run: Run, result: Tensor) -> None:
    """All of them, or, where code before a norm makes float32 that the norm then wants too, matrices alone.

    Tables that are no parameters, such as the frequencies of rotary positions, are exact or nothing.
    """
    exact = [(parameter, parameter.data) for parameter in model.parameters()]
    for least in (1, 2):  # dimensions
        for parameter, values in exact:
            parameter.data = values.to(dtype) if values.ndim >= least else values
        if gives(run, result, dtype):
            return
    for parameter, values in exact:
        parameter.data = values


def pack_products(model: nn.Module, dtype: torch.dtype, run: Run, result: Tensor) -> None:
    """On a CPU that PyTorch multiplies with oneDNN on; not what is in two places, such as an embedding's matrix."""
    if next(model.parameters()).device.type != "cpu" or not hasattr(torch.ops.mkldnn, "_reorder_linear_weight"):
        return
    places = Counter(id(parameter) for module in model.modules() for parameter in module.parameters(recurse=False))
    linears = {
        name: module
        for name, module in model.named_modules()
        if type(module) is nn.Linear and module.weight.dtype == dtype and places[id(module.weight)] == 1
    }
    try:
        new: dict[str, nn.Module] = {name: PackedLinear(linear) for name, linear in linears.items()}
    except RuntimeError:  # of a CPU that oneDNN has no such products for
        return
    replace_modules(model, new, run, result, dtype)


def replace_modules(model: nn.Module, new: dict[str, nn.Module], run: Run, result: Tensor, dtype: torch.dtype) -> None:
    """By name, or the old again where the result is not the same: code may reach into them."""
    if not new:
        return
    old = {name: model.get_submodule(name) for name in new}
    set_modules(model, new)
    if not gives(run, result, dtype):
        set_modules(model, old)


def gives(run: Run, result: Tensor, dtype: torch.dtype) -> bool:
    """Whether run() goes through and comes close to the result, computed in dtype."""
    try:
        found = run()
    except Exception:  # models complain of what they do not know in as many ways as there are models
        return False
    return bool((found.float() - result.float()).norm() <= CLOSE[dtype] * result.float().norm())


def set_modules(model: nn.Module, modules: dict[str, nn.Module]) -> None:
    for name, module in modules.items():
        model.set_submodule(name, module)
