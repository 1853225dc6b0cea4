"""Causal language models of transformers: read from a folder or the Hub, checked, and made again of what was stored.

config = read_language_config("openai-community/gpt2")      # config.json as text, without what says nothing
lm = load_language_model("openai-community/gpt2")           # with its weights, in float32
lm = make_language_model(config)                            # of that shape, its weights still to be loaded
"""

import json
from collections.abc import Set
from typing import Any

import torch
from transformers.initialization import no_init_weights

from basics.errors import UserError, first_line, reason_of
from basics.hub_files import check_reachable
from basics.stored import Number, check, numbers_in, parse_json
from networks.encoder import quiet_transformers

EXPECTED = "expected a Hub id that can be reached, or a folder of a causal language model (--decoder-model-name)"
LARGEST_NUMBER = 2**24  # in a stored config.json: more than any size, number of layers or token id
FORGOTTEN = ("_name_or_path", "architectures", "auto_map", "task_specific_params")  # say nothing of the model's shape


def make_language_model(config: str) -> Any:
    """The model that a config.json describes, its weights still to be loaded.

    Raises ValueError and what transformers raises.
    """
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM  # only here: most captioners need none

    values = parse_json(config, "decoder_config")
    check(values, {"model_type": str}, "decoder_config")
    check_whole_numbers(values)
    if values["model_type"] not in CONFIG_MAPPING:
        raise ValueError(f"transformers knows no {values['model_type']}")
    with quiet_transformers(), no_init_weights():
        made = CONFIG_MAPPING[values["model_type"]].from_dict(values)
        lm = AutoModelForCausalLM.from_config(made, dtype=torch.float32, trust_remote_code=False)
        lm.tie_weights()  # which it forgets where weights are not drawn
    return lm


def check_whole_numbers(value: Any) -> None:
    """Raises ValueError for numbers that no model has: they would become memory before anything is compared."""
    for place, number in numbers_in(value, "decoder_config"):
        if isinstance(number, int) and not place.endswith("theta"):  # of positions, which is no size
            check(number, Number(int, -LARGEST_NUMBER, LARGEST_NUMBER), place)


def read_language_config(name: str) -> str:
    """config.json of a causal language model, without what says nothing of its shape. Raises UserError."""
    from transformers import AutoConfig, DynamicCache  # as above
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    try:
        check_reachable(name)
        with quiet_transformers():
            config = AutoConfig.from_pretrained(name, trust_remote_code=False)
    except Exception as error:  # a wrong folder or file fails in as many ways as there are models
        raise UserError(f"cannot load the language model {name!r}: {first_line(error)} {EXPECTED}") from error
    known = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(config.model_type)
    masked = any(each.endswith("ForMaskedLM") for each in config.architectures or [])
    if not known or masked or getattr(config, "is_encoder_decoder", False):
        raise UserError(f"{name!r} is no causal language model but {config.model_type}; {EXPECTED}")
    layers = DynamicCache(config=config).layers
    if not all(hasattr(layer, "batch_select_indices") for layer in layers):
        raise UserError(f"{name!r} is a {config.model_type}, which keeps no keys and values of each token; {EXPECTED}")
    values = {key: value for key, value in config.to_diff_dict().items() if key not in FORGOTTEN}
    return json.dumps(values, sort_keys=True)


def load_language_model(name: str, added: Set[str] = frozenset(), **changes: bool) -> Any:
    """The model with its weights, in float32; changes are those of its config.json. Raises UserError.

    Parameters that `added` names may be missing: they are drawn.
    """
    from transformers import AutoModelForCausalLM  # as above

    try:
        with quiet_transformers():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                name, dtype=torch.float32, trust_remote_code=False, output_loading_info=True, **changes
            )
            lm, report = loaded
    except Exception as error:  # as above
        raise UserError(f"cannot load the language model {name!r}: {reason_of(error)} {EXPECTED}") from error
    if missing := sorted(set(report["missing_keys"]) - added):
        raise UserError(
            f"the weights of the language model {name!r} lack {len(missing)} tensors, {missing[0]} first: "
            "the file does not belong to its config.json"
        )
    if sees_ahead(lm):
        raise UserError(f"{name!r} is no causal language model: its tokens see those after them; {EXPECTED}")
    return lm


@torch.no_grad()
def sees_ahead(lm: Any) -> bool:
    """Whether the first token's prediction changes with the second token."""
    lm.eval()
    one, other = [lm(input_ids=torch.tensor([[0, token]]), use_cache=False).logits[0, 0] for token in (1, 2)]
    return not torch.allclose(one, other, atol=1e-4)
