"""A model that has learned all it will, made fast: the same results with less work.

    make_fast(model, torch.bfloat16, lambda: model.encode(pixels))  # in place; what it does not bear stays as it was

Batch norms become part of the convolutions before them, matrices are held in the precision that computes, so that
nothing is cast at each product, and on a CPU in the order in which its matrix products read them. What comes of it can
neither be trained nor saved.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

# how far results may move, as a share of their norm
CLOSE = {torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 1e-2}
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
    """In place; run() computes with the model and gives what must stay. dtype is float32 or that of autocast."""
    model.eval().requires_grad_(False)
    fold_batch_norms(model, run)
    if dtype == torch.bfloat16:  # float16 is too narrow for some encoders' own numbers
        hold_parameters(model, dtype, run)
    pack_products(model, run)


def fold_batch_norms(model: nn.Module, run: Run) -> None:
    """Each batch norm that reads what a convolution has just made becomes a part of that."""
    new: dict[str, nn.Module] = {}
    for conv_name, norm_name in norms_after_convolutions(model, run):
        conv, norm = model.get_submodule(conv_name), model.get_submodule(norm_name)
        assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
        new[conv_name] = fuse_conv_bn_eval(conv, norm)
        new[norm_name] = nn.Sequential(*(getattr(norm, part) for part in ("drop", "act") if hasattr(norm, part)))
    replace_modules(model, new, run)


def norms_after_convolutions(model: nn.Module, run: Run) -> list[tuple[str, str]]:
    """The names of each convolution and the batch norm that is given its very output, as one run shows it."""
    made: dict[int, tuple[str, Tensor]] = {}  # kept, as else another tensor may come to lie in the same place
    pairs, hooks = [], []
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):

            def remember(module: nn.Module, given: object, output: Tensor, name: str = name) -> None:
                made[id(output)] = (name, output)

            hooks.append(module.register_forward_hook(remember))
        elif isinstance(module, nn.BatchNorm2d):

            def look(module: nn.Module, given: tuple[Tensor, ...], name: str = name) -> None:
                if id(given[0]) in made:
                    pairs.append((made[id(given[0])][0], name))

            hooks.append(module.register_forward_pre_hook(look))
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return pairs


def hold_parameters(model: nn.Module, dtype: torch.dtype, run: Run) -> None:
    """All of them; tables that are none, such as the frequencies of rotary positions, are exact or nothing."""
    expected, exact = run(), [(parameter, parameter.data) for parameter in model.parameters()]
    for parameter, values in exact:
        parameter.data = values.to(dtype)
    if not gives(run, expected):
        for parameter, values in exact:
            parameter.data = values


def pack_products(model: nn.Module, run: Run) -> None:
    """On a CPU that PyTorch multiplies with oneDNN on."""
    if next(model.parameters()).device.type != "cpu" or not hasattr(torch.ops.mkldnn, "_reorder_linear_weight"):
        return
    exact = [(name, module) for name, module in model.named_modules() if type(module) is nn.Linear]
    try:
        new: dict[str, nn.Module] = {name: PackedLinear(linear) for name, linear in exact}
    except RuntimeError:  # of a CPU that oneDNN has no such products for
        return
    replace_modules(model, new, run)


def replace_modules(model: nn.Module, new: dict[str, nn.Module], run: Run) -> None:
    """New modules in the place of old, or the old again where the result is not the same: code may reach into them."""
    expected = run()
    old = {name: model.get_submodule(name) for name in new}
    set_modules(model, new)
    if not gives(run, expected):
        set_modules(model, old)


def gives(run: Run, expected: Tensor) -> bool:
    """Whether run() goes through and comes close to what is expected."""
    try:
        found = run()
    except (AttributeError, RuntimeError, TypeError):
        return False
    return bool((found.float() - expected.float()).norm() <= CLOSE[found.dtype] * expected.float().norm())


def set_modules(model: nn.Module, modules: dict[str, nn.Module]) -> None:
    for name, module in modules.items():
        model.set_submodule(name, module)
