"""Parameters as the optimizer takes them: by the part of the model they belong to, decayed or not."""

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from torch import nn

from basics.errors import UserError


@dataclass
class ParameterGroup:
    """Trainable parameters that share a learning rate and a weight decay.

    part is "encoder", or what reads it, "decoder" or "classifier": by these names groups are ordered in the optimizer,
    and the first one's learning rate is the one that is shown.
    """

    part: str
    decayed: bool
    parameters: list[nn.Parameter]


class TrainableModel(nn.Module):
    """A model that says itself which of its parameters train, and as which part; and how it may be sharded.

    entries: its methods beside forward() that others call; they and forward() do not call one another.
    """

    entries: tuple[str, ...] = ()

    def parameter_groups(self) -> list[ParameterGroup]:
        raise NotImplementedError

    def gathered(self) -> AbstractContextManager[None]:
        """Within, the weights are whole and stay so: each process may run it as often as it likes."""
        return nullcontext()

    def parts_that_run_alone(self) -> list[nn.Module]:
        """Modules whose parameters are used in their own forward() alone, large ones, the inner ones first."""
        return []


def count_parameters(model: nn.Module) -> int:
    """Numbers that a captioner consists of, without what only its training needs."""
    return sum(p.numel() for name, p in model.named_parameters() if not name.startswith("training_only."))


def parameter_groups(part: str, module: nn.Module) -> list[ParameterGroup]:
    """A module's trainable parameters, each once: matrices are decayed; biases, norms and embeddings are not."""
    groups = [ParameterGroup(part, decayed, []) for decayed in (False, True)]
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            groups[parameter.ndim >= 2 and "embedding" not in name].parameters.append(parameter)
    return groups


def merged(groups: Iterable[ParameterGroup]) -> list[ParameterGroup]:
    """One group for each part and decay that has parameters, always in the same order: checkpoints count on it."""
    found: dict[tuple[str, bool], ParameterGroup] = {}
    for group in groups:
        whole = found.setdefault((group.part, group.decayed), ParameterGroup(group.part, group.decayed, []))
        whole.parameters += group.parameters
    return [found[key] for key in sorted(found) if found[key].parameters]


def blocks_of(module: nn.Module) -> nn.ModuleList | nn.Sequential:
    """The list of blocks that holds most of the weights, from the first to the last."""
    stacks = [m for m in module.modules() if isinstance(m, (nn.ModuleList, nn.Sequential)) and len(m) > 1]
    return max(stacks, key=lambda stack: sum(p.numel() for p in stack.parameters()), default=nn.ModuleList())


def train_last_blocks(module: nn.Module, trainable: int | str, setting: str, what: str) -> None:
    """Tune "none", "all", or the last N blocks and what follows them (final norm). Raises UserError."""
    module.requires_grad_(trainable == "all")
    if isinstance(trainable, str):
        return
    blocks = blocks_of(module)
    if trainable > len(blocks):
        raise UserError(
            f"{setting} is {trainable}, but this {what} has {len(blocks)} blocks; "
            f'expected 1 to {len(blocks)}, "none" or "all"'
        )
    first = next(blocks[len(blocks) - trainable].parameters())
    reached = False
    for parameter in module.parameters():  # as they are defined: what comes after the block is nearer the output
        reached = reached or parameter is first
        parameter.requires_grad_(reached)
