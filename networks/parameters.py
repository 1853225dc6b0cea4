"""Parameters as the optimizer takes them: by the part of the model they belong to, decayed or not."""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn


@dataclass
class ParameterGroup:
    """Trainable parameters that share a learning rate and a weight decay; part is "decoder" or "encoder"."""

    part: str
    decayed: bool
    parameters: list[nn.Parameter]


class TrainableModel(nn.Module):
    """A model that says itself which of its parameters train, and as which part."""

    def parameter_groups(self) -> list[ParameterGroup]:
        raise NotImplementedError


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
