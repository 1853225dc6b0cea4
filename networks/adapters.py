"""Low-rank adapters (Hu et al. 2021, arXiv 2106.09685) in a language model, by peft.

targets = adapter_targets(lm, "gpt2", None)     # "c_attn": where peft puts them in models of this family
add_adapters(lm, rank=8, alpha=16, targets=targets)
"""

import warnings
from collections import Counter
from collections.abc import Set
from typing import Any

from basics.errors import UserError


def adapter_targets(lm: Any, name: str, wanted: str | None) -> str:
    """The modules with adapters by the ends of their names, parted by commas. Raises UserError where one has none."""
    from peft.utils.constants import (  # only here: most captioners need none
        TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING,
    )

    family = lm.config.model_type
    own = TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING.get(family)
    named = own if wanted is None else [part.strip() for part in wanted.split(",") if part.strip()]
    if not isinstance(named, list):
        raise UserError(f"peft knows no targets for {family} models such as {name!r}; name modules in LORA_TARGETS")
    modules = dict(lm.named_modules())
    uses = Counter(id(module.weight) for module in modules.values() if is_matrix(module))
    for target in named:
        found = [module for each, module in modules.items() if each == target or each.endswith(f".{target}")]
        if not any(getattr(module, "weight", None) is not None for module in found):
            there = sorted({each.rsplit(".", 1)[-1] for each, m in modules.items() if is_matrix(m)})
            raise UserError(f"LORA_TARGETS {target} is no layer of {name!r}, which has {', '.join(there)}")
        if any(is_matrix(module) and uses[id(module.weight)] > 1 for module in found):
            raise UserError(
                f"LORA_TARGETS {target} of {name!r} has its weight in common with another layer, which merging would "
                "change too; name others"
            )
    return ",".join(named)


def is_matrix(module: Any) -> bool:
    weight = getattr(module, "weight", None)
    return weight is not None and weight.ndim == 2


def merge_adapters(lm: Any) -> None:
    """Add what they do to the weights beside them, in float32, and take them away."""
    from peft.tuners.tuners_utils import BaseTunerLayer  # as above

    lm.float()  # frozen weights may be kept in 16 bits, which have no room for small changes
    for name, module in list(lm.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge()
            parent, _, last = name.rpartition(".")
            setattr(lm.get_submodule(parent), last, module.get_base_layer())


def add_adapters(lm: Any, rank: int, alpha: int, targets: str, without: Set[str] = frozenset()) -> None:
    """Put them beside the targeted layers, those aside whose parameters `without` names; at first they add nothing."""
    from peft import LoraConfig, inject_adapter_in_model  # as above

    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        target_modules=targets.split(","),
        exclude_modules=sorted({name.rpartition(".")[0] for name in without}) or None,
        lora_dropout=0.0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of GPT-2's layers, whose weights lie the other way round
        inject_adapter_in_model(config, lm)
